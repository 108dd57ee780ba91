"""Graphs in fp16: as close as fp16 can be, whatever the size of styles, and typed as designed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakeweights
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hyperstyle_export.bundles.half_graphs import add_half_graphs
from hyperstyle_export.bundles.recovery import recover_model
from hyperstyle_export.bundles.rounding import round_half_tensors, write_rounded_half
from hyperstyle_export.bundles.writer import BuildError, BundleFacts, write_bundle
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.methods import GRAPHS, HALF_GRAPHS, HALF_SHARING_GRAPHS, STYLED_GRAPHS
from hyperstyle_export.networks.hyperstyle import HyperStyle
from hyperstyle_rt import Inversion
from hyperstyle_rt import Model as Runtime
from hyperstyle_rt.checking.comparison import sample_picture
from hyperstyle_rt.cli.app import app
from hyperstyle_rt.errors import BundleError
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.imaging.pictures import read_picture, write_picture
from models import CONFIGS, TINY, build_model
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx_sessions import open_session
from synthetic import official_config
from typer.testing import CliRunner

Array = NDArray[np.float32]
MIN_PSNR = 45.0
ITERATIONS = 5


class Pair:
    """The graphs of a model in float32, and in fp16 with every half tensor really rounded."""

    def __init__(self, model: HyperStyle, directory: Path) -> None:
        self.config = model.config
        self._sessions: dict[str, dict[str, ort.InferenceSession]] = {"fp32": {}, "fp16": {}}
        self.protos: dict[str, onnx.ModelProto] = {}
        for role, build in HALF_GRAPHS.items():
            single, half = directory / f"{role}.onnx", directory / f"{role}.fp16.onnx"
            save_model(GRAPHS[role](model), single)
            save_model(build(model), half)
            self._sessions["fp32"][role] = open_session(single)
            rounded = round_half_tensors(onnx.load(half))
            onnx.save(rounded, half, save_as_external_data=True, location="rounded.data")
            onnx.checker.check_model(half)
            self._sessions["fp16"][role] = open_session(half)
            (directory / "rounded.data").unlink(missing_ok=True)

    def run(self, precision: str, role: str, **inputs: Array) -> dict[str, Array]:
        session = self._sessions[precision][role]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))

    def invert(self, precision: str) -> list[Array]:
        """Images after every iteration, on noise."""
        hypernetwork = self.config.hypernetwork
        image = fakeweights.normal("image", (1, 3, *self.config.input_size)).clip(-1, 1)
        codes = np.zeros((1, len(self.config.tuned), hypernetwork.code_width + 1), np.float32)
        latents = self.run(precision, "encoder", target=image)["latents"]
        images, y = [], self._generate(precision, latents, codes)["reconstruction"]
        for _ in range(ITERATIONS):
            feeds = {"target": image, "reconstruction": y, "codes": codes}
            codes = self.run(precision, "hypernet", **feeds)["codes_next"]
            outputs = self._generate(precision, latents, codes)
            images.append(outputs["rendering"])
            y = outputs["reconstruction"]
        return images

    def _generate(self, precision: str, latents: Array, codes: Array) -> dict[str, Array]:
        weights = self.run(precision, "weights", codes=codes)
        return self.run(precision, "generator", latents=latents, **weights)


def scale_styles(model: HyperStyle, factor: float) -> HyperStyle:
    """Multiply the styles of the demodulated layers, which changes no picture (but for epsilon)."""
    for name, parameter in model.decoder.named_parameters():
        if ".modulation." in name and "to_rgb" not in name:
            parameter.mul_(factor)
    return model


def psnr(images: Array, reference: Array) -> float:
    """In dB, for a peak of 2: pictures are in [-1,1]."""
    return float(10 * np.log10(4 / np.square(images - reference, dtype=np.float64).mean()))


def assert_close(pair: Pair) -> None:
    single, half = pair.invert("fp32"), pair.invert("fp16")
    assert np.isfinite(half).all()
    assert psnr(half[-1], single[-1]) >= MIN_PSNR
    assert np.abs(half[-1] - single[-1]).max() > 0  # it is another computation


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


# 1e6 would not even fit into fp16; at 1e-4 epsilon decides.
CASES = [*((name, factor) for name in CONFIGS for factor in (1, 20)), ("tiny", 1e-4), ("cars", 1e6)]


@pytest.mark.parametrize(("name", "factor"), CASES)
def test_half_follows_float_through_an_inversion(name: str, factor: float, tmp_path: Path) -> None:
    assert_close(Pair(scale_styles(build_model(CONFIGS[name]), factor), tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1, 20])
def test_half_follows_float_in_the_official_layout(factor: float, tmp_path: Path) -> None:
    assert_close(Pair(scale_styles(build_model(official_config(256)), factor), tmp_path))


def test_weights_of_any_size_fit(tmp_path: Path) -> None:
    """Demodulation makes the size of a layer's weights irrelevant: a layer may have drifted."""
    model = build_model(TINY)
    model.decoder.convs[1].conv.weight.mul_(1e7)
    model.decoder.convs[2].conv.weight.mul_(1e-3)
    assert_close(Pair(model, tmp_path))


