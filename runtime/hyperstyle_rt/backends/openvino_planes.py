"""Noise maps given to a model as inputs, so that OpenVINO does not fold the biases into them.

OpenVINO (2026.4.1) adds constants to each other before it runs a model. A stored noise map
[1,1,H,W] and a bias [1,C,1,1] that are both added to a picture become one constant [1,C,H,W], which
is kept in two layouts and read whole at every run: a gigabyte for a generator of 1024 pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..types import Array
from .openvino_library import load_openvino, nodes_of


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
    operators = load_openvino().opset13
    given: dict[str, Array] = {}
    for node in nodes_of(model, "Multiply") + nodes_of(model, "Add"):
        for port in node.inputs():
            plane = _plane(port.get_source_output())
            if plane is None:
                continue
            name = f"plane {len(given)}"
            parameter = operators.parameter(plane.shape, np.float32, name)
            parameter.output(0).set_names({name})
            port.replace_source_output(parameter.output(0))
            model.add_parameters([parameter])
            given[name] = plane
    return given


def _plane(source: Any) -> Array | None:
    """A constant of one channel with a height and a width, perhaps converted to float32."""
    shape = tuple(source.shape)
    if len(shape) != 4 or shape[:2] != (1, 1) or 1 in shape[2:]:
        return None
    node = source.get_node()
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        return None
    return np.array(node.data, np.float32)
