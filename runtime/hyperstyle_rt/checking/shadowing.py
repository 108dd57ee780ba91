"""A backend that is watched: another one runs every graph on the same inputs.

Whatever runs on the watched backend, a method or anything else, is compared graph by graph; the
comparison need not know what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.protocol import Backend, Buffers, Signature, TensorSpec
from ..types import Array

OnGraph = Callable[[str, str, Array, Array], None]
"""Called with (role, output, expected, actual) after every graph."""


@dataclass(frozen=True)
class _Pair:
    """A tensor of the watched backend, and what the shadow has computed in its place, if it has."""

    expected: Any
    actual: Any = None


class ShadowedBackend:
    """Gives what the watched backend gives; the shadow's results are only compared.

    The shadow is fed the watched backend's tensors, so that a fault shows where it is. What the two
    hold in different types is an exception: kernels of fp16 graphs are divided by a constant per
    output channel, which their generator takes into account. Each backend is fed its own kernels;
    they are multiplied by the constant for the comparison.

    Parameters
    ----------
    watched, shadow:
        Both open; they stay the caller's to close.
    on_graph:
        Called after every graph, for each of its outputs.
    scales:
        The constants: name of a tensor -> [O,1,1,1].
    """

    def __init__(
        self,
        watched: Backend,
        shadow: Backend,
        on_graph: OnGraph,
        scales: Mapping[str, Array],
    ) -> None:
        self.name = watched.name
        self.provider = watched.provider
        self.precision = watched.precision
        self.graph_precision = watched.graph_precision
        self.largest_batch = watched.largest_batch
        self._watched = watched
        self._shadow = shadow
        self._on_graph = on_graph
        self._scales = scales

    def signature(self, role: str) -> Signature:
        """Of the watched backend."""
        return self._watched.signature(role)

    def run(self, role: str, inputs: Mapping[str, Any]) -> Buffers:
        """Run a graph on both, and compare."""
        expected = self._watched.run(role, {name: pair.expected for name, pair in inputs.items()})
        types = self.signature(role), self._shadow.signature(role)
        feeds = {
            name: pair.actual
            if _differ(name, *(signature.inputs for signature in types))
            else self._shadow.upload(self._watched.download(pair.expected))
            for name, pair in inputs.items()
        }
        actual = self._shadow.run(role, feeds)
        for name, buffer in expected.items():
            tensors = self._watched.download(buffer), self._shadow.download(actual[name])
            specs = [signature.outputs[name] for signature in types]
            if specs[0].dtype != specs[1].dtype and name in self._scales:
                tensors = (
                    self._plain(name, specs[0], tensors[0]),
                    self._plain(name, specs[1], tensors[1]),
                )
            self._on_graph(role, name, *tensors)
        return {name: _Pair(buffer, actual[name]) for name, buffer in expected.items()}

    def _plain(self, name: str, spec: TensorSpec, kernel: Array) -> Array:
        """A kernel multiplied by its constant."""
        return kernel * self._scales[name] if spec.dtype == np.float16 else kernel

    def upload(self, array: Any) -> _Pair:
        """Upload to the watched backend."""
        return _Pair(self._watched.upload(array))

    def download(self, buffer: _Pair) -> Array:
        """Download from the watched backend."""
        return self._watched.download(buffer.expected)

    def share(self, buffer: _Pair) -> Any:
        """Share what the watched backend has."""
        return self._watched.share(buffer.expected)

    def for_session(self) -> ShadowedBackend:
        """Itself: for one thread."""
        return self

    def close(self) -> None:
        """Does nothing: both backends are the caller's to close."""


def _differ(name: str, watched: Mapping[str, Any], shadow: Mapping[str, Any]) -> bool:
    """Whether the two have a tensor in different types."""
    return bool(watched[name].dtype != shadow[name].dtype)
