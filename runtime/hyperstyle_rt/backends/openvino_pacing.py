"""The order of a backward pass, which graphs spell out for ONNX Runtime, left to OpenVINO.

Graphs of gradients add to small inputs a zero that some value must be known for, so that little is
held in memory at a time. OpenVINO orders nodes by itself; to it such a zero is a way from the
gradients to all activations without a product on it, and what is on such ways is not computed in
bfloat16: whole pictures went to float32 and back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .openvino_library import constant_of, load_openvino, nodes_of, replace_node


def drop_products_with_zero(model: Any) -> int:
    """Replace every product with the number zero by zeros, and sums of such zeros as well.

    They differ where a factor is infinite or no number, which then shows in the results anyway.

    Parameters
    ----------
    model:
        ``openvino.Model`` of static shapes; it is altered.

    Returns
    -------
    How many products there were.
    """
    found = [node for node in nodes_of(model, "Multiply") if any(_zeros_among(node))]
    for node in found:
        _replace_by_zeros(node)
    for node in nodes_of(model, "Add"):
        if all(_zeros_among(node)):
            _replace_by_zeros(node)
    return len(found)


def _zeros_among(node: Any) -> list[bool]:
    """Of both inputs of an operator, whether each is the number zero."""
    constants = [constant_of(node.input_value(port)) for port in (0, 1)]
    return [data is not None and data.size == 1 and not data.any() for data in constants]


def _replace_by_zeros(node: Any) -> None:
    output = node.output(0)
    zeros = np.zeros(tuple(output.shape), output.get_element_type().to_dtype())
    replace_node(node, load_openvino().opset13.constant(zeros))
