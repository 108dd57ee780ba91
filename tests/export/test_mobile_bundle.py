"""MobileStyleGAN as a bundle: its graphs against torch, and the bundle as a user runs it."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import fakeweights
import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from hyperstyle_export import building
from hyperstyle_export.bundles.mobile_verification import check_mobile, measure_mobile
from hyperstyle_export.bundles.mobile_writer import own_graphs, shared_graphs, write_mobile_bundle
from hyperstyle_export.bundles.staging import BuildError
from hyperstyle_export.bundles.writer import BundleFacts
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.graphs.mobile_objectives import DRAFT_OBJECTIVE, EXTRAS
from hyperstyle_export.graphs.mobile_tensors import (
    feature_shape,
    mobile_parameters,
)
from hyperstyle_export.graphs.objective import LEAVES, gradient_name
from hyperstyle_export.networks.mobile_model import MobileModel
from hyperstyle_export.networks.refinement import LpipsTerm, loss_terms
from hyperstyle_export.readers import mobile_parts, mobilestylegan_ir
from hyperstyle_export.readers.mobile_parts import read_draft, read_latent_encoder
from hyperstyle_export.readers.torch_files import CheckpointError
from hyperstyle_export.requests import (
    BuildRequest,
    BundleOptions,
    CheckpointOptions,
    LpipsOptions,
    Precision,
    Storage,
)
from hyperstyle_rt import Model
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.formats.bundle import Bundle
from mobile_models import BLOCKS, SIDE, tiny_mobile_model, whole_picture
from mobilestylegan_files import tiny_files
from numpy.typing import NDArray
from photos.encoder import save_encoder
from photos.small import save_head

Array = NDArray[np.float32]

EXACT = 1e-4
BIG = 64


@pytest.fixture(scope="module")
def model() -> MobileModel:
    return tiny_mobile_model()


class Graphs:
    """The graphs of a model in ONNX Runtime, and inputs for all of them."""

    def __init__(self, model: MobileModel, folder: Path) -> None:
        self.model, self._folder = model, folder
        self._built = {**own_graphs(model), **shared_graphs(model)}
        self._sessions: dict[str, ort.InferenceSession] = {}
        config = model.generator.config
        self.target = normal("target", 1, 3, SIDE, SIDE).clip(-1, 1)
        self.values: dict[str, Array] = {
            "latents": normal("latents", 1, config.num_latents, config.style_width),
            "correction": 0.1 * normal("correction", 1, 3, SIDE, SIDE),
            "term_weights": np.array([0.7, 0.5, 1.3], np.float32),
            "pull": 1e-3 * normal("pull", 1, 3, SIDE, SIDE),
        }
        for name, kernel in self.run("weights").items():
            self.values[name] = kernel * (1 + 0.1 * normal(name, *kernel.shape))
        for name, noise in self.run("noise").items():
            self.values[name] = noise + 0.1 * normal(name, *noise.shape)
        self.values |= self.run("features", {"target": self.target})
        self.values |= self.run("parameters")
        shape = feature_shape(config)
        self.values["feature_offset"] = 0.1 * normal("feature_offset", 1, *shape)

    def run(self, role: str, given: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Run a graph on those of the values that it reads, and of `given`."""
        if role not in self._sessions:
            path = self._folder / f"{role}.onnx"
            save_model(self._built[role](), path)
            options = ort.SessionOptions()
            options.intra_op_num_threads = 1
            self._sessions[role] = ort.InferenceSession(path, options)
        session, values = self._sessions[role], {**self.values, **(given or {})}
        names = [output.name for output in session.get_outputs()]
        fed = {value.name: np.float32(values[value.name]) for value in session.get_inputs()}
        return dict(zip(names, session.run(names, fed), strict=True))


def normal(key: str, *shape: int) -> Array:
    return np.float32(fakeweights.normal(key, shape))


