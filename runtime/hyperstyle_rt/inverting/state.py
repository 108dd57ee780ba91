"""The named tensors that the phases of a method read and write.

A graph's inputs are bound by name from the state and its outputs replace the state. ONNX cannot
give an input and an output one name, so an output ``codes_next`` replaces the state ``codes``. What
is rendered of latents and codes is stale once either is replaced, and rendered anew when read.
"""

from __future__ import annotations

from typing import Any

from ..backends.protocol import Backend, Buffers, TensorSpec
from ..errors import BundleError
from ..rendering import CODES, LATENTS, RECONSTRUCTION, RENDERING, Renderer

TARGET = "target"
NEXT = "_next"

RENDERED = (RENDERING, RECONSTRUCTION)

Size = tuple[int, int]
"""(height, width)."""


class State:
    """The tensors of one inversion by name, as buffers of a backend.

    ======================== ============== ===========================================
    name                     shape          starts as
    ======================== ============== ===========================================
    target                   [1,3,h,w]      the picture, in the size a graph asks for
    latents                  [1,L,W]        the bundle's average
    codes                    [1,M,K+1]      zero
    rendering                [1,3,H,W]      rendered from latents and codes when read
    reconstruction           [1,3,h,w]      rendered with it
    any other                               what an earlier phase put there
    ======================== ============== ===========================================

    Latents and codes may start as those of another inversion.

    Parameters
    ----------
    start:
        The first tensors; targets under :func:`sized_target`.
    has_codes:
        Whether the method has codes; else they are zeros that kernels are expanded from.
    codes_are_zero:
        Whether the codes of `start` are, so that the generator's own kernels do.
    """

    def __init__(
        self,
        renderer: Renderer,
        backend: Backend,
        start: Buffers,
        has_codes: bool,
        codes_are_zero: bool = True,
    ) -> None:
        self._renderer = renderer
        self._backend = backend
        self._tensors = dict(start)
        self.has_codes = has_codes
        self._codes_are_zero = codes_are_zero

    def __getitem__(self, name: str) -> Any:
        """Give a tensor; KeyError if no phase has put it there."""
        if name in RENDERED and name not in self._tensors:
            self._render()
        return self._tensors[name]

    @property
    def codes(self) -> Any | None:
        """The codes [1,M,K+1]; None where the method has none."""
        return self._tensors.get(CODES) if self.has_codes else None

    @property
    def names(self) -> set[str]:
        """Names of all tensors but the targets and the codes of a method without codes."""
        names = {name for name in self._tensors if not name.startswith(f"{TARGET} ")}
        return names | set(RENDERED) if self.has_codes else (names | set(RENDERED)) - {CODES}

    def run(self, graph: str) -> Buffers:
        """Run a graph on the state, which stays as it is; gives the graph's outputs.

        Raises
        ------
        BundleError
            If the graph reads a tensor that is not there.
        """
        inputs = self._backend.signature(graph).inputs
        feeds = {name: self._read(graph, name, spec) for name, spec in inputs.items()}
        return self._backend.run(graph, feeds)

    def replace(self, outputs: Buffers) -> None:
        """Let the outputs of a graph replace the state."""
        written = {state_name(name): buffer for name, buffer in outputs.items()}
        if LATENTS in written or CODES in written:
            for name in RENDERED:
                self._tensors.pop(name, None)
        if CODES in written:
            self._codes_are_zero = False
        self._tensors |= written

    def _read(self, graph: str, name: str, spec: TensorSpec) -> Any:
        key = sized_target(size_of(spec)) if name == TARGET else name
        try:
            return self[key]
        except KeyError:
            raise BundleError(
                f"the graph {graph!r} reads the tensor {name!r}, which no phase before it has "
                "given; build the bundle again"
            ) from None

    def _render(self) -> None:
        codes = self._tensors.get(CODES)
        kernels = (
            self._renderer.base_kernels(codes)
            if self._codes_are_zero
            else self._renderer.expand(codes)
        )
        rendered = self._renderer.render(self._tensors[LATENTS], kernels)
        self._tensors = rendered | self._tensors  # what a phase has given itself stays


def state_name(output: str) -> str:
    """Name of the state that a graph's output replaces."""
    return output.removesuffix(NEXT)


def sized_target(size: Size) -> str:
    """Name under which a state holds the target in one size."""
    return f"{TARGET} {size[0]}x{size[1]}"


def size_of(spec: TensorSpec) -> Size:
    """(height, width) that a graph asks of a picture.

    Raises
    ------
    BundleError
        If it fixes none.
    """
    height, width = spec.shape[-2:]
    if height is None or width is None:
        raise BundleError(
            "a graph of the bundle takes pictures of any size, so none can be made for it; build "
            "the bundle again"
        )
    return height, width
