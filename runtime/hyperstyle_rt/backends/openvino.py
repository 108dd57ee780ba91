"""OpenVINO's own library on the CPU: fp32, and bf16 where the CPU has the instructions.

Tensors are numpy arrays, which OpenVINO reads and writes where they lie: of float32, but for the
kernels in bf16. Graphs are compiled for one row, and batches are run row by row, so that a picture
is the same alone and in a batch.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import BackendError
from ..formats.bundle import Bundle
from ..formats.manifest import BASE_PRECISION
from ..types import Array
from .inputs import check_inputs
from .lifetime import NativeObjects
from .native_memory import is_out_of_memory, return_freed_memory, too_little_memory
from .openvino_halves import half_tensor, is_half, to_float, to_half
from .openvino_library import (
    DEVICE,
    cause_of,
    load_openvino,
    new_core,
    version,
)
from .openvino_models import CompiledGraph, ModelCompiler, has_rows, shape_in_batch
from .protocol import Buffers, Signature


def open_openvino(
    name: str, bundle: Bundle, threads: int | None, precision: str, device: int | None
) -> OpenvinoBackend:
    """Open the backend, which has one device; raises as :class:`OpenvinoBackend`."""
    return OpenvinoBackend(name, bundle, threads, precision)


def probe_openvino(name: str) -> str | None:
    """Ask for the library and its support of this CPU; gives None, or why it cannot be used."""
    try:
        new_core()
    except BackendError as error:
        return str(error)
    except Exception as error:  # a broken installation may raise anything
        return cause_of(error)
    return None


class OpenvinoBackend:
    """One compiled model per graph, compiled when it is first asked for; threads may share it.

    Attributes
    ----------
    name:
        Its name in the registry.
    graph_precision:
        Of the graphs that are run: always ``fp32``. What is computed in is another setting.

    Raises
    ------
    BackendError
        If OpenVINO is not installed, or cannot compute in that precision here.
    BundleError
        If a graph of the bundle lists data that is not there.
    """

    largest_batch = 1

    def __init__(
        self, name: str, bundle: Bundle, threads: int | None, precision: str = BASE_PRECISION
    ) -> None:
        self.name = name
        self.graph_precision = BASE_PRECISION
        for role in bundle.manifest.graphs:
            bundle.graph_digests(role, BASE_PRECISION)
        self._openvino = load_openvino()
        self._compiler = ModelCompiler(bundle, precision, threads)
        self._native = NativeObjects()
        self._native.keep(self._compiler.core)
        self._graphs: dict[str, CompiledGraph] = {}
        self._opening = threading.Lock()

    @property
    def provider(self) -> str:
        """What really runs the graphs."""
        return f"OpenVINO {version()} {DEVICE}"

    @property
    def precision(self) -> str:
        """Type of the products, which every compiled graph is asked for."""
        return self._compiler.precision

    def signature(self, role: str) -> Signature:
        """Inputs and outputs of a graph; raises as :meth:`run`."""
        return self._open_graph(role).signature

    def run(self, role: str, inputs: Mapping[str, Any]) -> Buffers:
        """Run a graph on arrays; every result is an array of its own.

        Raises
        ------
        BundleError
            If the bundle lacks the graph, or a file of it is altered, also after it was opened; if
            OpenVINO cannot read it.
        BackendError
            If an input is missing, unknown, or of another shape or type; if the graph fails; after
            :meth:`close`, and in a forked child.
        """
        graph = self._open_graph(role)
        signature = graph.signature
        for name, value in inputs.items():
            if not isinstance(value, np.ndarray):
                raise BackendError(
                    f"the graph {role} takes {name} as a buffer, not as {type(value).__name__}; "
                    "upload it first"
                )
        kinds = {name: (value.shape, _kind(value)) for name, value in inputs.items()}
        check_inputs(role, signature, kinds)
        batch = _batch(role, signature, inputs)
        graph.files.check()
        try:
            outputs = {
                name: np.empty(
                    shape_in_batch(spec, batch), np.uint16 if name in graph.halves else spec.dtype
                )
                for name, spec in signature.outputs.items()
            }
            for row in range(batch):
                self._run_row(graph, inputs, outputs, row)
        except Exception as error:  # OpenVINO raises RuntimeError and what pybind11 makes of others
            if is_out_of_memory(error):
                raise too_little_memory(f"run the graph {role}") from error
            raise BackendError(
                f"OpenVINO fails to run the graph {role} ({cause_of(error)}); use another --backend"
            ) from error
        return outputs

    def upload(self, array: Any) -> Array:
        """Copy a host array, as float32.

        Raises
        ------
        BackendError
            If it is an array on a device, or a closed backend.
        """
        self._native.check()
        try:
            return np.array(array, np.float32, order="C")
        except (TypeError, ValueError) as error:
            raise BackendError(
                f"the backend {self.name} takes arrays in the memory of the CPU ({error}); copy it "
                "there, or use --backend tensorrt"
            ) from error

    def download(self, buffer: Any) -> Array:
        """Copy an array into a float32 array of its own."""
        return np.array(to_float(buffer), np.float32)

    def share(self, buffer: Any) -> Any:
        """The array itself, or its float32 numbers."""
        return to_float(buffer)

    def for_session(self) -> OpenvinoBackend:
        """Itself: compiled models may be run by several threads at a time."""
        self._native.check()
        return self

    def close(self) -> None:
        """Destroy the compiled models and give their memory back."""
        if self._native.close():
            for graph in self._graphs.values():
                graph.files.close()
            self._graphs.clear()
            return_freed_memory()

    def _run_row(
        self,
        graph: CompiledGraph,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        row: int,
    ) -> None:
        """Run a graph on one row of the batch, reading and writing the arrays where they lie.

        A request of its own costs a fraction of a millisecond, and keeps no array alive.
        """
        specs = {**graph.signature.inputs, **graph.signature.outputs}
        request = graph.model.create_infer_request()
        tensors = {
            name: self._openvino.Tensor(a, shared_memory=True) for name, a in graph.planes.items()
        }
        for name, array in (*inputs.items(), *outputs.items()):
            part = array[row : row + 1] if has_rows(specs[name]) else array
            given = np.ascontiguousarray(part)
            tensors[name] = (
                half_tensor(to_half(given))
                if name in graph.halves
                else self._openvino.Tensor(to_float(given), shared_memory=True)
            )
        for name, tensor in tensors.items():
            request.set_tensor(name, tensor)
        request.infer()

    def _open_graph(self, role: str) -> CompiledGraph:
        """The compiled model of a graph; several threads may ask for it at a time."""
        self._native.check()
        graph = self._graphs.get(role)
        if graph is None:
            with self._opening:
                graph = self._graphs.get(role) or self._add_graph(role)
        return graph

    def _add_graph(self, role: str) -> CompiledGraph:
        graph = self._compiler.compile(role)
        self._native.keep(graph.model)
        self._graphs[role] = graph
        return graph


def _kind(array: Any) -> np.dtype[Any]:
    """The type of an array as signatures tell it: bfloat16 stands for float32."""
    return np.dtype(np.float32) if is_half(array) else array.dtype


def _batch(role: str, signature: Signature, inputs: Mapping[str, Any]) -> int:
    """How many rows there are.

    Raises
    ------
    BackendError
        If inputs differ in it.
    """
    lengths = {len(inputs[name]) for name, spec in signature.inputs.items() if has_rows(spec)}
    if len(lengths) > 1:
        raise BackendError(
            f"the graph {role} was given batches of {', '.join(map(str, sorted(lengths)))}; give "
            "all inputs of a batch as many rows"
        )
    return lengths.pop() if lengths else 1
