"""Channels in another order, as wavelets have it: OpenVINO moves them right, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from hyperstyle_rt.backends import openvino_permutations
from hyperstyle_rt.backends.openvino_library import new_core
from hyperstyle_rt.backends.openvino_permutations import spell_out_permutations
from opened_backends import NEEDS_OPENVINO, furthest

pytestmark = NEEDS_OPENVINO

GROUPS, PLACES = 5, 4
BANDS = [
    place for group in range(GROUPS) for place in (group, *(5 + 3 * group + n for n in (0, 1, 2)))
]
"""One channel of a low band and three of a high one in every group."""

MIXED = np.random.default_rng(3).permutation(GROUPS * PLACES).tolist()


def wavelet(order: list[int], to_bands: bool, stored: np.dtype) -> bytes:
    """A step of a wavelet with stored kernels, up in size, or down and to bands."""
    helper = pytest.importorskip("onnx").helper
    from onnx import TensorProto, numpy_helper

    channels = GROUPS * PLACES
    kernels = np.random.default_rng(0).standard_normal((channels, 1, 2, 2)).astype(stored)
    shapes = {"x": [1, GROUPS, 8, 8], "y": [1, channels, 4, 4]}
    if to_bands:
        between, last = ["apart", "order"], np.argsort(order)
        nodes = [
            helper.make_node("Conv", ["x", "k"], ["apart"], group=GROUPS, strides=[2, 2]),
            helper.make_node("Gather", between, ["y"], axis=1),
        ]
    else:
        shapes = {"x": shapes["y"], "y": shapes["x"]}
        last = np.array(order)
        nodes = [
            helper.make_node("Gather", ["x", "order"], ["apart"], axis=1),
            helper.make_node("ConvTranspose", ["apart", "k"], ["y"], group=GROUPS, strides=[2, 2]),
        ]
    to_float = helper.make_node("Cast", ["stored"], ["k"], to=TensorProto.FLOAT)
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name])] for name in "xy"
    )
    tensors = [numpy_helper.from_array(kernels, "stored"), numpy_helper.from_array(last, "order")]
    graph = helper.make_graph([to_float, *nodes], "wavelet", inputs, outputs, tensors)
    opset = helper.make_opsetid("", 18)
    content: bytes = helper.make_model(
        graph, opset_imports=[opset], ir_version=9
    ).SerializeToString()
    return content


@pytest.mark.parametrize("to_bands", [False, True], ids=["up", "down"])
@pytest.mark.parametrize("order", [BANDS, MIXED], ids=["bands", "mixed"])
@pytest.mark.parametrize(
    ("stored", "few"), [(np.float32, None), (np.float16, None), (np.float32, 0)]
)
def test_channels_are_reordered(
    order: list[int],
    to_bands: bool,
    stored: np.dtype,
    few: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By one convolution of all channels, or where its kernel would be large, by themselves."""
    import onnxruntime as ort

    if few is not None:
        monkeypatch.setattr(openvino_permutations, "_FEW", few)

    content = wavelet(order, to_bands, stored)
    size = (1, GROUPS, 8, 8) if to_bands else (1, GROUPS * PLACES, 4, 4)
    feeds = {"x": np.random.default_rng(1).standard_normal(size).astype(np.float32)}
    (expected,) = ort.InferenceSession(content).run(["y"], feeds)
    core = new_core()
    model = core.read_model(content)
    assert spell_out_permutations(model) == 1
    kinds = [node.get_type_name() for node in model.get_ops()]
    assert ("Split" in kinds) == (few == 0)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert furthest(expected, compiled(feeds)["y"]) < 1e-5
