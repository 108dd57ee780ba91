"""Factors of channels behind filters that see each channel alone.

A transposed convolution is demodulated before its blur, where OpenVINO (2026.4.1) makes that a pass
over a picture of its own. Behind the blur it is computed in one with what follows there: noise,
bias and activation, and the next layer's style. In bfloat16 that is one rounding less, too.
"""

from __future__ import annotations

from typing import Any

from .openvino_library import load_openvino, nodes_of


def multiply_behind_filters(model: Any) -> int:
    """Move factors [N,C,1,1] of a picture [N,C,h,w] behind the depthwise convolutions that read it.

    Parameters
    ----------
    model:
        ``openvino.Model`` of static shapes; it is altered.

    Returns
    -------
    How many were moved.
    """
    operators = load_openvino().opset13
    found = 0
    for product in nodes_of(model, "Multiply"):
        filters = _filters_behind(product)
        factor, picture = sorted((product.input_value(port) for port in (0, 1)), key=_area)
        if not filters or _area(factor) != 1 or picture.shape != product.output(0).shape:
            continue
        filters[0].input(0).replace_source_output(picture)
        last = filters[-1].output(0)
        readers = last.get_target_inputs()
        moved = operators.multiply(last, factor)
        moved.set_friendly_name(product.get_friendly_name())
        for reader in readers:
            reader.replace_source_output(moved.output(0))
        found += 1
    return found


def _filters_behind(node: Any) -> list[Any]:
    """The depthwise convolutions that alone read a node's output, one after the other."""
    filters: list[Any] = []
    while True:
        readers = list(node.output(0).get_target_inputs())
        if len(readers) != 1 or not _is_depthwise(readers[0].get_node()):
            return filters
        node = readers[0].get_node()
        filters.append(node)


def _is_depthwise(node: Any) -> bool:
    """Whether it is a convolution of one channel a group, and gives as many."""
    if node.get_type_name() != "GroupConvolution":
        return False
    _, outputs, inputs, *_ = node.input_value(1).shape
    return bool(outputs == inputs == 1)


def _area(port: Any) -> int:
    """Pixels of [N,C,h,w]; 0 for what is no picture."""
    shape = port.shape
    return int(shape[2] * shape[3]) if len(shape) == 4 else 0
