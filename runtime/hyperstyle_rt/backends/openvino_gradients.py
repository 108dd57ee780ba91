"""Gradients that are sums, computed in bfloat16 where a model is.

OpenVINO (2026.4.1) computes in float32 whatever is between the last product and an output. The
gradient of a bias or a noise map is the sum of a gradient that passes through the whole generator,
so nearly all single values of a backward pass would be float32, and rounded and put into another
layout for each of its products.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .openvino_library import integers, load_openvino

_GRADIENT = "gradient."
"""How the names of gradients begin, as graphs give them."""


def end_gradients_with_products(model: Any) -> int:
    """Multiply every gradient by a matrix of the number one.

    Parameters
    ----------
    model:
        ``openvino.Model`` of static shapes; it is altered.

    Returns
    -------
    How many gradients there are.
    """
    operators = load_openvino().opset13
    found = 0
    for result in model.get_results():
        gradient = result.input_value(0)
        names = gradient.get_names()
        if not any(name.startswith(_GRADIENT) for name in names):
            continue
        one = operators.constant(np.ones((1, 1), np.float32))
        row = operators.reshape(gradient, integers(1, -1), False)
        shape = integers(*gradient.shape)
        last = operators.reshape(operators.matmul(one, row, False, False), shape, False)
        gradient.set_names(set())
        last.output(0).set_names(names)
        result.input(0).replace_source_output(last.output(0))
        found += 1
    return found
