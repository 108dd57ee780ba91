"""Gradients that are sums, behind a product that lets OpenVINO compute them in bfloat16."""

from __future__ import annotations

from typing import Any

import numpy as np
from hyperstyle_rt.backends.openvino_gradients import end_gradients_with_products
from hyperstyle_rt.backends.openvino_library import load_openvino
from opened_backends import NEEDS_OPENVINO, compiled, require_bfloat16

pytestmark = NEEDS_OPENVINO

PICTURE = np.random.default_rng(0).standard_normal((1, 32, 64, 64)).astype(np.float32)


def backward_pass() -> Any:
    """A picture between two convolutions, from which the gradient of a bias is summed, too."""
    openvino = load_openvino()
    operators = openvino.opset13
    rng = np.random.default_rng(1)
    picture = operators.parameter(PICTURE.shape, np.float32)
    kernels = [rng.standard_normal((32, 32, 3, 3)).astype(np.float32) / 17 for _ in range(2)]
    one = [1, 1]
    before = operators.convolution(picture, kernels[0], one, one, one, one)
    other = operators.convolution(picture, kernels[1], one, one, one, one)
    slopes = operators.multiply(before, operators.sigmoid(other))
    slopes.set_friendly_name("slopes")
    after = operators.convolution(slopes, kernels[1], one, one, one, one)
    bias = operators.reduce_sum(slopes, np.array([0, 2, 3]), False)
    after.output(0).set_names({"rendering"})
    bias.output(0).set_names({"gradient.bias"})
    return openvino.Model([after, bias], [picture])


def outputs(model: Any, precision: str) -> dict[str, np.ndarray]:
    ready = compiled(model, precision)
    found = ready([PICTURE])
    return {port.get_any_name(): np.array(found[port]) for port in ready.outputs}


def test_nothing_changes_but_the_last_operator() -> None:
    model = backward_pass()
    expected = outputs(model, "f32")
    assert end_gradients_with_products(model) == 1
    found = outputs(model, "f32")
    assert found.keys() == expected.keys() == {"rendering", "gradient.bias"}
    for name, values in expected.items():
        assert found[name].shape == values.shape
        assert np.allclose(found[name], values, rtol=1e-5, atol=1e-4)


def test_what_leads_to_it_is_computed_in_bfloat16() -> None:
    """Which it is not where a gradient ends with a sum."""
    require_bfloat16()
    model = backward_pass()
    end_gradients_with_products(model)
    told = [node.get_rt_info() for node in compiled(model, "bf16").get_runtime_model().get_ops()]
    slopes = [info for info in told if "slopes" in info["originalLayersNames"].astype(str)]
    assert [info["outputPrecisions"].astype(str) for info in slopes] == ["bf16"]
