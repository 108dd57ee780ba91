"""Numbers that are computed with pictures, at the rank of pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hyperstyle_rt.backends.openvino_library import load_openvino
from hyperstyle_rt.backends.openvino_ranks import raise_ranks_beside_pictures
from opened_backends import NEEDS_OPENVINO, compiled, require_bfloat16

pytestmark = NEEDS_OPENVINO

PICTURE = np.random.default_rng(0).standard_normal((1, 32, 64, 64)).astype(np.float32)
PLANE = np.random.default_rng(1).standard_normal((1, 1, 64, 64)).astype(np.float32)
STRENGTH = np.array([0.5], np.float32)


def noisy(*, first: bool = False) -> Any:
    """A convolution's picture with noise times its strength, and a convolution of that."""
    openvino = load_openvino()
    operators = openvino.opset13
    rng = np.random.default_rng(2)
    picture, plane, strength = (
        operators.parameter(values.shape, np.float32) for values in (PICTURE, PLANE, STRENGTH)
    )
    kernels = [rng.standard_normal((32, 32, 3, 3)).astype(np.float32) / 17 for _ in range(2)]
    one = [1, 1]
    x = operators.convolution(picture, kernels[0], one, one, one, one)
    noise = operators.multiply(*((strength, plane) if first else (plane, strength)))
    x = operators.multiply(operators.tanh(operators.add(x, noise)), x)
    x = operators.convolution(x, kernels[1], *[one] * 4)
    return openvino.Model([x], [picture, plane, strength])


def layouts(model: Any) -> list[str]:
    told = [node.get_rt_info() for node in compiled(model).get_runtime_model().get_ops()]
    chains = [info for info in told if info["layerType"].astype(str) == "Subgraph"]
    return [info["outputLayouts"].astype(str) for info in chains]


@pytest.mark.parametrize("first", [False, True])
def test_nothing_changes_but_the_rank(first: bool) -> None:
    model = noisy(first=first)
    inputs = [PICTURE, PLANE, STRENGTH]
    expected = compiled(model)(inputs)[0]
    assert raise_ranks_beside_pictures(model) == 1
    assert np.allclose(compiled(model)(inputs)[0], expected, atol=1e-5)
    assert raise_ranks_beside_pictures(model) == 0


def test_pictures_keep_their_layout() -> None:
    """The one of convolutions, channels last, where OpenVINO has kernels for it."""
    require_bfloat16()
    model = noisy()
    raise_ranks_beside_pictures(model)
    assert "acdb" in layouts(model)


def test_constants_and_vectors_stay() -> None:
    openvino = load_openvino()
    operators = openvino.opset13
    picture = operators.parameter(PICTURE.shape, np.float32)
    vector = operators.parameter([8], np.float32)
    scaled = operators.multiply(picture, operators.constant(STRENGTH))
    summed = operators.add(vector, operators.parameter([1], np.float32))
    model = openvino.Model([scaled, summed], [picture, vector, summed.input_value(1).get_node()])
    assert raise_ranks_beside_pictures(model) == 0
