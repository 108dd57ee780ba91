"""Zeros that only order the nodes of a backward pass, taken out for OpenVINO."""

from __future__ import annotations

from typing import Any

import numpy as np
from hyperstyle_rt.backends.openvino_library import load_openvino
from hyperstyle_rt.backends.openvino_pacing import drop_products_with_zero
from opened_backends import NEEDS_OPENVINO, compiled

pytestmark = NEEDS_OPENVINO


def delayed(factor: float) -> Any:
    """A picture times three, which waits for a number of its own mean."""
    openvino = load_openvino()
    operators = openvino.opset13
    picture = operators.parameter([1, 4, 8, 8], np.float32)
    known = operators.reduce_mean(picture, np.array([0, 1, 2, 3], np.int64), keep_dims=False)
    waiting = operators.multiply(known, operators.constant(np.float32(factor)))
    slope = operators.add(operators.constant(np.float32(3)), waiting)
    return openvino.Model([operators.multiply(picture, slope)], [picture])


def kinds(model: Any) -> list[str]:
    return [node.get_type_name() for node in model.get_ops()]


def test_what_waits_for_a_zero_waits_no_more() -> None:
    model = delayed(0.0)
    assert drop_products_with_zero(model) == 1
    assert "ReduceMean" not in kinds(model)
    picture = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
    found = compiled(model)([picture])[0]
    assert np.array_equal(found, 3 * picture)


def test_other_products_stay() -> None:
    model = delayed(0.5)
    assert drop_products_with_zero(model) == 0
    assert "ReduceMean" in kinds(model)
