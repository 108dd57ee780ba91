"""Refining an inversion: gradient steps on its weight offsets, latents fixed (PTI's idea, on
HyperStyle's offsets).

All maths but the optimiser's is in the bundle's graphs: `refine` gives the loss and its gradient by
the convolutions' weights, an adjoint graph takes that back to what is changed. Adam runs here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ..backends.protocol import Backend, Buffers
from ..errors import HyperStyleError, InversionError
from ..formats.manifest import BASE_PRECISION, Manifest
from ..imaging.pictures import to_input
from ..inversion import Inversion
from ..rendering import Renderer, base_inputs
from ..types import Array, Picture

Space = Literal["channels", "codes"]
"""What is changed: free offsets, one for each pair of channels; or the offset codes."""

DEFAULT_STEPS = 60
MAX_STEPS = 100_000

# Adam's rates at the start; they fall to nothing along half a cosine.
CHANNELS_RATE = 0.3  # over the root of a layer's input channels: a step's effect is then the same
CODES_RATE = 0.03  # of the codes' root mean square
WARM_UP = 5  # steps
MOMENTS = (0.9, 0.99)
TINY = 1e-12

PENALTY = 1e-4  # on the mean square of what was added, in units of the rates squared

SETTLED_OVER = 10  # steps over which an improvement is looked for

OnStep = Callable[[int, float, Array], None]
"""Called with (steps done, loss, image float32 [3,H,W]) of the state after so many steps."""


@dataclass(frozen=True)
class Limits:
    """When to stop: whichever comes first.

    Attributes
    ----------
    steps:
        At most so many gradient steps.
    seconds:
        No step is begun after so long; None for any time.
    until:
        Stop when the loss has fallen by less than this fraction of itself over the last
        :data:`SETTLED_OVER` steps; None for never.

    Raises
    ------
    HyperStyleError
        On construction, if one of them is senseless.
    """

    steps: int = DEFAULT_STEPS
    seconds: float | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.steps <= MAX_STEPS:
            raise HyperStyleError(f"steps must be from 0 to {MAX_STEPS}, not {self.steps}")
        if self.seconds is not None and not self.seconds >= 0:
            raise HyperStyleError(f"seconds must be a number of at least 0, not {self.seconds}")
        if self.until is not None and not self.until >= 0:
            raise HyperStyleError(f"until must be a number of at least 0, not {self.until}")

    def progress(self, steps: int, seconds: float) -> float:
        """How much of what is allowed is used up: 0 at the start, 1 at the end."""
        used = steps / self.steps if self.steps else 1.0
        if self.seconds is not None:
            used = max(used, seconds / self.seconds if self.seconds else 1.0)
        return min(used, 1.0)

    def settled(self, losses: list[float]) -> bool:
        """Whether the loss no longer falls enough."""
        if self.until is None or len(losses) <= SETTLED_OVER:
            return False
        before, now = losses[-1 - SETTLED_OVER], losses[-1]
        return before - now < self.until * before


class Adam:
    """Adam (Kingma and Ba 2015) on one array.

    Parameters
    ----------
    rates:
        float32, broadcast to the array: how far a step moves each of its numbers at most.
    """

    def __init__(self, rates: Array) -> None:
        self._rates = rates
        self._mean: Array | float = 0.0
        self._square: Array | float = 0.0
        self._count = 0

    def step(self, gradient: Array, factor: float) -> Array:
        """What to add to the array: for its gradient, with all rates times `factor`."""
        first, second = MOMENTS
        self._count += 1
        self._mean = first * self._mean + (1 - first) * gradient
        self._square = second * self._square + (1 - second) * gradient * gradient
        mean = self._mean / (1 - first**self._count)
        square = self._square / (1 - second**self._count)
        return np.asarray(-factor * self._rates * mean / (np.sqrt(square) + TINY), np.float32)


class Weights(Protocol):
    """One way from a state to the weights, and from the weights' gradients back."""

    @property
    def start(self) -> Array:
        """The state to begin with."""
        ...

    @property
    def rates(self) -> Array:
        """Adam's rates, of the state's shape or broadcast to it."""
        ...

    def forward(self, state: Array) -> Buffers:
        """weight.<layer> of all tuned layers."""
        ...

    def backward(self, gradients: Buffers) -> Array:
        """gradient.<layer> -> the derivative by the state."""
        ...

    def result(self, inversion: Inversion, state: Array) -> Inversion:
        """The inversion with this state."""
        ...


class ChannelWeights:
    """Free offsets, one per pair of output and input channel, added to those of the codes."""

    def __init__(self, inversion: Inversion, manifest: Manifest, backend: Backend) -> None:
        self._backend, self._renderer = backend, Renderer(manifest, backend)
        codes = inversion.codes[None]
        self._tuned = self._renderer.weights(backend.upload(codes))
        self._base = self._renderer.weights(backend.upload(np.zeros_like(codes)))
        shapes = [layer.shape for layer in manifest.tuned_layers]
        rates = [np.full(o * i, CHANNELS_RATE / math.sqrt(i), np.float32) for o, i, _, _ in shapes]
        self.rates = np.concatenate(rates)
        before = inversion.channels
        self.start = np.zeros_like(self.rates) if before is None else before

    def forward(self, state: Array) -> Buffers:
        """See :class:`Weights`."""
        return self._renderer.with_channels(self._tuned, self._base, self._backend.upload(state))

    def backward(self, gradients: Buffers) -> Array:
        """See :class:`Weights`."""
        inputs = {**gradients, **base_inputs(self._base)}
        made = self._backend.run("channels_adjoint", inputs)
        return self._backend.download(made["channels_gradient"])

    def result(self, inversion: Inversion, state: Array) -> Inversion:
        """See :class:`Weights`."""
        return replace(inversion, data=replace(inversion.data, channels=_to_half(state)))


