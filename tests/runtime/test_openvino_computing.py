"""OpenVINO computes what ONNX Runtime does: every graph, constants used in two ways, batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hyperstyle_rt import BackendError, BundleError, Model
from hyperstyle_rt.backends.openvino_constants import separate_shared_constants
from hyperstyle_rt.backends.openvino_library import new_core
from hyperstyle_rt.backends.openvino_permutations import spell_out_permutations
from hyperstyle_rt.backends.protocol import Backend
from hyperstyle_rt.backends.registry import open_backend
from hyperstyle_rt.checking.comparison import (
    compare,
    contenders_at_hand,
    open_contender,
    sample_picture,
)
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from opened_backends import NEEDS_OPENVINO, furthest

pytestmark = NEEDS_OPENVINO

PICTURE = Path(__file__).parents[2] / "examples" / "portrait_0.png"
RELATIVE = 1e-4  # of a tensor's largest value
LARGE = pytest.mark.engines  # compiled for seconds each
GRAPHS = [
    pytest.param(role, marks=LARGE) if "objective" in role else role
    for role in sorted(Bundle.open(find_bundle("portraits")).manifest.graphs)
]


@pytest.fixture(scope="module")
def both() -> Iterator[dict[str, Backend]]:
    """ONNX Runtime and OpenVINO on the bundle portraits."""
    bundle = Bundle.open(find_bundle("portraits"))
    backends = {name: open_backend(name, bundle, 1) for name in ("cpu", "openvino")}
    yield backends
    for backend in backends.values():
        backend.close()


@pytest.mark.parametrize("role", GRAPHS)
def test_every_graph_computes_what_onnx_runtime_computes(
    role: str, both: dict[str, Backend]
) -> None:
    """Gradients, too: OpenVINO mixes constants up that are used in two ways (see below).

    Where an activation is zero but for rounding, the two may find it on either side, and gradients
    then differ by 1e-3: with half of the inputs, other ones on other processors. Constants mixed up
    spoil every one.
    """
    signatures = [backend.signature(role) for backend in both.values()]
    assert signatures[0] == signatures[1]
    attempts = 12 if "objective" in role else 1
    far: dict[str, float] = {}
    for seed in range(attempts):
        far = differences(role, both, seed)
        if max(far.values()) < RELATIVE:
            return
    pytest.fail(f"by none of {attempts} inputs the same: {far}")


def differences(role: str, both: dict[str, Backend], seed: int) -> dict[str, float]:
    """Output -> the largest difference of the two backends, of its largest value."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for name, spec in both["cpu"].signature(role).inputs.items():
        scale = 0.05 if name.startswith(("weight.", "gradient.", "parameter.")) else 1.0
        shape = [length or 1 for length in spec.shape]
        feeds[name] = scale * rng.standard_normal(shape, np.float32)
    expected, actual = (
        {
            name: backend.download(buffer)
            for name, buffer in backend.run(
                role, {name: backend.upload(array) for name, array in feeds.items()}
            ).items()
        }
        for backend in both.values()
    )
    assert list(actual) == list(expected)
    return {name: furthest(expected[name], actual[name]) for name in expected}


def _conv(**attributes: Any) -> dict[str, Any]:
    return {"kernel_shape": [3, 3], "pads": [1] * 4, **attributes}


SHARED: dict[str, tuple[list[int], list[int], list[Any]]] = {
    # shape of the constant, of the two inputs, nodes (operator, inputs, output, attributes)
    "matrix": (
        [16, 16],
        [4, 16],
        [
            ("Gemm", ["a", "w"], "y", {"transB": 1}),
            ("Gemm", ["b", "w"], "z", {}),
        ],
    ),
    "transposed by a node": (
        [16, 16],
        [4, 16],
        [
            ("MatMul", ["a", "w"], "y", {}),
            ("Transpose", ["w"], "t", {"perm": [1, 0]}),
            ("MatMul", ["b", "t"], "z", {}),
        ],
    ),
    "kernels": (
        [16, 16, 3, 3],
        [1, 16, 8, 8],
        [
            ("Conv", ["a", "w"], "y", _conv()),
            ("ConvTranspose", ["b", "w"], "z", _conv(strides=[2, 2], output_padding=[1, 1])),
        ],
    ),
    "kernels of groups": (
        [16, 8, 3, 3],
        [1, 16, 8, 8],
        [
            ("Conv", ["a", "w"], "y", _conv(group=2)),
            ("ConvTranspose", ["b", "w"], "z", _conv(group=2)),
        ],
    ),
}


@pytest.mark.parametrize("stored", ["float32", "float16"])
@pytest.mark.parametrize("case", SHARED)
def test_a_constant_may_be_used_in_two_ways(case: str, stored: str, tmp_path: Path) -> None:
    """As kept and transposed: OpenVINO alone computes the second with what the first has packed."""
    onnx = pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    helper, rng = onnx.helper, np.random.default_rng(0)
    shape, given, nodes = SHARED[case]
    weight = onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(stored), "stored")
    listed = [helper.make_node("Cast", ["stored"], ["w"], to=onnx.TensorProto.FLOAT)]
    listed += [helper.make_node(kind, names, [out], **more) for kind, names, out, more in nodes]
    graph = helper.make_graph(
        listed,
        "shared",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, given) for name in "ab"],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "yz"],
        [weight],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content = made.SerializeToString()
    feeds = {name: rng.standard_normal(given, np.float32) for name in "ab"}
    expected = ort.InferenceSession(content).run(["y", "z"], feeds)
    core = new_core()
    model = core.read_model(content)
    assert separate_shared_constants(model) == 1
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    actual = compiled(feeds)
    for name, array in zip("yz", expected, strict=True):
        assert furthest(array, actual[name]) < 1e-5


