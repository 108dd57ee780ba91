"""Noise maps as inputs of OpenVINO's models: the same numbers, without a constant for each bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hyperstyle_rt.backends.openvino_library import load_openvino
from hyperstyle_rt.backends.openvino_models import product_types
from hyperstyle_rt.backends.openvino_planes import matrices_as_inputs, planes_as_inputs
from opened_backends import NEEDS_OPENVINO, compiled, require_bfloat16

pytestmark = NEEDS_OPENVINO

RNG = np.random.default_rng(0)
PLANE = RNG.standard_normal((1, 1, 16, 16), np.float32)
BIAS = RNG.standard_normal((1, 8, 1, 1), np.float32)
PICTURE = RNG.standard_normal((1, 8, 16, 16), np.float32)
MATRIX = RNG.standard_normal((16, 36), np.float32)


def with_noise(stored: type[np.floating[Any]]) -> Any:
    """A model that adds a bias, and noise times its strength, as a generator does."""
    openvino = load_openvino()
    operators = openvino.opset13
    picture = operators.parameter(PICTURE.shape, np.float32)
    noise = operators.constant(PLANE.astype(stored))
    if stored is not np.float32:
        noise = operators.convert(noise, np.float32)
    scaled = operators.multiply(noise, operators.constant(np.float32(0.5)))
    biased = operators.add(picture, operators.constant(BIAS))
    return openvino.Model([operators.relu(operators.add(biased, scaled))], [picture])


def largest_constant(model: Any) -> int:
    nodes = model.get_runtime_model().get_ops()
    constants = [n for n in nodes if n.get_rt_info()["layerType"].astype(str) == "Const"]
    return max(int(np.prod(list(node.output(0).shape))) for node in constants)


@pytest.mark.parametrize("stored", [np.float32, np.float16])
def test_no_constant_is_larger_than_what_was_stored(stored: type[np.floating[Any]]) -> None:
    model = with_noise(stored)
    planes = planes_as_inputs(model)
    assert [plane.shape for plane in planes.values()] == [(1, 1, 16, 16)]
    ready = compiled(model)
    assert largest_constant(ready) <= PLANE.size
    request = ready.create_infer_request()
    request.set_input_tensor(0, load_openvino().Tensor(PICTURE))
    for name, plane in planes.items():
        assert plane.dtype == np.float32
        request.set_tensor(name, load_openvino().Tensor(plane))
    request.infer()
    noise = PLANE.astype(stored).astype(np.float32)
    expected = np.maximum(PICTURE + BIAS + 0.5 * noise, 0)
    assert np.allclose(request.get_output_tensor(0).data, expected, atol=1e-6)


def test_the_constant_would_be_as_large_as_the_picture() -> None:
    """Why this is done; if it fails, OpenVINO no longer needs it."""
    assert largest_constant(compiled(with_noise(np.float32))) == PICTURE.size


def test_other_constants_are_left_alone() -> None:
    """Kernels, biases, scalars, and planes of several channels."""
    openvino = load_openvino()
    operators = openvino.opset13
    picture = operators.parameter([1, 1, 16, 16], np.float32)
    kernel = operators.constant(RNG.standard_normal((1, 1, 3, 3), np.float32))
    found = operators.convolution(picture, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
    found = operators.multiply(found, operators.constant(np.float32(2)))
    found = operators.add(found, operators.constant(BIAS))
    found = operators.add(found, operators.constant(PICTURE))
    model = openvino.Model([found], [picture])
    assert planes_as_inputs(model) == {}
    assert len(model.inputs) == 1


def product_with(matrix: tuple[int, int], columns: int, stored: type[np.floating[Any]]) -> Any:
    """A constant matrix by a large one that other operators have computed."""
    openvino = load_openvino()
    operators = openvino.opset13
    right = operators.parameter([matrix[1], columns], np.float32)
    left = operators.constant(MATRIX[: matrix[0], : matrix[1]].astype(stored))
    if stored is not np.float32:
        left = operators.convert(left, np.float32)
    return openvino.Model([operators.matmul(left, operators.relu(right), False, False)], [right])


@pytest.mark.parametrize("stored", [np.float32, np.float16])
def test_a_matrix_that_multiplies_much_is_an_input(stored: type[np.floating[Any]]) -> None:
    model = product_with((16, 36), 1 << 14, stored)
    ((name, matrix),) = matrices_as_inputs(model).items()
    assert np.array_equal(matrix, MATRIX.astype(stored))
    assert matrix.dtype == np.float32
    right = np.abs(RNG.standard_normal((36, 1 << 14), np.float32))
    request = compiled(model).create_infer_request()
    request.set_input_tensor(0, load_openvino().Tensor(right))
    request.set_tensor(name, load_openvino().Tensor(matrix))
    request.infer()
    expected = matrix.astype(np.float64) @ right.astype(np.float64)
    assert np.allclose(request.get_output_tensor(0).data, expected, atol=1e-4)


def test_products_with_it_are_computed_in_bfloat16() -> None:
    """Which those with a constant on the left are not."""
    require_bfloat16()
    model = product_with((16, 36), 1 << 14, np.float32)
    matrices_as_inputs(model)
    assert product_types(compiled(model, "bf16")) == {"bf16"}


def test_matrices_of_small_products_stay_constants() -> None:
    model = product_with((16, 36), 64, np.float32)
    assert matrices_as_inputs(model) == {}
    assert len(model.inputs) == 1