def test_styles_of_to_rgb_may_leave_the_range_of_pictures(tmp_path: Path) -> None:
    model = build_model(TINY)
    for name, parameter in model.decoder.named_parameters():
        if ".modulation." in name:
            parameter.mul_(20)
    pair = Pair(model, tmp_path)
    single, half = pair.invert("fp32"), pair.invert("fp16")
    assert np.abs(single[-1]).max() > 10
    assert np.isfinite(half).all()
    assert psnr(half[-1], single[-1]) >= MIN_PSNR


def test_only_the_kernels_between_graphs_are_halves(tmp_path: Path) -> None:
    model = build_model(TINY)
    for role, build in {**HALF_GRAPHS, **HALF_SHARING_GRAPHS}.items():
        path = tmp_path / f"{role}.onnx"
        save_model(build(model), path)
        graph = onnx.load(path).graph
        for value in [*graph.input, *graph.output]:
            half = value.type.tensor_type.elem_type == TensorProto.FLOAT16
            assert half == value.name.startswith(("weight.", "tuned.", "base.")), value.name


def test_convolutions_are_half_and_demodulation_is_not(tmp_path: Path) -> None:
    save_model(HALF_GRAPHS["generator"](build_model(TINY)), tmp_path / "generator.onnx")
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "generator.onnx"))
    graph = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in [*graph.input, *graph.value_info]}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        rgb_sum = node.op_type == "ConvTranspose" and node.input[1] == "rgb_fir"
        if node.op_type in ("Conv", "ConvTranspose") and not rgb_sum:
            assert {types[name] for name in node.input} == {TensorProto.FLOAT16}, node.name
        elif node.op_type in ("ReduceSumSquare", "Gemm", "Sqrt") or rgb_sum:
            assert TensorProto.FLOAT16 not in {types[name] for name in node.input}, node.name


def test_the_styled_generator_in_half_follows_that_in_float(tmp_path: Path) -> None:
    """Styles and noise stay float32; without edits it is the plain generator, bit by bit."""
    model, outputs = build_model(TINY), {}
    latents = fakeweights.normal("latents", (2, 8, 16))
    for precision, graphs in (
        ("fp32", {**GRAPHS, **STYLED_GRAPHS}),
        ("fp16", {**HALF_GRAPHS, **STYLED_GRAPHS, **HALF_SHARING_GRAPHS}),
    ):

        def run(role: str, graphs: Any = graphs, **inputs: Array) -> dict[str, Array]:
            save_model(graphs[role](model), tmp_path / "graph.onnx")
            session = open_session(tmp_path / "graph.onnx")
            names = [output.name for output in session.get_outputs()]
            return dict(zip(names, session.run(names, inputs), strict=True))

        feeds = {"latents": latents, **run("weights", codes=np.zeros((1, 7, 17), np.float32))}
        plain = run("generator", **feeds)["rendering"]
        feeds |= run("noise")
        zeros = np.zeros((1, 148), np.float32)
        assert np.array_equal(
            run("styled_generator", style_offsets=zeros, **feeds)["rendering"], plain
        )
        edit = 0.3 * fakeweights.normal("styles", (1, 148))
        outputs[precision] = run("styled_generator", style_offsets=edit, **feeds)["rendering"]
        assert np.abs(outputs[precision] - plain).max() > 0.1
    assert psnr(outputs["fp16"], outputs["fp32"]) >= MIN_PSNR


# ------------------------------------------------------------------------- half graphs in a bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    """The tiny bundle before and after graphs in fp16 were added."""
    directory = tmp_path_factory.mktemp("half")
    model = build_model(TINY)
    before = write_bundle(model, directory, BundleFacts("half"), "fp32", lambda _step: None)
    return before, add_half_graphs(model, before, lambda _step: None)


def test_half_graphs_leave_inversions_valid(
    bundle: tuple[Bundle, Bundle], picture: np.ndarray
) -> None:
    before, after = bundle
    after.verify()
    assert after.manifest.space == before.manifest.space
    inversion = Runtime.load(before.directory, "cpu").invert(picture, 2)
    half = Runtime.load(after.directory, "cpu", precision="fp16")
    assert psnr(half.synthesise(inversion)[0], inversion.output) >= MIN_PSNR