class CodeWeights:
    """The offset codes; the column that counts iterations stays as it is."""

    def __init__(self, inversion: Inversion, manifest: Manifest, backend: Backend) -> None:
        self._backend, self._renderer = backend, Renderer(manifest, backend)
        self._channels = inversion.channels
        self.start = inversion.codes
        moved = self.start[:, :-1]
        size = float(np.sqrt(np.square(moved, dtype=np.float64).mean())) or 1.0
        self.rates = np.full_like(self.start, CODES_RATE * size)
        self.rates[:, -1] = 0

    def forward(self, state: Array) -> Buffers:
        """See :class:`Weights`."""
        return self._renderer.face(state, self._channels)

    def backward(self, gradients: Buffers) -> Array:
        """See :class:`Weights`."""
        made = self._backend.run("weights_adjoint", gradients)
        gradient: Array = self._backend.download(made["codes_gradient"])[0]
        return gradient

    def result(self, inversion: Inversion, state: Array) -> Inversion:
        """See :class:`Weights`."""
        return replace(inversion, data=replace(inversion.data, codes=state))


WEIGHTS: dict[str, Callable[[Inversion, Manifest, Backend], Weights]] = {
    "channels": ChannelWeights,
    "codes": CodeWeights,
}


def refine(
    inversion: Inversion,
    picture: Picture,
    manifest: Manifest,
    backend: Backend,
    limits: Limits,
    space: str = "channels",
    on_step: OnStep | None = None,
) -> Inversion:
    """Change the offsets of an inversion so that it renders a picture more closely.

    Parameters
    ----------
    inversion:
        Of this bundle; refined before or not.
    picture:
        uint8 [H,W,3], what was inverted.
    space:
        One of :data:`Space`.
    on_step:
        Called before the first step and after every one.

    Returns
    -------
    An inversion without its picture.

    Raises
    ------
    HyperStyleError
        If there is no such space, the inversion's styles are edited, the backend computes in
        another precision than fp32, or the bundle was built without the graphs.
    """
    if space not in WEIGHTS:
        raise HyperStyleError(f"there is no space {space!r}; choose {' or '.join(get_args(Space))}")
    if inversion.styles is not None:
        raise InversionError("styles are edited; refine the inversion before the edit")
    if backend.precision != BASE_PRECISION:
        raise HyperStyleError(
            f"gradients need {BASE_PRECISION}, not {backend.precision}; open the bundle with "
            f"--precision {BASE_PRECISION} to refine"
        )
    Renderer(manifest, backend).require_refinement()
    weights = WEIGHTS[space](inversion, manifest, backend)
    loss_of = _Loss(inversion, picture, manifest, backend)
    state = _descend(weights, loss_of, limits, on_step)
    return weights.result(inversion, state)


def _descend(weights: Weights, loss_of: _Loss, limits: Limits, on_step: OnStep | None) -> Array:
    """The state after the last step."""
    adam = Adam(weights.rates)
    state, losses = weights.start.copy(), []
    began = time.monotonic()
    for done in range(limits.steps + 1):
        made = loss_of(weights.forward(state))
        losses.append(made.loss)
        if on_step is not None:
            on_step(done, made.loss, made.image())
        used = limits.progress(done, time.monotonic() - began)
        if used >= 1 or limits.settled(losses):
            break
        gradient = weights.backward(made.gradients) + _penalty(weights, state)
        factor = min(1.0, (done + 1) / WARM_UP) * (1 + math.cos(math.pi * used)) / 2
        state = state + adam.step(gradient, factor)
    return state


def _penalty(weights: Weights, state: Array) -> Array:
    """Derivative of the penalty on what was added to the state."""
    added = state - weights.start  # nothing where the rate is none
    scale = np.maximum(weights.rates, np.float32(TINY))
    return np.asarray(2 * PENALTY / state.size * added / np.square(scale), np.float32)


@dataclass(frozen=True)
class _Made:
    """What one run of `refine` gave."""

    loss: float
    gradients: Buffers
    image: Callable[[], Array]


class _Loss:
    """The `refine` graph on one picture."""

    def __init__(
        self, inversion: Inversion, picture: Picture, manifest: Manifest, backend: Backend
    ) -> None:
        small = to_input(picture, manifest.input_size)
        self._backend = backend
        self._fixed: dict[str, Any] = {
            "latents": backend.upload(inversion.latents[None]),
            "target": backend.upload(to_input(picture, manifest.image_size)),
            **backend.run("features", {"target": backend.upload(small)}),
        }

    def __call__(self, weights: Buffers) -> _Made:
        download = self._backend.download
        made = self._backend.run("refine", {**self._fixed, **weights})
        image = made.pop("image")
        return _Made(float(download(made.pop("loss"))[0]), made, lambda: download(image)[0])


def _to_half(state: Array) -> NDArray[np.float16]:
    """As an inversion file holds it; offsets are small, but no file may hold an infinity."""
    largest = np.finfo(np.float16).max
    return np.clip(state, -largest, largest).astype(np.float16)
