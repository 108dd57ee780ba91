"""Every exported graph against its torch reference, and against what TensorRT wants to see."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import fakeweights
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hyperstyle_export.graphs.builder import OPSET, save_model
from hyperstyle_export.graphs.sharing import save_sharing
from hyperstyle_export.graphs.storage import store_weights
from hyperstyle_export.graphs.stored_inputs import optional_inputs
from hyperstyle_export.methods import GRAPHS, STYLED_GRAPHS
from hyperstyle_export.networks.hypernetwork import with_count
from hyperstyle_export.networks.hyperstyle import HyperStyle, crop_rows
from models import CONFIGS, TINY, build_model
from numpy.typing import NDArray
from onnx_sessions import open_session

Array = NDArray[np.float32]
TOLERANCE = 2e-5
BATCH = 3


class Graphs:
    """All graphs of one model as ONNX Runtime sessions, beside the model."""

    def __init__(self, model: HyperStyle, directory: Path) -> None:
        self.model = model
        self.protos: dict[str, onnx.ModelProto] = {}
        self._sessions: dict[str, ort.InferenceSession] = {}
        for role, build in {**GRAPHS, **STYLED_GRAPHS}.items():
            path = directory / f"{role}.onnx"
            save_model(build(model), path)
            self.protos[role] = onnx.load(path)
            self._sessions[role] = open_session(path)

    def run(self, role: str, **inputs: Array) -> dict[str, Array]:
        session = self._sessions[role]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))


@pytest.fixture(scope="module", params=CONFIGS)
def graphs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    model = build_model(CONFIGS[request.param])
    return Graphs(model, tmp_path_factory.mktemp(request.param))


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def noise(key: str, *shape: int) -> Array:
    return fakeweights.normal(key, shape)


def assert_close(actual: Array, expected: torch.Tensor) -> None:
    reference = expected.numpy()
    assert actual.shape == reference.shape
    assert np.abs(actual - reference).max() <= TOLERANCE * max(1.0, np.abs(reference).max())


def tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(array)


def test_encoder(graphs: Graphs) -> None:
    target = noise("image", BATCH, 3, *graphs.model.config.input_size)
    latents = graphs.run("encoder", target=target)["latents"]
    assert_close(latents, graphs.model.encode(tensor(target)))
    average = graphs.model.latent_avg.numpy()
    w = graphs.model.encoder(tensor(target)).numpy()
    assert np.abs(latents - (w[:, None] + average)).max() <= TOLERANCE


def test_hypernet_adds_codes_and_counts(graphs: Graphs) -> None:
    size = graphs.model.config.input_size
    target, y = noise("image", BATCH, 3, *size), noise("y", BATCH, 3, *size)
    before = noise("codes", BATCH, *_codes_shape(graphs.model))
    feeds = {"target": target, "reconstruction": y, "codes": before}
    codes = graphs.run("hypernet", **feeds)["codes_next"]
    new = with_count(graphs.model.hypernet.codes(tensor(target), tensor(y)))
    assert_close(codes, tensor(before) + new)
    feeds |= {"target": y, "reconstruction": target}
    swapped = graphs.run("hypernet", **feeds)["codes_next"]
    assert np.abs(swapped - codes).max() > 100 * TOLERANCE


@pytest.mark.parametrize("terms", [0, 1, 5])
def test_weights_expand_the_sum_of_codes(graphs: Graphs, terms: int) -> None:
    """What offset codes rest on: one product of the sums instead of a sum of products."""
    model = graphs.model
    rows, columns = _codes_shape(model)
    codes = noise("codes", 5, rows, columns)[:terms] * 0.3
    codes[..., -1] = 1
    weights = graphs.run("weights", codes=codes.sum(0, keepdims=True, dtype=np.float32))
    total = {layer.index: torch.zeros(layer.weight_shape) for layer in model.config.tuned}
    for code in codes:
        for index, offsets in model.hypernet.expand(tensor(code[None])).items():
            total[index] += offsets[0]
    assert set(weights) == {f"weight.{layer.name}" for layer in model.config.tuned}
    for layer in model.config.tuned:
        conv = model.decoder.get_submodule(layer.name).conv
        expected = conv.scale * conv.weight[0] * (1 + total[layer.index])
        assert_close(weights[f"weight.{layer.name}"], expected)


def test_generator_serves_a_batch_with_one_set_of_weights(graphs: Graphs) -> None:
    model = graphs.model
    config = model.config.generator
    latents = noise("latents", BATCH, config.num_latents, config.style_width)
    codes = noise("codes", 1, *_codes_shape(model)) * 0.3
    codes[..., -1] = 2
    outputs = graphs.run("generator", latents=latents, **graphs.run("weights", codes=codes))
    image, reconstruction = model.generate(tensor(latents), model.hypernet.expand(tensor(codes)))
    assert_close(outputs["rendering"], image)
    assert_close(outputs["reconstruction"], reconstruction)
    plain, _ = model.generate(tensor(latents))
    assert (plain - image).abs().max() > 0.01


def test_the_styled_generator_adds_style_offsets(graphs: Graphs) -> None:
    model = graphs.model
    config = model.config.generator
    latents = noise("latents", BATCH, config.num_latents, config.style_width)
    weights = graphs.run("weights", codes=np.zeros((1, *_codes_shape(model)), np.float32))
    plain = graphs.run("generator", latents=latents, **weights)["rendering"]
    weights |= graphs.run("noise")
    styles = model.decoder.styles(tensor(latents))
    widths = [layer.width for layer in optional_inputs(model).styles]
    assert widths == [style.shape[1] for style in styles]
    for rows in (1, BATCH):
        offsets = noise("style_offsets", rows, sum(widths))
        feeds = {"latents": latents, "style_offsets": offsets, **weights}
        fed = graphs.run("styled_generator", **feeds)["rendering"]
        parts = tensor(offsets).split(widths, dim=1)
        edited = [style + part for style, part in zip(styles, parts, strict=True)]
        expected = crop_rows(model.decoder.synthesise(edited), model.config.crop_rows)
        assert_close(fed, expected)
        assert np.abs(fed - plain).max() > 0.1
    zeros = graphs.run("styled_generator", **{**feeds, "style_offsets": 0 * offsets})
    assert np.array_equal(zeros["rendering"], plain)


def test_the_styled_generator_takes_noise_in_place_of_the_stored_one(graphs: Graphs) -> None:
    model = graphs.model
    config = model.config.generator
    latents = noise("latents", 1, config.num_latents, config.style_width)
    weights = graphs.run("weights", codes=np.zeros((1, *_codes_shape(model)), np.float32))
    layers = optional_inputs(model).noise
    assert len(layers) == sum(not layer.is_to_rgb for layer in config.layers)
    drawn = {
        f"noise.{layer.name}": noise(layer.name, 1, 1, layer.side, layer.side) for layer in layers
    }
    stored = graphs.run("noise")
    assert {name: array.shape for name, array in drawn.items()} == {
        name: array.shape for name, array in stored.items()
    }
    zeros = np.zeros((1, optional_inputs(model).style_channels), np.float32)
    feeds = {"latents": latents, "style_offsets": zeros, **weights, **drawn}
    fed = graphs.run("styled_generator", **feeds)["rendering"]
    decoder = copy.deepcopy(model.decoder)
    for number, layer in enumerate(layers):
        getattr(decoder.noises, f"noise_{number}").copy_(tensor(drawn[f"noise.{layer.name}"]))
    assert_close(fed, crop_rows(decoder(tensor(latents)), model.config.crop_rows))


def test_a_layer_without_noise_has_no_input_for_it() -> None:
    model = build_model(TINY)
    model.decoder.convs[2].noise.weight.zero_()
    graph = STYLED_GRAPHS["styled_generator"](model).graph
    inputs = {str(value.name) for value in graph.inputs}
    named = {layer.name for layer in optional_inputs(model).noise}
    assert {name for name in inputs if name.startswith("noise.")} == {f"noise.{n}" for n in named}
    assert "convs.2" not in named
    assert "convs.3" in named


def test_mapping(graphs: Graphs) -> None:
    z = noise("z", BATCH, graphs.model.config.generator.style_width)
    assert_close(graphs.run("mapping", z=z)["w"], graphs.model.decoder.map(tensor(z)))


def test_graphs_are_what_tensorrt_parses(graphs: Graphs) -> None:
    """Opset, written kernel shapes, static channels, batch as the only dynamic axis."""
    for role, proto in graphs.protos.items():
        assert [(o.domain, o.version) for o in proto.opset_import] == [("", OPSET)]
        for node in proto.graph.node:
            if node.op_type in ("Conv", "ConvTranspose"):
                assert "kernel_shape" in {a.name for a in node.attribute}, node.name
        for value in [*proto.graph.input, *proto.graph.output]:
            dims = value.type.tensor_type.shape.dim
            dynamic = [i for i, dim in enumerate(dims) if dim.dim_param]
            fixed = role == "weights" or value.name.startswith(("weight.", "noise."))
            assert dynamic == ([] if fixed else [0]), value.name
            assert all(dim.dim_param or dim.dim_value > 0 for dim in dims)


def test_graph_interfaces_are_the_designs(graphs: Graphs) -> None:
    tuned = [f"weight.{layer.name}" for layer in graphs.model.config.tuned]
    noises = [f"noise.{layer.name}" for layer in optional_inputs(graphs.model).noise]
    rendered = ["rendering", "reconstruction"]
    expected = {
        "encoder": (["target"], ["latents"]),
        "hypernet": (["target", "reconstruction", "codes"], ["codes_next"]),
        "weights": (["codes"], tuned),
        "generator": (["latents", *tuned], rendered),
        "styled_generator": (["latents", *tuned, "style_offsets", *noises], rendered),
        "noise": ([], noises),
        "mapping": (["z"], ["w"]),
    }
    assert set(expected) == set(graphs.protos)
    for role, (inputs, outputs) in expected.items():
        graph = graphs.protos[role].graph
        assert sorted(i.name for i in graph.input) == sorted(inputs)
        assert sorted(o.name for o in graph.output) == sorted(outputs)
        # An input that is an initializer too makes hosts warn, and OpenVINO refuse the graph.
        assert not {tensor.name for tensor in graph.initializer} & set(inputs)


def test_every_graph_opens_quietly(graphs: Graphs, capfd: pytest.CaptureFixture[str]) -> None:
    """With ONNX Runtime's warnings on, as a stranger opens them: nothing to say."""
    for proto in graphs.protos.values():
        options = ort.SessionOptions()
        options.log_severity_level = 2
        ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert capfd.readouterr().err == ""