def test_inversion_in_half_is_one_of_the_same_bundle(
    bundle: tuple[Bundle, Bundle], picture: np.ndarray, tmp_path: Path
) -> None:
    single = Runtime.load(bundle[1].directory, "cpu")
    half = Runtime.load(bundle[1].directory, "cpu", precision="fp16")
    inversion = half.invert(picture, 5)
    inversion.save(tmp_path / "half.safetensors")
    again = Inversion.load(tmp_path / "half.safetensors")
    reference = single.invert(picture, 5)
    assert np.abs(inversion.output - reference.output).max() > 0
    assert psnr(inversion.output, reference.output) >= MIN_PSNR
    assert psnr(single.synthesise(again)[0], inversion.output) >= MIN_PSNR


def test_offsets_are_not_read_from_halves(
    bundle: tuple[Bundle, Bundle], picture: np.ndarray
) -> None:
    half = Runtime.load(bundle[1].directory, "cpu", precision="fp16")
    inversion = half.invert(picture, 1)
    expected = Runtime.load(bundle[1].directory, "cpu").offsets(inversion)
    for index, offsets in half.offsets(inversion).items():
        assert np.array_equal(offsets, expected[index])


def test_command_line_inverts_in_half(
    bundle: tuple[Bundle, Bundle], picture: np.ndarray, tmp_path: Path
) -> None:
    write_picture(tmp_path / "face.png", picture)
    results = {}
    for precision in ("fp32", "fp16"):
        out = tmp_path / f"{precision}.png"
        options = ["--bundle", str(bundle[1].directory), "--backend", "cpu", "--out", str(out)]
        command = ["invert", str(tmp_path / "face.png"), *options, "--precision", precision]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.stderr
        results[precision] = read_picture(out).astype(int)
    assert np.abs(results["fp16"] - results["fp32"]).max() <= 2


@pytest.mark.parametrize("factor", [1, 20])
def test_the_bundle_portraits_in_half(factor: float, tmp_path: Path) -> None:
    """Its networks are read off its graphs: the bundle itself has none in fp16."""
    try:
        default = Bundle.open(find_bundle("portraits"))
    except BundleError as error:
        pytest.skip(str(error))
    model = scale_styles(recover_model(default), factor)
    facts, silent = BundleFacts("half"), lambda _step: None
    directory = tmp_path / "bundle"
    directory.mkdir()
    bundle = add_half_graphs(model, write_bundle(model, directory, facts, "fp32", silent), silent)
    picture = sample_picture(bundle, 0)
    (tmp_path / "rounded").mkdir()
    rounded = write_rounded_half(bundle, tmp_path / "rounded")
    rounded.verify()
    with Runtime.load(bundle.directory, "cpu") as runtime:
        reference = runtime.invert(picture, ITERATIONS)
    with Runtime.load(rounded.directory, "cpu", precision="fp16") as runtime:
        half = runtime.invert(picture, ITERATIONS)
    assert np.isfinite(half.output).all()
    assert psnr(half.output, reference.output) >= MIN_PSNR


def test_a_weight_that_does_not_fit_is_refused_in_one_sentence(tmp_path: Path) -> None:
    model = build_model(TINY)
    model.hypernet.body[0].conv1.weight[0, 0, 0, 0] = 1e9
    before = write_bundle(model, tmp_path, BundleFacts("huge"), "fp32", lambda _step: None)
    with pytest.raises(
        BuildError, match=r"hypernet\.body\.0\.conv1\.weight does not fit into fp16"
    ):
        add_half_graphs(model, before, lambda _step: None)
    Bundle.open(tmp_path).verify()
    assert not Bundle.open(tmp_path).manifest.precisions


# ---------------------------------------------------------------------------------- rounding


def overflowing() -> onnx.ModelProto:
    """Two convolutions, the first of which leaves the range of fp16: 1e2 * 1e3 = 1e5, then 1."""
    kernels = [
        helper.make_tensor(name, TensorProto.FLOAT16, [1, 1, 1, 1], [value])
        for name, value in (("up", 1e3), ("down", 1e-5))
    ]
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["half", "up"], ["large"], kernel_shape=[1, 1]),
        helper.make_node("Conv", ["large", "down"], ["small"], kernel_shape=[1, 1]),
        helper.make_node("Cast", ["small"], ["y"], to=TensorProto.FLOAT),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 1, 1]) for n in "xy")
    graph = helper.make_graph(nodes, "overflowing", [x], [y], kernels)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_rounding_shows_the_overflow_that_onnx_runtime_hides() -> None:
    feeds = {"x": np.full((1, 1, 1, 1), 100, np.float32)}
    results = {}
    for name, model in (
        ("plain", overflowing()),
        ("rounded", round_half_tensors(overflowing())),
    ):
        session = open_session(model.SerializeToString())
        results[name] = session.run(None, feeds)[0].item()
    assert abs(results["plain"] - 1) < 0.01
    assert results["rounded"] == np.inf
