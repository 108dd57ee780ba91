"""Transposed convolutions that were made in parts, in one piece."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hyperstyle_rt.backends.openvino_library import load_openvino
from hyperstyle_rt.backends.openvino_parts import join_transposed_convolutions
from opened_backends import NEEDS_OPENVINO, compiled

pytestmark = NEEDS_OPENVINO

PICTURE = np.random.default_rng(0).standard_normal((1, 4, 6, 5)).astype(np.float32)
KERNEL = np.random.default_rng(1).standard_normal((4, 10, 3, 3)).astype(np.float32)
THREE = ((0, 4), (4, 8), (8, 10))


def in_parts(
    bounds: tuple[tuple[int, int], ...] = THREE,
    *,
    step: int | None = 1,
    other: bool = False,
) -> Any:
    """A model of transposed convolutions, one for each range of channels, put together.

    Parameters
    ----------
    step:
        Of the slices; None for one that is no constant, as ONNX graphs without steps have.
    other:
        Whether the last one reads another picture.
    """
    openvino = load_openvino()
    operators = openvino.opset13
    picture = operators.parameter(PICTURE.shape, np.float32)
    kernel = operators.parameter(KERNEL.shape, np.float32)
    known = np.array([step or 1], np.int64)
    steps = operators.constant(known) if step else operators.broadcast(known[0], np.array([1]))
    parts = []
    for start, stop in bounds:
        begin, end = np.array([start]), np.array([stop])
        part = operators.slice(kernel, begin, end, steps, np.array([1]))
        source = operators.relu(picture) if other and (start, stop) == bounds[-1] else picture
        parts.append(operators.convolution_backprop_data(source, part, [2, 2]))
    return openvino.Model([operators.concat(parts, 1)], [picture, kernel])


def computed(model: Any) -> np.ndarray:
    result: np.ndarray = compiled(model)([PICTURE, KERNEL])[0]
    return result


def convolutions(model: Any) -> int:
    kinds = [node.get_type_name() for node in model.get_ops()]
    return kinds.count("ConvolutionBackpropData")


@pytest.mark.parametrize("step", [1, None])
def test_parts_become_one(step: int | None) -> None:
    model = in_parts(step=step)
    expected = computed(model)
    assert join_transposed_convolutions(model) == 1
    assert convolutions(model) == 1
    assert np.allclose(computed(model), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        lambda: in_parts(((0, 4), (4, 8))),
        lambda: in_parts(((4, 8), (0, 4), (8, 10))),
        lambda: in_parts(((0, 4), (4, 10)), step=2),
        lambda: in_parts(other=True),
    ],
    ids=["not all", "another order", "not beside each other", "another picture"],
)
def test_others_stay(model: Any) -> None:
    made = model()
    expected = computed(made)
    before = convolutions(made)
    assert join_transposed_convolutions(made) == 0
    assert convolutions(made) == before
    assert np.array_equal(computed(made), expected)
