"""Constants that a model uses in two ways, each given to one of them only.

OpenVINO's CPU plug-in (2026.4.1) packs the constants of products for its kernels and keeps what it
packed under the constant's address and the packed layout, but not the layout that it was packed
from. A square matrix that is used as it is and transposed, or kernels [C,C,k,k] of a convolution
and of the transposed one, then get each other's packing, and the results are wrong. Graphs of
gradients are full of such pairs: what is a product on the way forward is the transposed one on the
way back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from .openvino_library import load_openvino, nodes_of

_PRODUCTS = frozenset(
    {
        "Convolution",
        "ConvolutionBackpropData",
        "GroupConvolution",
        "GroupConvolutionBackpropData",
        "MatMul",
    }
)
_PASSED = frozenset({"Convert", "Reshape", "Transpose"})
"""Operators that OpenVINO computes of a constant when it compiles, or sees through."""

_Path = tuple[Any, ...]
"""The nodes, each of :data:`_PASSED`, from a constant to where it is used."""


def separate_shared_constants(model: Any) -> int:
    """Give every use of a constant but the first, where they differ, a copy of its own.

    Parameters
    ----------
    model:
        ``openvino.Model`` as it was read; it is altered.

    Returns
    -------
    How many copies were made, which are few: of constants that gradients pass.
    """
    copies = 0
    for constant in nodes_of(model, "Constant"):
        uses = defaultdict(list)
        for port, path in _uses(constant.output(0)):
            uses[_kind(port, path)].append((port, path))
        for ports in list(uses.values())[1:]:
            copied: dict[tuple[str, ...], Any] = {}
            for port, path in ports:
                names = tuple(node.get_friendly_name() for node in path)
                if names not in copied:
                    copied[names] = _computed(constant, path)
                port.replace_source_output(copied[names].output(0))
            copies += len(copied)
    return copies


def _uses(source: Any, path: _Path = ()) -> Iterator[tuple[Any, _Path]]:
    """Inputs of products that read a constant, and the nodes on the way to them."""
    for port in source.get_target_inputs():
        node = port.get_node()
        kind = node.get_type_name()
        if kind in _PRODUCTS:
            yield port, path
        elif kind in _PASSED and port.get_index() == 0:
            yield from _uses(node.output(0), (*path, node))


def _kind(port: Any, path: _Path) -> tuple[Any, ...]:
    """What two uses that may share a packed constant have in common."""
    node = port.get_node()
    orders = tuple(_order(passed) for passed in path if passed.get_type_name() == "Transpose")
    kind = node.get_type_name()
    if kind != "MatMul":
        return kind, orders
    attributes = node.get_attributes()
    return kind, orders, port.get_index(), attributes["transpose_a"], attributes["transpose_b"]


def _computed(constant: Any, path: _Path) -> Any:
    """A new constant: what comes out of a path."""
    array = np.array(constant.data)
    for node in path:
        kind = node.get_type_name()
        if kind == "Convert":
            array = array.astype(node.get_element_type().to_dtype())
        elif kind == "Reshape":
            array = array.reshape(tuple(node.output(0).shape))
        else:
            array = array.transpose(_order(node))
    return load_openvino().opset13.constant(np.ascontiguousarray(array))


def _order(transpose: Any) -> tuple[int, ...]:
    """The axes of a transposition, which are a constant."""
    return tuple(transpose.input_value(1).get_node().data.ravel().tolist())
