"""Factors of channels, behind the filters of a blur."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hyperstyle_rt.backends.openvino_factors import multiply_behind_filters
from hyperstyle_rt.backends.openvino_library import load_openvino
from opened_backends import NEEDS_OPENVINO, compiled

pytestmark = NEEDS_OPENVINO

CHANNELS = 8
PICTURE = np.random.default_rng(0).standard_normal((1, CHANNELS, 13, 11)).astype(np.float32)
FACTOR = np.random.default_rng(1).uniform(0.5, 2, (1, CHANNELS, 1, 1)).astype(np.float32)


def kernel(*taps: int) -> np.ndarray:
    rng = np.random.default_rng(sum(taps))
    return rng.standard_normal((CHANNELS, 1, 1, *taps)).astype(np.float32)


def blurred(
    picture: np.ndarray = PICTURE,
    factor: np.ndarray = FACTOR,
    *,
    first: bool = False,
    seen: bool = False,
    inputs: int = 1,
) -> tuple[Any, list[np.ndarray]]:
    """A model that multiplies, filters columns and rows, and adds; and what it is to be given."""
    openvino = load_openvino()
    operators = openvino.opset13
    ports = [operators.parameter(values.shape, np.float32) for values in (picture, factor)]
    product = operators.multiply(*(ports[::-1] if first else ports))
    columns, rows = kernel(4, 1), kernel(1, 4)
    if inputs > 1:
        columns = np.tile(columns[: CHANNELS // inputs], (1, 1, inputs, 1, 1))
    x = operators.group_convolution(product, columns, [1, 1], [1, 0], [1, 0], [1, 1])
    if inputs == 1:
        x = operators.group_convolution(x, rows, [1, 1], [0, 1], [0, 1], [1, 1])
    results = [operators.add(x, np.float32(3)), *([operators.relu(product)] if seen else [])]
    return openvino.Model(results, ports), [picture, factor]


@pytest.mark.parametrize("first", [False, True])
def test_a_factor_comes_after_all_filters(first: bool) -> None:
    """And before what is added."""
    model, values = blurred(first=first)
    expected = compiled(model)(values)[0]
    assert multiply_behind_filters(model) == 1
    order = [node.get_type_name() for node in model.get_ordered_ops()]
    assert order.index("Multiply") > max(i for i, k in enumerate(order) if k == "GroupConvolution")
    assert np.allclose(compiled(model)(values)[0], expected, rtol=1e-4, atol=1e-4)
    assert multiply_behind_filters(model) == 0


@pytest.mark.parametrize(
    "model",
    [
        lambda: blurred(factor=PICTURE),
        lambda: blurred(picture=PICTURE[:, :1]),
        lambda: blurred(seen=True),
        lambda: blurred(inputs=2),
    ],
    ids=["a picture", "one channel becomes many", "something else reads it", "not depthwise"],
)
def test_other_products_stay(model: Any) -> None:
    made, values = model()
    expected = compiled(made)(values)[0]
    assert multiply_behind_filters(made) == 0
    assert np.allclose(compiled(made)(values)[0], expected, rtol=1e-5, atol=1e-5)
