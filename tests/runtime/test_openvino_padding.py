"""Padding of a picture, left to a convolution that sees its channels one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hyperstyle_rt.backends.openvino_library import load_openvino
from hyperstyle_rt.backends.openvino_padding import pad_in_convolutions
from opened_backends import NEEDS_OPENVINO, compiled

pytestmark = NEEDS_OPENVINO

PICTURE = np.random.default_rng(0).standard_normal((1, 4, 16, 12)).astype(np.float32)
KERNEL = np.random.default_rng(1).standard_normal((5, 1, 6, 6)).astype(np.float32)


def padded(
    amounts: tuple[list[int], list[int]] = ([0, 0, 1, 2], [0, 0, 3, 0]),
    around: float = 0.0,
    *,
    planes: bool = True,
) -> Any:
    """A model that pads a picture, takes its channels one by one, and convolves them."""
    openvino = load_openvino()
    operators = openvino.opset13
    picture = operators.parameter(PICTURE.shape, np.float32)
    begin, end = (np.array(amount, np.int64) for amount in amounts)
    wide = operators.pad(picture, begin, end, "constant", np.float32(around))
    shape = np.array(PICTURE.shape[2:]) + begin[2:] + end[2:]
    channels = PICTURE.shape[1] + begin[1] + end[1]
    view = (channels, 1, *shape) if planes else (channels, 1, shape[1], shape[0])
    rows = operators.reshape(wide, np.array(view, np.int64), False)
    result = operators.convolution(rows, KERNEL, [4, 4], [1, 0], [0, 1], [1, 1])
    result.set_friendly_name("result")
    return openvino.Model([result], [picture])


def kinds(model: Any) -> list[str]:
    return [node.get_type_name() for node in model.get_ops()]


def computed(model: Any) -> np.ndarray:
    result: np.ndarray = compiled(model)([PICTURE])[0]
    return result


def test_a_convolution_pads_by_itself() -> None:
    """Beside what it padded before."""
    expected = computed(padded())
    model = padded()
    assert pad_in_convolutions(model) == 1
    assert "Pad" not in kinds(model)
    assert np.allclose(computed(model), expected, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        lambda: padded(around=1.0),
        lambda: padded(([0, 1, 1, 1], [0, 0, 1, 1])),
        lambda: padded(planes=False),
    ],
    ids=["not zeros", "further channels", "another view"],
)
def test_other_padding_stays(model: Any) -> None:
    made = model()
    assert pad_in_convolutions(made) == 0
    assert "Pad" in kinds(made)