@pytest.fixture(scope="module")
def graphs(model: MobileModel, tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    return Graphs(model, tmp_path_factory.mktemp("graphs"))


def reference(graphs: Graphs, role: str, fixed: Mapping[str, Array]) -> dict[str, Array]:
    """An objective's outputs by torch."""
    model, values = graphs.model, graphs.values
    given = [name for name in values if name.startswith(LEAVES[role])]
    leaves = {name: torch.from_numpy(np.float32(values[name])).requires_grad_() for name in given}
    generator = model.generator
    kernels = {n.removeprefix("weight."): v for n, v in leaves.items() if n.startswith("weight.")}
    if not kernels and "feature_offset" not in leaves:
        stored = {n: v for n, v in values.items() if n.startswith("weight.")}
        kernels = {n.removeprefix("weight."): torch.from_numpy(v) for n, v in stored.items()}
    latents = leaves.get("latents", torch.from_numpy(values["latents"]))
    if role == "draft_objective":
        picture = model.sketch(latents, kernels) + torch.from_numpy(fixed["correction"])
    else:
        factors = {parameter.name: parameter.factor for parameter in mobile_parameters(generator)}
        picture = whole_picture(generator, leaves, latents, kernels, factors.__getitem__)
    seen = F.adaptive_avg_pool2d(picture, SIDE)
    mask, target = (torch.from_numpy(fixed[name]) for name in ("mask", "target"))
    assert model.lpips is not None
    term = LpipsTerm(model.lpips)
    wanted = term.features(torch.from_numpy(graphs.target))
    terms = loss_terms(picture, target, term.loss(term.features(seen), wanted, mask), mask)
    loss = (torch.from_numpy(fixed["term_weights"]) * terms).sum()
    (loss + (torch.from_numpy(fixed["pull"]) * seen).sum()).backward()
    outputs = {"loss": loss[None], "terms": terms, "rendering": picture, "reconstruction": seen}
    outputs |= {
        gradient_name(name): leaf.grad for name, leaf in leaves.items() if leaf.grad is not None
    }
    return {name: value.detach().numpy() for name, value in outputs.items()}


@pytest.mark.parametrize("role", [*EXTRAS, DRAFT_OBJECTIVE])
def test_gradients_equal_autograds(graphs: Graphs, role: str) -> None:
    """Of latents in every row, of kernels and of noise; of the draft too."""
    side = SIDE if role == "draft_objective" else BIG
    fixed = {
        **graphs.values,
        "mask": np.abs(normal("mask", 1, 1, side, side)).clip(0, 1),
        "target": normal("target", 1, 3, side, side).clip(-1, 1),
    }
    actual, expected = graphs.run(role, fixed), reference(graphs, role, fixed)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(float(np.linalg.norm(value)), 1e-12)
        assert float(np.linalg.norm(actual[name] - value)) <= EXACT * scale, name
    leaves = [name for name in expected if name.startswith("gradient.")]
    assert len(leaves) > 0 and all(np.abs(expected[name]).max() > 0 for name in leaves)


def test_the_draft_changes_what_it_has_and_nothing_else(graphs: Graphs) -> None:
    fixed = {"mask": np.ones((1, 1, SIDE, SIDE), np.float32), "target": graphs.target}
    outputs = graphs.run("draft_objective", fixed)
    kernels = graphs.model.generator.config.kernels
    given = [layer.name for layer in kernels if f"gradient.{layer.name}" in outputs]
    assert given == [layer.name for layer in kernels[: 2 * BLOCKS + 1]]
    rows = np.abs(outputs["gradient.latents"][0]).max(1) > 0
    assert rows.tolist() == [row <= 3 * BLOCKS for row in range(len(rows))]


def test_a_correction_turns_the_draft_into_the_whole_generator(graphs: Graphs) -> None:
    """As a host keeps it: what the loss sees is then the reconstruction itself."""
    fixed = {"mask": np.ones((1, 1, SIDE, SIDE), np.float32), "target": graphs.target}
    whole = graphs.run("generator")["reconstruction"]
    seen = graphs.run("draft_objective", fixed)["reconstruction"]
    correction = graphs.values["correction"] + whole - seen
    corrected = graphs.run("draft_objective", {**fixed, "correction": correction})
    assert np.abs(corrected["reconstruction"] - whole).max() < 1e-5
    assert np.abs(whole - seen).max() > 0.1


def test_parameters_are_those_of_the_network_with_numbers_of_one_size(graphs: Graphs) -> None:
    """Weights have a mean square of 1, as StyleGAN2's; the kernels are the given ones."""
    found = graphs.run("parameters")
    names = {name for name, _ in graphs.model.generator.synthesis.named_parameters()}
    assert {name.removeprefix("parameter.") for name in found} == names
    for parameter in mobile_parameters(graphs.model.generator):
        value = found[f"parameter.{parameter.name}"]
        given = graphs.values.get(f"weight.{parameter.name.removesuffix('.weight')}")
        if given is None or parameter.name.endswith("style.weight"):
            given = graphs.model.generator.synthesis.get_parameter(parameter.name).numpy()
            if given.ndim > 1:
                assert np.square(value).mean() == pytest.approx(1, rel=1e-4)
        assert np.abs(value * parameter.factor - given).max() < 1e-6


def test_the_general_generator_renders_what_the_generator_renders(graphs: Graphs) -> None:
    """With the parameters of the same kernels; free weights and features change it."""
    widths = sum(style.channels for style in graphs.model.generator.config.styles)
    nothing = {
        "style_offsets": np.zeros((1, widths), np.float32),
        "feature_offset": np.zeros_like(graphs.values["feature_offset"]),
        **graphs.run("noise"),
    }
    latents = np.concatenate([graphs.values["latents"], -graphs.values["latents"]])
    expected = graphs.run("generator", {"latents": latents})
    actual = graphs.run("parametric_generator", {"latents": latents, **nothing})
    for name, value in expected.items():
        assert np.abs(actual[name] - value).max() < EXACT, name
    for name in ("feature_offset", "parameter.layers.1.conv2.depthwise"):
        given = {"latents": latents, **nothing, name: 1.1 * graphs.values[name]}
        changed = graphs.run("parametric_generator", given)
        assert np.abs(changed["rendering"] - expected["rendering"]).max() > 0.01, name


@torch.no_grad()
def test_style_offsets_add_to_all_styles_in_order(graphs: Graphs) -> None:
    model = graphs.model.generator
    styles = model.config.styles
    offsets = 0.3 * normal("styles", 1, sum(style.channels for style in styles))
    state, start = dict(model.synthesis.state_dict()), 0
    for style in styles:
        part = torch.from_numpy(offsets[0, start : start + style.channels])
        state[f"{style.name}.style.bias"] = state[f"{style.name}.style.bias"] + part
        start += style.channels
    kernels = {n[7:]: torch.from_numpy(v) for n, v in graphs.values.items() if n[:7] == "weight."}
    latents = torch.from_numpy(graphs.values["latents"])
    expected = torch.func.functional_call(model.synthesis, state, (latents, kernels)).numpy()
    actual = graphs.run("styled_generator", {"style_offsets": offsets, **graphs.run("noise")})
    assert np.abs(actual["rendering"] - expected).max() < EXACT
    without = graphs.run("generator")["rendering"]
    assert np.abs(without - expected).max() > 0.01
    zero = {"style_offsets": np.zeros_like(offsets), **graphs.run("noise")}
    assert np.abs(graphs.run("styled_generator", zero)["rendering"] - without).max() < EXACT


def test_the_noise_graph_gives_noise_of_deviation_one(graphs: Graphs) -> None:
    noises = graphs.run("noise")
    assert len(noises) == len(graphs.model.generator.config.kernels) - 1  # all but to_img
    assert all(abs(float(noise.std()) - 1) < 1e-3 for noise in noises.values())


@pytest.fixture(scope="module")
def bundle(model: MobileModel, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    directory = tmp_path_factory.mktemp("engines") / "tinyfaces"
    directory.mkdir()
    facts = BundleFacts("tinyfaces", "noise", "Apache-2.0", {"generator": "synthetic"})
    return write_mobile_bundle(model, directory, facts, "fp32", lambda _step: None)


def test_the_bundle_inverts_and_renders_what_the_networks_do(
    model: MobileModel, bundle: Bundle, picture: NDArray[np.uint8]
) -> None:
    figures = measure_mobile(model, bundle, picture)
    assert 0 < figures["image_max_abs"] < EXACT
    assert figures["latents_max_abs"] < EXACT
    check_mobile(figures, "fp32")
    with pytest.raises(BuildError, match="torch reference"):
        check_mobile({**figures, "image_max_abs": 0.01}, "fp32")
    with pytest.raises(BuildError, match="dB"):
        check_mobile({**figures, "image_psnr_db": 12.0}, "fp16")


def test_the_manifest_says_what_every_bundle_says(model: MobileModel, bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert (manifest.resolution, manifest.input_size) == (BIG, (SIDE, SIDE))
    assert (manifest.num_latents, manifest.latent_width) == (11, 12)
    assert manifest.codes is None
    kernels = [(layer.name, layer.weight_shape) for layer in model.generator.config.kernels]
    assert [(layer.name, layer.shape) for layer in manifest.tuned_layers] == kernels
    assert manifest.objective is not None
    assert manifest.objective.perceptual == "lpips_alexnet"
    assert list(manifest.methods) == ["restyle", "encoder"]
    phases = [(phase.graph, phase.repeat) for phase in manifest.methods["restyle"].phases]
    assert phases == [("encoder", None), ("approach", None), ("restyle", 5)]
    assert {"restyle.onnx.data", "features.onnx.data"} <= set(manifest.graphs["approach"].data)
    assert "approach.onnx.data" not in manifest.files
    assert (manifest.default_method, manifest.then) == ("restyle", "refine")


def test_the_space_is_that_of_the_generator_alone(
    model: MobileModel, bundle: Bundle, tmp_path: Path
) -> None:
    other = dataclasses.replace(model, draft=None, lpips=None, restyle=None)
    written = write_mobile_bundle(other, tmp_path, BundleFacts("b"), "fp16", lambda _step: None)
    assert written.manifest.space == bundle.manifest.space
    assert "objective" not in written.manifest.graphs
    changed = dataclasses.replace(tiny_mobile_model(), draft=None, lpips=None, restyle=None)
    changed.generator.synthesis.const.mul_(1.5)
    folder = tmp_path / "changed"
    folder.mkdir()
    third = write_mobile_bundle(changed, folder, BundleFacts("c"), "fp16", lambda _step: None)
    assert third.manifest.space != bundle.manifest.space


def test_channel_offsets_of_a_bundle_without_codes(
    model: MobileModel, bundle: Bundle, picture: NDArray[np.uint8]
) -> None:
    """The base kernels come from a graph without inputs; offsets render as torch does."""
    with Model.load(bundle.directory, "cpu") as opened:
        inversion = opened.invert(picture, align="never")
        offsets = 0.2 * normal("offsets", bundle.manifest.num_channel_offsets)
        data = dataclasses.replace(inversion.data, channel_offsets=offsets.astype(np.float16))
        (rendering,) = opened.synthesise(dataclasses.replace(inversion, data=data))
    stored, start, kernels = model.generator.synthesis.state_dict(), 0, {}
    for layer in model.generator.config.kernels:
        shape = layer.weight_shape[:2]
        part = offsets[start : start + shape[0] * shape[1]].astype(np.float16).astype(np.float32)
        factor = 1 + torch.from_numpy(part).reshape(*shape, 1, 1)
        kernels[layer.name] = stored[f"{layer.name}.weight"] * factor
        start += shape[0] * shape[1]
    latents = torch.from_numpy(inversion.latents)[None]
    with torch.no_grad():
        expected = model.generator.synthesis(latents, kernels)[0].numpy()
    assert np.abs(rendering - expected).max() < EXACT
    assert inversion.output is not None
    assert np.abs(rendering - inversion.output).max() > 0.01


@pytest.fixture
def trained(
    model: MobileModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> CheckpointOptions:
    """The tiny networks as the files they are built from."""
    files = tiny_files(model.generator)
    wheel = tmp_path / "random_face-2021.7.21.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(str(mobilestylegan_ir.FOLDER / name), data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    monkeypatch.setattr(mobilestylegan_ir, "RANDOM_FACE", digests)
    monkeypatch.setattr(mobile_parts, "INPUT_SIDE", SIDE)
    save_encoder(model.encoder, model.latent_avg, tmp_path / "encoder.safetensors")
    assert model.draft is not None
    save_head(model.draft.head, BLOCKS, tmp_path / "head.safetensors")
    return CheckpointOptions(generator=wheel, encoder=[str(tmp_path / "encoder.safetensors")])


def request_of(given: CheckpointOptions, out: Path) -> BuildRequest:
    return BuildRequest(given, BundleOptions(out, domain="noise"), Storage.FP16)


def test_the_command_builds_from_the_wheel(trained: CheckpointOptions, tmp_path: Path) -> None:
    """Stored in fp16, with twins; the provenance names every file, and what is in the wheel."""
    out = tmp_path / "faces"
    request = dataclasses.replace(request_of(trained, out), precision=Precision.FP32_FP16)
    figures = building.build_bundle(request)
    assert figures["image_psnr_db"] > 40 and figures["fp16"]["image_psnr_db"] > 45
    bundle = Bundle.open(out)
    provenance = bundle.manifest.provenance
    assert provenance["generator"].startswith("random_face-2021.7.21.1-py3-none-any.whl sha256:")
    assert provenance["encoder"].startswith("encoder.safetensors sha256:")
    assert provenance["SynthesisNetwork.bin"].startswith("sha256:")
    assert "non-commercial" in provenance["origin"]
    assert bundle.manifest.files["generator.onnx"].stored == "fp16"


def test_trained_parts_are_read_as_they_were_written(
    model: MobileModel, trained: CheckpointOptions, tmp_path: Path
) -> None:
    encoder, average = read_latent_encoder(tmp_path / "encoder.safetensors", model.generator)
    assert encoder.features.config == model.encoder.features.config
    assert torch.equal(average, model.latent_avg)
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, model.encoder.state_dict()[key].half().float()), key
    draft = read_draft(tmp_path / "head.safetensors", model.generator)
    assert model.draft is not None and (draft.blocks, draft.side) == (BLOCKS, SIDE)
    own = model.draft.head.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in draft.head.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoder": None}, "takes one --encoder"),
        ({"checkpoint": Path("a.pt")}, "are for StyleGAN2"),
        ({"draft": Path("head.safetensors")}, "--draft goes by LPIPS"),
        ({"encoder": ["missing.safetensors"]}, "missing.safetensors"),
        ({"dataset_type": "cars"}, "--dataset-type is for StyleGAN2"),
    ],
)
def test_what_such_a_bundle_cannot_have_is_refused(
    trained: CheckpointOptions, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    given = dataclasses.replace(trained, **changes)  # type: ignore[arg-type]
    with pytest.raises(HyperStyleError, match=said):
        building.build_bundle(request_of(given, tmp_path / "faces"))
    assert not (tmp_path / "faces").exists()


def test_vgg16_of_idinvert_is_refused(trained: CheckpointOptions, tmp_path: Path) -> None:
    request = request_of(trained, tmp_path / "faces")
    lpips = LpipsOptions(refine_vgg16=tmp_path / "vgg16.pth")
    with pytest.raises(HyperStyleError, match="--refine-vgg16 is for IDInvert"):
        building.build_bundle(dataclasses.replace(request, lpips=lpips))
    assert not (tmp_path / "faces").exists()


def test_files_of_other_networks_are_refused_in_a_sentence(
    model: MobileModel, trained: CheckpointOptions, tmp_path: Path
) -> None:
    encoder, head = tmp_path / "encoder.safetensors", tmp_path / "head.safetensors"
    for read, path in ((read_latent_encoder, head), (read_draft, encoder)):
        with pytest.raises(CheckpointError) as caught:
            read(path, model.generator)
        assert path.name in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / "text.safetensors").write_text("no tensors")
    for read in (read_latent_encoder, read_draft):
        with pytest.raises(CheckpointError, match="no safetensors file"):
            read(tmp_path / "text.safetensors", model.generator)
