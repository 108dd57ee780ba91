"""A backend whose graphs are models of the Triton server that the calling model runs in.

Graphs are called by Business Logic Scripting (BLS): a request inside of the server, whose tensors
stay where they are, on the GPU if the graphs run there. What chains them is the loop of every host.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...backends.cuda.memory import Cuda
from ...backends.inputs import check_names, check_tensor
from ...backends.protocol import Buffers, Signature, TensorSpec
from ...errors import BackendError, BundleError
from ...types import Array
from .calls import model_name

GRAPH = "graph_"
"""Begins what is after the bundle's name in that of a graph's model."""


@dataclass(frozen=True)
class GraphModels:
    """The graphs of a bundle on a server.

    Attributes
    ----------
    bundle:
        Name of the bundle.
    precision:
        Of the graphs.
    signatures:
        By role.
    """

    bundle: str
    precision: str
    signatures: Mapping[str, Signature]

    def to_json(self) -> str:
        """Write it down; the same graphs give the same text."""

        def tensors(of: Mapping[str, TensorSpec]) -> dict[str, Any]:
            return {name: [list(spec.shape), str(spec.dtype)] for name, spec in of.items()}

        signatures = {
            role: {"inputs": tensors(each.inputs), "outputs": tensors(each.outputs)}
            for role, each in self.signatures.items()
        }
        document = {"bundle": self.bundle, "precision": self.precision, "graphs": signatures}
        return json.dumps(document, indent=1)

    @classmethod
    def from_json(cls, text: str) -> GraphModels:
        """Read what :meth:`to_json` has written."""

        def tensors(of: Mapping[str, Any]) -> dict[str, TensorSpec]:
            return {
                name: TensorSpec(tuple(shape), np.dtype(dtype))
                for name, (shape, dtype) in of.items()
            }

        document = json.loads(text)
        signatures = {
            role: Signature(tensors(each["inputs"]), tensors(each["outputs"]))
            for role, each in document["graphs"].items()
        }
        return cls(document["bundle"], document["precision"], signatures)


class TritonGraphsBackend:
    """Runs a bundle's graphs as models of a server; for one instance of a Python model.

    Parameters
    ----------
    utils:
        The module ``triton_python_backend_utils``, which exists inside of the server alone.
    gpu:
        Device that tensors stay on; None for the CPU.
    """

    name = "triton"

    def __init__(self, graphs: GraphModels, utils: Any, gpu: int | None = None) -> None:
        self._graphs = graphs
        self._utils = utils
        self._gpu = gpu
        self._cuda: Cuda | None = None
        self._closed = False

    @property
    def provider(self) -> str:
        """What really runs the graphs: models of this server."""
        return f"Triton {'CPU' if self._gpu is None else f'GPU {self._gpu}'}"

    @property
    def precision(self) -> str:
        """Type of the graphs."""
        return self._graphs.precision

    @property
    def graph_precision(self) -> str:
        """The same."""
        return self._graphs.precision

    @property
    def largest_batch(self) -> int:
        """1: pictures are then those of single renders."""
        return 1

    def signature(self, role: str) -> Signature:
        """Inputs and outputs of a graph.

        Raises
        ------
        BundleError
            If the repository has no such graph.
        BackendError
            If the backend is closed.
        """
        if self._closed:
            raise BackendError("the model is closed; load it again")
        try:
            return self._graphs.signatures[role]
        except KeyError:
            raise BundleError(
                f"the model repository has no graph {role!r}, only "
                f"{', '.join(self._graphs.signatures)}; write it again of a bundle that has it"
            ) from None

    def run(self, role: str, inputs: Mapping[str, Any]) -> Buffers:
        """Run a graph on tensors of the server; its outputs stay where they are made.

        Raises
        ------
        BundleError, BackendError
            As :meth:`signature`; if an input is missing, unknown, or of another shape; if the
            server fails to run the graph.
        """
        signature, utils = self.signature(role), self._utils
        check_names(role, signature, inputs)
        for name, tensor in inputs.items():
            spec = signature.inputs[name]
            check_tensor(role, name, spec, tuple(tensor.shape()), spec.dtype)
        request = utils.InferenceRequest(
            model_name=model_name(self._graphs.bundle, f"{GRAPH}{role}"),
            requested_output_names=list(signature.outputs),
            inputs=[self._named(name, tensor) for name, tensor in inputs.items()],
            preferred_memory=self._memory(),
        )
        response = request.exec()
        if response.has_error():
            raise BackendError(
                f"Triton fails to run the graph {role} ({response.error().message()}); its log "
                "says more"
            )
        outputs = {}
        for name in signature.outputs:
            outputs[name] = utils.get_output_tensor_by_name(response, name)
        return outputs

    def upload(self, array: Any) -> Any:
        """Make a tensor of an array in the memory of the CPU, as float32."""
        return self._utils.Tensor("buffer", np.array(array, np.float32, order="C"))

    def download(self, buffer: Any) -> Array:
        """Copy a tensor into a float32 array of its own."""
        return np.array(self._on_cpu(buffer), np.float32, copy=True)

    def share(self, buffer: Any) -> Any:
        """A numpy array on the CPU; on a GPU the tensor itself, which has ``__dlpack__``."""
        return buffer.as_numpy() if buffer.is_cpu() else buffer

    def for_session(self) -> TritonGraphsBackend:
        """Itself: an instance of a Python model is one thread."""
        return self

    def close(self) -> None:
        """Refuse further use; the graphs are the server's."""
        self._closed = True
        if self._cuda is not None:
            self._cuda.close()

    def _named(self, name: str, tensor: Any) -> Any:
        """The same memory under the name that a graph has for it."""
        if tensor.name() == name:
            return tensor
        return self._utils.Tensor.from_dlpack(name, tensor.to_dlpack())

    def _memory(self) -> Any:
        utils = self._utils
        if self._gpu is None:
            return utils.PreferredMemory(utils.TRITONSERVER_MEMORY_CPU)
        return utils.PreferredMemory(utils.TRITONSERVER_MEMORY_GPU, self._gpu)

    def _on_cpu(self, buffer: Any) -> Any:
        if buffer.is_cpu():
            return buffer.as_numpy()
        if self._cuda is None:
            self._cuda = Cuda(self._gpu or 0)
        return self._cuda.download(self._cuda.upload(buffer))
