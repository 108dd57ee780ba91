"""What every backend offers: graphs by role, on tensors that stay where the backend keeps them.

A backend knows no method: it runs one graph at a time, and its caller chains them. Tensors
are bound by name. Three abilities are optional: to record a chain of calls once and replay it (CUDA
graphs), to copy a tensor to the host while the device works on, and to let go of graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..formats.manifest import BASE_PRECISION
from ..types import Array

Buffers = dict[str, Any]
"""Tensor name -> a tensor where the backend keeps it."""

GPU_BATCH = 8
"""Latents that a GPU renders at once; what the TensorRT plans of a `generator` are built for."""


@dataclass(frozen=True)
class TensorSpec:
    """What a graph says of one of its tensors.

    Attributes
    ----------
    shape:
        None for an axis of any length, which is the batch.
    dtype:
        Type of its elements.
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a graph by name, in the order of the graph."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


class Backend(Protocol):
    """Runs the graphs of one bundle by role."""

    @property
    def name(self) -> str:
        """Its name in the registry: ``cpu``."""
        ...

    @property
    def provider(self) -> str:
        """What really runs the graphs, for people: ``ONNX Runtime 1.32.0 CPUExecutionProvider``."""
        ...

    @property
    def precision(self) -> str:
        """Type that is really computed in: ``fp32``, ``fp16``, ``bf16``."""
        ...

    @property
    def graph_precision(self) -> str:
        """Of the graphs that are run; a CPU may compute fp16 graphs in fp32."""
        ...

    @property
    def largest_batch(self) -> int:
        """How many latents are worth rendering at once."""
        ...

    def signature(self, role: str) -> Signature:
        """Inputs and outputs of a graph; opens it if it is not open.

        Raises
        ------
        BundleError
            If the bundle lacks the graph, or a file of it is altered.
        BackendError
            If the backend cannot load it, or is closed.
        """
        ...

    def run(self, role: str, inputs: Mapping[str, Any]) -> Buffers:
        """Run a graph on buffers of this backend; gives all its outputs by name.

        Names, shapes and types are compared with the signature first.

        Raises
        ------
        BundleError
            As :meth:`signature`.
        BackendError
            If an input is missing, unknown, or of another shape or type than the graph's; if the
            graph fails; if the backend is closed.
        """
        ...

    def upload(self, array: Any) -> Any:
        """Copy an array into a float32 buffer.

        numpy arrays everywhere; on a GPU arrays of other libraries there, too, where the backend
        says so.
        """
        ...

    def download(self, buffer: Any) -> Array:
        """Wait for a buffer, and copy it into a float32 array of its own."""
        ...

    def share(self, buffer: Any) -> Any:
        """Wait for a buffer, and give it as an array that other libraries read where it lies.

        numpy on the CPU; on a GPU something with ``__dlpack__`` or ``__cuda_array_interface__``.
        """
        ...

    def for_session(self) -> Backend:
        """Give a backend for one thread: itself where several threads may call it at a time.

        Else another view of the same graphs, with memory and a stream of its own, which the caller
        closes.
        """
        ...

    def close(self) -> None:
        """Give back the memory; further use raises BackendError, to close again does nothing."""
        ...


def asked_precision(backend: Backend) -> str:
    """The precision that a backend was opened in: a CPU may compute fp16 graphs in fp32."""
    if backend.graph_precision != BASE_PRECISION:
        return backend.graph_precision
    return backend.precision


class Recording(Protocol):
    """A chain of calls that was recorded once."""

    def replay(self, inputs: Buffers) -> Buffers:
        """Do the same work on other inputs of the same names, shapes and types.

        Returns
        -------
        What the work returned. The buffers are the recording's own: the next replay writes to them.
        """
        ...

    def release(self) -> None:
        """Give its memory back; neither it nor its results may be used after this."""
        ...


@runtime_checkable
class RecordingBackend(Backend, Protocol):
    """A backend that replays a chain of graphs faster than it runs them one by one."""

    def record(self, work: Callable[[Buffers], Buffers], inputs: Buffers) -> Recording:
        """Record what `work` does with copies of `inputs`.

        `work` is called twice: once to open graphs and reserve memory, once to be recorded. It may
        only run graphs: no upload, download or sharing, and nothing may depend on values. What it
        returns may be inputs or results.
        """
        ...


@runtime_checkable
class SparingBackend(Backend, Protocol):
    """A backend that gives back the memory of graphs, and opens them again soon enough."""

    def let_go(self, roles: Iterable[str]) -> None:
        """Give back the memory of graphs that are not run for a while.

        Those that take little may stay open. A graph that is run after all is opened again. A
        buffer that a graph has given may keep its memory for as long as it is kept itself:
        :func:`in_own_memory`.

        Raises
        ------
        BackendError
            If the backend is closed, or in a forked child.
        """
        ...


def in_own_memory(backend: Backend, buffers: Buffers) -> Buffers:
    """Float32 buffers that stay while graphs come and go, where they keep no graph's memory.

    Graphs share memory, and it can be given back in large pieces only: a buffer as a graph has
    made it may hold on to a gigabyte.
    """
    if not isinstance(backend, SparingBackend):
        return buffers
    return {name: backend.upload(backend.download(each)) for name, each in buffers.items()}


@runtime_checkable
class OverlappingBackend(Backend, Protocol):
    """A backend that copies to the host while the device computes."""

    def start_reading(self, buffer: Any) -> Any:
        """Queue a copy to the host; to be finished before the next is started."""
        ...

    def finish_reading(self, reading: Any) -> Array:
        """Wait for that copy, not for what was queued after it; gives a float32 array."""
        ...
