"""Numbers of the fields in ONNX's messages, and what a tensor says of where its bytes are."""

from __future__ import annotations

from .protobuf import fields

# Fields of the messages of onnx.proto, by their names there.
MODEL_IR_VERSION, MODEL_GRAPH, MODEL_OPSETS = 1, 7, 8
OPSET_VERSION = 2
GRAPH_NODE, GRAPH_NAME, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 2, 5, 11, 12
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OPERATOR = 1, 2, 3, 4
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW = 1, 2, 8, 9
TENSOR_EXTERNAL, TENSOR_LOCATION = 13, 14
ENTRY_KEY, ENTRY_VALUE = 1, 2
VALUE_NAME, VALUE_TYPE = 1, 2
TYPE_TENSOR, TENSOR_TYPE_ELEMENT, TENSOR_TYPE_SHAPE = 1, 1, 2
SHAPE_DIM, DIM_VALUE = 1, 1

FLOAT = 1  # TensorProto.FLOAT
EXTERNAL = 1  # TensorProto.EXTERNAL


def external_entries(tensor: bytes) -> dict[str, str]:
    """``location``, ``offset`` and ``length`` of a tensor in a data file; empty for others."""
    return dict(_entry(each.content) for each in fields(tensor) if each.number == TENSOR_EXTERNAL)


def _entry(message: bytes) -> tuple[str, str]:
    found = {each.number: each.text for each in fields(message)}
    return found[ENTRY_KEY], found[ENTRY_VALUE]