def test_large_weights_go_beside_the_graph(tmp_path: Path) -> None:
    files = save_model(GRAPHS["weights"](build_model(TINY)), tmp_path / "weights.onnx", 10_000)
    assert [f.name for f in files] == ["weights.onnx", "weights.onnx.data"]
    proto = onnx.load(files[0], load_external_data=False)
    locations = {e.value for t in proto.graph.initializer for e in t.external_data[:1]}
    assert locations == {"weights.onnx.data"}


@pytest.mark.parametrize("storage", ["fp32", "fp16"])
def test_what_edits_styles_reads_the_generators_tensors(storage: str, tmp_path: Path) -> None:
    """`styled_generator` and `noise` are small files, and stored noise loses no bit."""
    model, generator = build_model(CONFIGS["ordinary_only"]), tmp_path / "generator.onnx"
    save_model(store_weights(GRAPHS["generator"](model), storage), generator, external_above=0)
    for role, build in STYLED_GRAPHS.items():
        path = tmp_path / f"{role}.onnx"
        save_sharing(store_weights(build(model), storage), path, [generator])
        stored = onnx.load(path, load_external_data=False).graph.initializer
        locations = {e.value for t in stored for e in t.external_data if e.key == "location"}
        assert locations == {"generator.onnx.data"}
    session = open_session(path)
    names = [output.name for output in session.get_outputs()]
    layers = [layer for layer in model.config.generator.layers if not layer.is_to_rgb]
    assert names == [f"noise.{layer.name}" for layer in layers]
    for number, noise_map in enumerate(session.run(names, {})):
        assert np.array_equal(noise_map, getattr(model.decoder.noises, f"noise_{number}").numpy())


