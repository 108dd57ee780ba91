"""ONNX graphs whose inputs become constants, and graphs that are nothing but constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..formats.onnx_fields import (
    DIM_VALUE,
    ENTRY_KEY,
    ENTRY_VALUE,
    EXTERNAL,
    FLOAT,
    GRAPH_INITIALIZER,
    GRAPH_INPUT,
    GRAPH_NAME,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    MODEL_GRAPH,
    MODEL_IR_VERSION,
    MODEL_OPSETS,
    NODE_INPUT,
    NODE_NAME,
    NODE_OPERATOR,
    NODE_OUTPUT,
    OPSET_VERSION,
    SHAPE_DIM,
    TENSOR_DIMS,
    TENSOR_EXTERNAL,
    TENSOR_LOCATION,
    TENSOR_NAME,
    TENSOR_RAW,
    TENSOR_TYPE,
    TENSOR_TYPE_ELEMENT,
    TENSOR_TYPE_SHAPE,
    TYPE_TENSOR,
    VALUE_NAME,
    VALUE_TYPE,
    external_entries,
)
from ..formats.protobuf import Field, content, fields, number
from ..types import Array

IR_VERSION, OPSET = 10, 18

INLINE = 1024  # bytes up to which a tensor stands in the graph itself
ALIGNMENT = 64


@dataclass
class DataFile:
    """The file that holds the large tensors of some graphs.

    Attributes
    ----------
    name:
        Its name, as the graphs give it.
    content:
        What is in it so far. Equal tensors are in it once.
    """

    name: str
    content: bytearray = field(default_factory=bytearray)
    _places: dict[bytes, int] = field(default_factory=dict)

    def add(self, data: bytes) -> tuple[int, int]:
        """Add a tensor's bytes; gives offset and length."""
        if data not in self._places:
            self.content += bytes(-len(self.content) % ALIGNMENT)
            self._places[data] = len(self.content)
            self.content += data
        return self._places[data], len(data)


def bind_inputs(
    model: bytes,
    constants: Mapping[str, Array],
    data: Mapping[str, memoryview],
    file: DataFile,
) -> bytes:
    """Make constants of a graph's inputs; every large tensor of it goes into one data file.

    Parameters
    ----------
    model:
        An ONNX model.
    constants:
        Input to float32 array, of a shape that broadcasts as the input's does. Inputs that the
        graph has not are left alone.
    data:
        Content of the data files that it reads tensors from.

    Raises
    ------
    ValueError
        If the model is damaged, or names a tensor that is not in `data`.
    """
    written = []
    for each in fields(model):
        if each.number == MODEL_GRAPH:
            written.append(content(MODEL_GRAPH, _bound_graph(each.content, constants, data, file)))
        else:
            written.append(each.raw)
    return b"".join(written)


def inputs_and_outputs(model: bytes) -> tuple[set[str], set[str]]:
    """Names of the inputs and of the outputs of an ONNX model; ValueError if it is damaged."""
    names: tuple[set[str], set[str]] = (set(), set())
    (graph,) = (each.content for each in fields(model) if each.number == MODEL_GRAPH)
    for each in fields(graph):
        if each.number in (GRAPH_INPUT, GRAPH_OUTPUT):
            names[each.number == GRAPH_OUTPUT].add(_name(each, VALUE_NAME))
    return names


def constant_graph(outputs: Mapping[str, Array], file: DataFile) -> bytes:
    """An ONNX model without inputs that gives these arrays, float32."""
    parts = []
    for name, array in outputs.items():
        stored = f"stored.{name}"
        node = content(NODE_INPUT, stored) + content(NODE_OUTPUT, name)
        node += content(NODE_NAME, name) + content(NODE_OPERATOR, "Identity")
        parts.append(content(GRAPH_NODE, node))
        parts.append(_constant(stored, array, file))
        parts.append(content(GRAPH_OUTPUT, _value(name, array.shape)))
    graph = content(GRAPH_NAME, "constants") + b"".join(parts)
    return (
        number(MODEL_IR_VERSION, IR_VERSION)
        + content(MODEL_GRAPH, graph)
        + content(MODEL_OPSETS, number(OPSET_VERSION, OPSET))
    )


def _bound_graph(
    graph: bytes, constants: Mapping[str, Array], data: Mapping[str, memoryview], file: DataFile
) -> bytes:
    written, bound = [], []
    for each in fields(graph):
        if each.number == GRAPH_INPUT and _name(each, VALUE_NAME) in constants:
            bound.append(_name(each, VALUE_NAME))
        elif each.number == GRAPH_INITIALIZER:
            written.append(content(GRAPH_INITIALIZER, _moved(each.content, data, file)))
        else:
            written.append(each.raw)
    return b"".join([*written, *(_constant(name, constants[name], file) for name in bound)])


def _moved(tensor: bytes, data: Mapping[str, memoryview], file: DataFile) -> bytes:
    """An initializer whose bytes are in another file, moved to `file`; others as they are."""
    parts = list(fields(tensor))
    entries = external_entries(tensor)
    if not entries:
        return tensor
    source = data.get(entries["location"])
    start = int(entries.get("offset", 0))
    if source is None or "length" not in entries or start + int(entries["length"]) > len(source):
        raise ValueError(f"a tensor is not in {entries['location']}")
    kept = [p.raw for p in parts if p.number not in (TENSOR_EXTERNAL, TENSOR_LOCATION)]
    return b"".join(kept) + _reference(bytes(source[start : start + int(entries["length"])]), file)


def _constant(name: str, array: Array, file: DataFile) -> bytes:
    """A field of the graph: an initializer of float32."""
    raw = np.ascontiguousarray(array, "<f4").tobytes()
    tensor = b"".join(number(TENSOR_DIMS, side) for side in array.shape)
    tensor += number(TENSOR_TYPE, FLOAT) + content(TENSOR_NAME, name)
    tensor += content(TENSOR_RAW, raw) if len(raw) <= INLINE else _reference(raw, file)
    return content(GRAPH_INITIALIZER, tensor)


def _reference(raw: bytes, file: DataFile) -> bytes:
    """Fields of a tensor whose bytes are in a data file."""
    offset, length = file.add(raw)
    entries = {"location": file.name, "offset": str(offset), "length": str(length)}
    written = [
        content(TENSOR_EXTERNAL, content(ENTRY_KEY, key) + content(ENTRY_VALUE, value))
        for key, value in entries.items()
    ]
    return b"".join(written) + number(TENSOR_LOCATION, EXTERNAL)


def _name(value: Field, of: int) -> str:
    (name,) = (each.text for each in fields(value.content) if each.number == of)
    return name


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    """A ValueInfoProto of a float32 tensor."""
    dims = b"".join(content(SHAPE_DIM, number(DIM_VALUE, side)) for side in shape)
    tensor = number(TENSOR_TYPE_ELEMENT, FLOAT) + content(TENSOR_TYPE_SHAPE, dims)
    return content(VALUE_NAME, name) + content(VALUE_TYPE, content(TYPE_TENSOR, tensor))
