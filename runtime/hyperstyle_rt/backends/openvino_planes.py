"""Constants given to a model as inputs, as OpenVINO (2026.4.1) makes the wrong thing of them.

It adds constants to each other before it runs a model. A stored noise map [1,1,H,W] and a bias
[1,C,1,1] that are both added to a picture become one constant [1,C,H,W], which is kept in two
layouts and read whole at every run: a gigabyte for a generator of 1024 pixels.

And of a product whose left matrix is a constant it takes both in float32, also where it computes in
bfloat16: the right one, which may be a picture, is then written once more for it.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..types import Array
from .openvino_library import constant_of, load_openvino, nodes_of

_MUCH_LARGER = 256
"""Times the numbers of a constant from which on a matrix is too large to be written once more."""


def planes_as_inputs(model: Any) -> dict[str, Array]:
    """Make an input of every constant plane that is added or multiplied.

    Parameters
    ----------
    model:
        ``openvino.Model`` of static shapes; it is altered.

    Returns
    -------
    Name of the input -> float32 [1,1,H,W], the constant, which every run is to be given.
    """
    given: dict[str, Array] = {}
    for node in nodes_of(model, "Multiply", "Add"):
        for port in node.inputs():
            plane = _plane(port.get_source_output())
            if plane is None:
                continue
            given |= _as_input(model, port, plane, f"plane {len(given)}")
    return given


def matrices_as_inputs(model: Any) -> dict[str, Array]:
    """Make an input of every constant that a much larger matrix is multiplied by from the left.

    Parameters
    ----------
    model:
        ``openvino.Model`` of static shapes; it is altered.

    Returns
    -------
    Name of the input -> float32 [M,N], the constant, which every run is to be given.
    """
    given: dict[str, Array] = {}
    for product in nodes_of(model, "MatMul"):
        matrix = _constant(product.input_value(0))
        right = tuple(product.input_value(1).shape)
        if matrix is None or matrix.ndim != 2 or prod(right) < _MUCH_LARGER * matrix.size:
            continue
        given |= _as_input(model, product.input(0), matrix, f"matrix {len(given)}")
    return given


def _as_input(model: Any, port: Any, value: Array, name: str) -> dict[str, Array]:
    """Have what reads a constant read an input of that name instead."""
    parameter = load_openvino().opset13.parameter(value.shape, np.float32, name)
    parameter.output(0).set_names({name})
    port.replace_source_output(parameter.output(0))
    model.add_parameters([parameter])
    return {name: value}


def _plane(source: Any) -> Array | None:
    """A constant of one channel with a height and a width, perhaps converted to float32."""
    shape = tuple(source.shape)
    if len(shape) != 4 or shape[:2] != (1, 1) or 1 in shape[2:]:
        return None
    return _constant(source)


def _constant(source: Any) -> Array | None:
    """A constant in float32, which it may be converted to."""
    node = source.get_node()
    data = constant_of(node.input_value(0) if node.get_type_name() == "Convert" else source)
    if data is None or not source.get_element_type().is_real():
        return None
    return np.array(data, np.float32)