def test_half_storage_halves_the_file_and_keeps_float_arithmetic(tmp_path: Path) -> None:
    model = build_model(TINY)
    codes = np.zeros((1, *_codes_shape(model)), np.float32)
    results, sizes = {}, {}
    for storage in ("fp32", "fp16"):
        path = tmp_path / f"{storage}.onnx"
        save_model(store_weights(GRAPHS["weights"](model), storage), path)
        session = open_session(path)
        results[storage] = session.run(["weight.convs.3"], {"codes": codes})[0]
        sizes[storage] = path.stat().st_size
    assert sizes["fp16"] < 0.6 * sizes["fp32"]
    assert results["fp16"].dtype == np.float32
    difference = np.abs(results["fp16"] - results["fp32"]).max()
    assert 0 < difference <= 2**-11 * np.abs(results["fp32"]).max()


def test_a_weight_of_zero_leaves_its_offset_readable(tmp_path: Path) -> None:
    """Offsets are read back as weight / base - 1: no base weight may vanish, not even in fp16."""
    model = build_model(TINY)
    model.decoder.convs[3].conv.weight[0, 0, 0, 0, 0] = 0
    codes = noise("codes", 1, *_codes_shape(model)) * 0.1
    for storage in ("fp32", "fp16"):
        path = tmp_path / f"{storage}.onnx"
        save_model(store_weights(GRAPHS["weights"](model), storage), path)
        session = open_session(path)
        tuned, base = (
            session.run(["weight.convs.3"], {"codes": c})[0] for c in (codes, np.zeros_like(codes))
        )
        offsets = tuned / base - 1
        # an ordinary layer: the same offset for all nine taps
        assert np.abs(offsets[0, 0] - offsets[0, 0, 1, 1]).max() < 1e-5


def _codes_shape(model: HyperStyle) -> tuple[int, int]:
    return len(model.config.tuned), model.config.hypernetwork.code_width + 1