def test_channels_are_reordered_before_a_convolution() -> None:
    """An order that is not its own inverse, as the wavelets of `faces` have it."""
    onnx_helper = pytest.importorskip("onnx").helper
    import onnxruntime as ort
    from onnx import TensorProto, numpy_helper

    rng = np.random.default_rng(0)
    kernels = rng.standard_normal((5, 6, 3, 3)).astype(np.float32)
    graph = onnx_helper.make_graph(
        [
            onnx_helper.make_node("Gather", ["x", "order"], ["reordered"], axis=1),
            onnx_helper.make_node("Conv", ["reordered", "kernels"], ["y"], kernel_shape=[3, 3]),
        ],
        "permuted",
        [onnx_helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6, 8, 8])],
        [onnx_helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5, 6, 6])],
        [
            numpy_helper.from_array(np.array([0, 3, 5, 1, 2, 4]), "order"),
            numpy_helper.from_array(kernels, "kernels"),
        ],
    )
    opset = onnx_helper.make_opsetid("", 18)
    content = onnx_helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
    feeds = {"x": rng.standard_normal((1, 6, 8, 8)).astype(np.float32)}
    (expected,) = ort.InferenceSession(content).run(["y"], feeds)
    core = new_core()
    model = core.read_model(content)
    assert spell_out_permutations(model) == 1
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert furthest(expected, compiled(feeds)["y"]) < 1e-5


def test_uses_of_one_kind_share_a_constant() -> None:
    """Nothing is copied in graphs that go one way."""
    core = new_core()
    for role in ("encoder", "hypernet", "weights"):
        model = core.read_model(str(find_bundle("portraits") / f"{role}.onnx"))
        assert separate_shared_constants(model) == 0
    objective = core.read_model(str(find_bundle("portraits") / "objective.onnx"))
    assert separate_shared_constants(objective) > 0


def test_batches_are_their_rows_and_results_are_kept(both: dict[str, Backend]) -> None:
    """A later run of the same graph writes to other arrays."""
    backend = both["openvino"]
    z = np.random.default_rng(0).standard_normal((3, 256), np.float32)
    together = backend.run("mapping", {"z": backend.upload(z)})["w"]
    kept = together.copy()
    rows = [backend.run("mapping", {"z": backend.upload(row[None])})["w"] for row in z]
    assert np.array_equal(np.concatenate(rows), kept)
    assert np.array_equal(together, kept)
    assert backend.largest_batch == 1


@LARGE
def test_an_inversion_and_its_refinement_are_those_of_onnx_runtime() -> None:
    results = []
    for name in ("cpu", "openvino"):
        with Model.load("portraits", name, threads=1) as model:
            inversion = model.invert(PICTURE, 2, align="never")
            results.append(model.optimise(inversion, PICTURE, steps=1, align="never"))
    expected, actual = results
    # Adam's first step goes by the signs of the gradients: near zero rounding decides of them.
    assert np.sqrt(np.square(actual.output - expected.output).mean()) < 1e-4
    assert furthest(expected.latents, actual.latents) < RELATIVE
    assert actual.computed["backend"] == "openvino"
    assert actual.computed["provider"].startswith("OpenVINO 2")
    assert actual.computed["precision"] == "fp32"


def test_inputs_are_compared_with_the_signature(both: dict[str, Backend]) -> None:
    backend = both["openvino"]
    target = np.zeros((1, 3, 128, 128), np.float32)
    with pytest.raises(BackendError, match="takes target as a buffer, not as list"):
        backend.run("encoder", {"target": target.tolist()})
    with pytest.raises(BackendError, match=r"takes target as float32 \[N,3,128,128\], not as"):
        backend.run("encoder", {"target": target[..., :64]})
    with pytest.raises(BackendError, match="has no input picture, only target"):
        backend.run("encoder", {"target": target, "picture": target})
    with pytest.raises(BackendError, match="was given batches of 1, 2"):
        codes = np.zeros((2, 7, 65), np.float32)
        backend.run("hypernet", {"target": target, "reconstruction": target, "codes": codes})
    with pytest.raises(BundleError, match="has no graph 'no such'"):
        backend.signature("no such")


def test_check_finds_no_difference(tiny_bundle: Path) -> None:
    """Within the bounds of fp32, of every graph and of whole inversions."""
    bundle = Bundle.open(tiny_bundle)
    contenders = [open_contender(name, bundle, 1) for name in ("cpu", "openvino")]
    assert contenders_at_hand(bundle)[:2] == ["cpu", "openvino"]
    pictures = [sample_picture(bundle, 0)]
    comparison = compare(*contenders, bundle, pictures, 2, lambda _said: None)
    assert comparison.outside() == []
