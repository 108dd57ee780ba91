"""Products in the form that OpenVINO is fast at: the same numbers, by other operators."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hyperstyle_rt.backends import openvino_products
from hyperstyle_rt.backends.openvino_library import load_openvino
from hyperstyle_rt.backends.openvino_products import (
    products_as_convolutions,
    split_long_products,
    turn_in_products,
)
from opened_backends import NEEDS_OPENVINO, compiled

pytestmark = NEEDS_OPENVINO


def product(a: tuple[int, ...], b: tuple[int, ...], *, transpose_b: bool = False) -> Any:
    """A model of one product of two inputs, which other operators have computed."""
    openvino = load_openvino()
    operators = openvino.opset13
    left, right = (operators.parameter(list(shape), np.float32) for shape in (a, b))
    inner = [operators.relu(port) for port in (left, right)]
    result = operators.matmul(inner[0], inner[1], False, transpose_b)
    result.set_friendly_name("result")
    return openvino.Model([result], [left, right])


def computed(model: Any, *inputs: np.ndarray) -> np.ndarray:
    result: np.ndarray = compiled(model)(list(inputs))[0]
    return result


def operators_of(model: Any) -> Counter[str]:
    return Counter(node.get_type_name() for node in model.get_ops())


def is_transpose(node: Any) -> bool:
    return bool(node.get_type_name() == "Transpose")


@pytest.mark.parametrize("length", [4096, 4096 + 32, 97 * 64])
def test_a_long_product_is_a_sum_over_pieces(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    """Whatever power of two divides the axis."""
    monkeypatch.setattr(openvino_products, "_LONG", 4096)
    monkeypatch.setattr(openvino_products, "_PIECE", 1024)
    model = product((5, length), (7, length), transpose_b=True)
    assert split_long_products(model) == 1
    assert operators_of(model)["ReduceSum"] == 1
    rng = np.random.default_rng(0)
    a, b = (np.abs(rng.standard_normal((rows, length), np.float32)) for rows in (5, 7))
    expected = a.astype(np.float64) @ b.T.astype(np.float64)
    assert np.allclose(computed(model, a, b), expected, rtol=1e-5)


def test_products_that_share_an_operand_share_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the nine of a kernel's gradient share the gradient of the output."""
    monkeypatch.setattr(openvino_products, "_LONG", 4096)
    openvino = load_openvino()
    operators = openvino.opset13
    inputs = [operators.parameter([3, 4096], np.float32) for _ in range(3)]
    shared = operators.relu(inputs[0])
    results = [operators.matmul(shared, other, False, True) for other in inputs[1:]]
    model = openvino.Model(results, inputs)
    assert split_long_products(model) == 2
    assert operators_of(model)["Transpose"] == 3


def test_pieces_of_pictures_keep_their_channels_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix that was made of a picture is cut as the picture: one turn each, no other layout."""
    monkeypatch.setattr(openvino_products, "_LONG", 4096)
    openvino = load_openvino()
    operators = openvino.opset13
    pictures = [operators.parameter([1, channels, 64, 64], np.float32) for channels in (3, 5)]
    rows = [
        operators.reshape(operators.relu(picture), np.array([picture.shape[1], 4096]), False)
        for picture in pictures
    ]
    model = openvino.Model([operators.matmul(rows[0], rows[1], False, True)], pictures)
    assert split_long_products(model) == 1
    turned = [tuple(node.output(0).shape) for node in model.get_ops() if is_transpose(node)]
    assert sorted(turned) == [(1, 64, 64, 3), (1, 64, 64, 5)]
    rng = np.random.default_rng(0)
    a, b = (rng.random((1, channels, 64, 64), np.float32) for channels in (3, 5))
    expected = a.reshape(3, -1).astype(np.float64) @ b.reshape(5, -1).T.astype(np.float64)
    assert np.allclose(computed(model, a, b), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("a", "b", "transpose_b"),
    [
        ((5, 1024), (7, 1024), True),
        ((5, 8192), (8192, 7), False),
        ((2, 5, 8192), (2, 7, 8192), True),
    ],
    ids=["short", "not transposed", "batch"],
)
def test_other_products_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, a: tuple[int, ...], b: tuple[int, ...], transpose_b: bool
) -> None:
    monkeypatch.setattr(openvino_products, "_LONG", 4096)
    model = product(a, b, transpose_b=transpose_b)
    before = operators_of(model)
    assert split_long_products(model) == products_as_convolutions(model) == 0
    assert operators_of(model) == before


def rgb_model(batch: int, rows: int = 12) -> Any:
    """kernel [B,3,6] @ picture [B,6,4,rows] whose pixels are in one axis."""
    openvino = load_openvino()
    operators = openvino.opset13
    kernel = operators.parameter([batch, 3, 6], np.float32)
    picture = operators.parameter([batch, 6, 4, rows], np.float32)
    shape = operators.constant(np.array([batch, 6, 4 * rows]))
    pixels = operators.reshape(operators.relu(picture), shape, False)
    return openvino.Model([operators.matmul(kernel, pixels, False, False)], [kernel, picture])


def test_a_product_with_a_picture_is_a_convolution() -> None:
    model = rgb_model(1)
    assert products_as_convolutions(model) == 1
    kinds = operators_of(model)
    assert kinds["Convolution"] == 1
    assert not kinds["MatMul"]
    rng = np.random.default_rng(1)
    kernel = rng.standard_normal((1, 3, 6)).astype(np.float32)
    picture = np.abs(rng.standard_normal((1, 6, 4, 12)).astype(np.float32))
    assert np.allclose(
        computed(model, kernel, picture), kernel @ picture.reshape(1, 6, 48), atol=1e-5
    )


def test_pictures_of_a_batch_have_kernels_of_their_own() -> None:
    """A convolution would use one for all."""
    assert products_as_convolutions(rgb_model(2)) == 0


@pytest.mark.parametrize(("order", "replaced"), [((1, 2, 0), 1), ((0, 2, 1), 0)])
def test_rows_stay_whole_in_products(order: tuple[int, ...], replaced: int) -> None:
    """Where [R,n,L] is turned to [n,L,R] for a product; other turns are left alone."""
    openvino = load_openvino()
    operators = openvino.opset13
    shape = (7, 3, 40) if replaced else (3, 7, 40)
    left = operators.parameter([3, 5, 40], np.float32)
    right = operators.parameter(list(shape), np.float32)
    turned = operators.transpose(operators.relu(right), np.array(order, np.int64))
    model = openvino.Model([operators.matmul(left, turned, False, False)], [left, right])
    assert turn_in_products(model) == replaced
    rng = np.random.default_rng(0)
    a, x = (rng.random(size, np.float32) for size in ((3, 5, 40), shape))
    assert np.allclose(computed(model, a, x), a @ x.transpose(order), rtol=1e-5)
