"""Backends: what runs a bundle's graphs. A host chains them without copying tensors to itself."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from ..errors import BackendError
from ..types import Array

logger = logging.getLogger(__name__)

Buffers = dict[str, Any]
"""Tensor name -> a tensor where the backend keeps it."""


GPU_BATCH = 8
"""Latents that a GPU renders at once; what the generator's TensorRT plans are built for."""


class Backend(Protocol):
    """Runs graphs by role. Tensors are bound by name and stay where the backend keeps them."""

    @property
    def provider(self) -> str:
        """What really runs the graphs, for people: ``ONNX Runtime CPUExecutionProvider``."""
        ...

    @property
    def precision(self) -> str:
        """Precision of the graphs that are run: ``fp32``, ``fp16``."""
        ...

    @property
    def largest_batch(self) -> int:
        """How many latents are worth rendering at once."""
        ...

    def run(self, role: str, inputs: Mapping[str, Any]) -> Buffers:
        """Run a graph on buffers of this backend; gives all its outputs by name."""
        ...

    def upload(self, array: Array) -> Any:
        """Copy a float32 array to where the backend keeps tensors."""
        ...

    def download(self, buffer: Any) -> Array:
        """Copy a buffer into a float32 array of its own."""
        ...


@dataclass(frozen=True)
class LoopBuffers:
    """What an inversion leaves on the device: latents, accumulated codes, the last image.

    ``iterations`` is how many were done.
    """

    latents: Any
    codes: Any
    image: Any
    iterations: int


@runtime_checkable
class LoopingBackend(Backend, Protocol):
    """A backend that runs a whole inversion faster than its graphs one by one."""

    def run_loop(
        self, image: Any, codes: Any, iterations: int, until: float | None = None
    ) -> LoopBuffers:
        """Encoder, then at most the given number of iterations, from codes of zero.

        `until` stops it earlier, as in :meth:`Model.invert`.
        """
        ...


def refuse_optional_inputs(role: str, inputs: Mapping[str, Any], of_plan: Collection[str]) -> None:
    """Refuse inputs that a plan does not have: TensorRT has built their default values in.

    Raises
    ------
    BackendError
        If there are some.
    """
    if unknown := inputs.keys() - set(of_plan):
        raise BackendError(
            f"a TensorRT plan of the {role} cannot be fed {', '.join(sorted(unknown))}; use "
            "--backend cuda or cpu for this"
        )
