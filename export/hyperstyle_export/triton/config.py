"""Configurations of Triton's models, ``config.pbtxt``: text of protocol buffers.

The fields are those of ``ModelConfig`` in Triton's ``model_config.proto``; a test parses every file
with the one that tritonclient carries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hyperstyle_rt.backends.protocol import Signature, TensorSpec
from hyperstyle_rt.scale.triton.calls import BYTES, ServedModel, TensorOfModel
from hyperstyle_rt.scale.triton.python_model import SERVES

LARGEST_BATCH = 8
"""Of a graph that pictures of several requests can go through at once."""

_TYPES = {
    np.dtype(np.float32): "TYPE_FP32",
    np.dtype(np.float16): "TYPE_FP16",
    np.dtype(np.int32): "TYPE_INT32",
    np.dtype(np.int64): "TYPE_INT64",
    np.dtype(np.uint8): "TYPE_UINT8",
    np.dtype(np.bool_): "TYPE_BOOL",
    BYTES: "TYPE_STRING",
}


class Word(str):
    """A value of an enumeration, which stands without quotation marks."""


@dataclass(frozen=True)
class Instances:
    """Copies of a model that work at once.

    Attributes
    ----------
    kind:
        ``KIND_CPU``, ``KIND_GPU``, or ``KIND_AUTO`` for a GPU where there is one.
    """

    graphs: int = 1
    loops: int = 2
    kind: str = "KIND_AUTO"


def graph_config(name: str, signature: Signature, instances: Instances) -> str:
    """The configuration of a graph as a model of Triton's ONNX Runtime backend.

    A graph all of whose tensors begin with an axis of any length takes pictures of several requests
    at once; one whose kernels are an input is of one face, and does not.
    """
    return _graph(name, "onnxruntime", signature, instances, is_batched(signature))


def plan_config(name: str, signature: Signature, instances: Instances) -> str:
    """The configuration of a graph's plan as a model of Triton's TensorRT backend.

    How many pictures a plan takes at once was settled when it was built: it is asked for one.
    """
    return _graph(name, "tensorrt", signature, instances, batched=False)


def _graph(
    name: str, backend: str, signature: Signature, instances: Instances, batched: bool
) -> str:
    config: dict[str, Any] = {
        "name": name,
        "backend": backend,
        "max_batch_size": LARGEST_BATCH if batched else 0,
        "input": [_graph_tensor(n, spec, batched) for n, spec in signature.inputs.items()],
        "output": [_graph_tensor(n, spec, batched) for n, spec in signature.outputs.items()],
        "instance_group": [{"count": instances.graphs, "kind": Word(instances.kind)}],
        "version_policy": {"latest": {"num_versions": 1}},
        "model_warmup": [
            {
                "name": "zeros",
                "batch_size": int(batched),
                "inputs": [
                    {"key": n, "value": _zeros(spec, batched)}
                    for n, spec in signature.inputs.items()
                ],
            }
        ],
    }
    if batched:
        config["dynamic_batching"] = {}
    if not signature.inputs:  # kernels without codes: there is nothing to warm up with
        del config["model_warmup"]
    return to_text(config)


def loop_config(name: str, what: str, served: ServedModel, instances: Instances) -> str:
    """The configuration of a model in Python, which calls the graphs."""
    return to_text(
        {
            "name": name,
            "backend": "python",
            "max_batch_size": 0,
            "input": [_served_tensor(each) for each in served.inputs],
            "output": [_served_tensor(each) for each in served.outputs],
            "instance_group": [{"count": instances.loops, "kind": Word(instances.kind)}],
            "version_policy": {"latest": {"num_versions": 1}},
            "parameters": [{"key": SERVES, "value": {"string_value": what}}],
        }
    )


def is_batched(signature: Signature) -> bool:
    """Whether every input and output begins with an axis of any length."""
    specs = [*signature.inputs.values(), *signature.outputs.values()]
    return bool(signature.inputs) and all(s.shape and s.shape[0] is None for s in specs)


def to_text(message: Mapping[str, Any]) -> str:
    """Write a message: mappings are messages, lists are repeated fields."""
    return "\n".join(_lines(message)) + "\n"


def _lines(message: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for field, value in message.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Mapping):
                yield f"{indent}{field} {{"
                yield from _lines(each, f"{indent}  ")
                yield f"{indent}}}"
            else:
                yield f"{indent}{field}: {_scalar(each)}"


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, Word)):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _dims(spec: TensorSpec, batched: bool) -> list[int]:
    shape = spec.shape[1:] if batched else spec.shape
    return [-1 if length is None else length for length in shape]


def _graph_tensor(name: str, spec: TensorSpec, batched: bool) -> dict[str, Any]:
    return {
        "name": name,
        "data_type": Word(_TYPES[spec.dtype]),
        "dims": _dims(spec, batched),
    }


def _zeros(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    return {
        "data_type": Word(_TYPES[spec.dtype]),
        "dims": [max(1, length) for length in _dims(spec, batched)],
        "zero_data": True,
    }


def _served_tensor(tensor: TensorOfModel) -> dict[str, Any]:
    described = {
        "name": tensor.name,
        "data_type": Word(_TYPES[tensor.dtype]),
        "dims": list(tensor.shape),
    }
    return {**described, "optional": True} if tensor.optional else described
