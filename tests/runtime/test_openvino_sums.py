"""Sums over the taps of kernels, computed as products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hyperstyle_rt.backends.openvino_library import load_openvino
from hyperstyle_rt.backends.openvino_sums import sum_taps_by_products
from opened_backends import NEEDS_OPENVINO, compiled

pytestmark = NEEDS_OPENVINO


def summed(
    shape: tuple[int, ...] = (6, 5, 3, 3), axes: tuple[int, ...] = (2, 3), *, keep: bool = False
) -> tuple[Any, np.ndarray]:
    """A model that sums squares, and what it is to be given."""
    openvino = load_openvino()
    operators = openvino.opset13
    kernel = operators.parameter(shape, np.float32)
    result = operators.reduce_sum(operators.multiply(kernel, kernel), np.array(axes), keep)
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return openvino.Model([result], [kernel]), values


@pytest.mark.parametrize("axes", [(2, 3), (3, 2), (-1, -2)])
@pytest.mark.parametrize("keep", [False, True])
def test_a_sum_over_taps_is_a_product(axes: tuple[int, ...], keep: bool) -> None:
    model, values = summed(axes=axes, keep=keep)
    assert sum_taps_by_products(model) == 1
    kinds = {node.get_type_name() for node in model.get_ops()}
    assert "MatMul" in kinds
    assert "ReduceSum" not in kinds
    found = compiled(model)([values])[0]
    expected = np.square(values).sum((2, 3), keepdims=keep)
    assert found.shape == expected.shape
    assert np.allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((6, 5, 3, 3), (1, 2, 3)), ((6, 5, 1, 1), (2, 3)), ((1, 5, 64, 64), (2, 3)), ((6, 9), (1,))],
    ids=["other axes", "one tap", "a picture", "a matrix"],
)
def test_other_sums_stay(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    model, _ = summed(shape, axes)
    assert sum_taps_by_products(model) == 0
