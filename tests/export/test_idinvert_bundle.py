"""IDInvert as a bundle: built by the command, inverted, optimised, edited, as a user does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fakeweights
import numpy as np
import pytest
import torch
from build_command import Command
from command_line import succeed
from hyperstyle_export.bundles.idinvert_writer import build_latents_objective
from hyperstyle_export.engines.plans import add_plans
from hyperstyle_export.networks.idinvert import IdInvertModel, encoder_term
from hyperstyle_export.networks.refinement import loss_terms
from hyperstyle_export.networks.vgg16 import FEATURE_WEIGHT, Vgg16Features, Vgg16Term
from hyperstyle_export.readers.idinvert import read_idinvert, read_vgg16
from hyperstyle_rt import BundleError, Inversion, Model
from hyperstyle_rt.backends.plans.build import EngineOptions, build_plan, rtx_target
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.imaging.pictures import to_input, write_picture
from numpy.typing import NDArray
from onnx_graphs import run_graph
from synthetic.idinvert import write_files
from torch import Tensor

Array = NDArray[np.float32]
Files = dict[str, Path]

ROWS, WIDTH, SIDE = 8, 16, 32
EXACT, RELATIVE = 2e-5, 1e-4


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_files(tmp_path_factory.mktemp("idinvert"))


@pytest.fixture(scope="module")
def networks(files: Files) -> IdInvertModel:
    return read_idinvert(files["generator"], files["encoder"], read_vgg16(files["vgg16"]))


@pytest.fixture(scope="module")
def built(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With graphs in fp16."""
    command = Command(tmp_path_factory.mktemp("built"), (Path(), Path()))
    command.succeed(
        *("--precision", "fp32,fp16", "--domain", "faces"),
        checkpoint=None,
        w_encoder=None,
        generator=files["generator"],
        encoder=files["encoder"],
        refine_vgg16=files["vgg16"],
    )
    return command.out


@pytest.fixture(scope="module")
def model(built: Path) -> Model:
    return Model.load(built, "cpu", threads=1)


def test_manifest(built: Path, files: Files) -> None:
    manifest = Bundle.open(built).manifest
    assert list(manifest.methods) == ["idinvert"] == [manifest.default_method]
    assert (manifest.codes, manifest.tuned_layers) == (None, ())
    assert manifest.objective is not None
    assert (manifest.objective.perceptual, manifest.objective.weight) == ("vgg16", FEATURE_WEIGHT)
    assert manifest.provenance.keys() == {"generator", "encoder", "refine_vgg16"}
    assert manifest.accuracy["against"].endswith("float64")
    assert max(manifest.accuracy[f"{name}_max_abs"] for name in ("latents", "image")) <= EXACT
    assert manifest.accuracy["fp16"]["image_psnr_db"] >= 45
    assert manifest.precisions["fp16"].keys() == {"idinvert", "generator", "styled_generator"}
    shared = manifest.graphs["encoder_term"].data
    assert shared == manifest.graphs["idinvert"].data  # the encoder's weights are stored once


def test_inversion_is_the_networks(
    model: Model, networks: IdInvertModel, picture: Array, tmp_path: Path
) -> None:
    inversion = model.invert(picture, method="idinvert")
    latents, rendering = networks.invert(torch.from_numpy(to_input(picture, (SIDE, SIDE))))
    assert np.abs(inversion.latents - latents[0].numpy()).max() <= EXACT
    assert np.abs(inversion.output - rendering[0].numpy()).max() <= EXACT
    assert inversion.data.needs == ()
    inversion.save(tmp_path / "x.safetensors")
    again = Inversion.load(tmp_path / "x.safetensors")
    assert np.array_equal(model.render(again), inversion.image)
    half = Model.load(model.bundle.directory, "cpu", precision="fp16", threads=1)
    difference = half.invert(picture).output - inversion.output
    assert np.abs(difference).max() <= 0.05


def test_optimisation_is_that_of_torch(
    model: Model, networks: IdInvertModel, picture: Array
) -> None:
    """Latents and losses of the published loop, written down once more in torch."""
    losses: list[float] = []
    inversion = model.invert(picture)
    found = model.optimise(
        inversion, picture, "idinvert", steps=4, on_step=lambda _n, loss, _r: losses.append(loss)
    )
    target = torch.from_numpy(to_input(picture, (SIDE, SIDE)))
    latents = networks.encoder(target).requires_grad_()
    adam = torch.optim.Adam([latents], lr=0.01)
    for expected in losses[:4]:
        adam.zero_grad()
        loss = picture_loss(networks, latents, target)
        assert abs(expected / loss.item() - 1) <= RELATIVE
        render = networks.generator.synthesis(latents)
        (loss + 2 * encoder_term(networks.encoder, latents, render)).backward()
        adam.step()
    error = np.abs(found.latents - latents[0].detach().numpy())
    assert np.quantile(error, 0.99) <= RELATIVE  # a step is 0.01; where it is about zero, any way
    assert np.abs(found.latents - inversion.latents).max() > 0.03
    assert found.data.settings["optimise"] == [{"preset": "idinvert", "steps": 4}]


def picture_loss(networks: IdInvertModel, latents: Tensor, target: Tensor) -> Tensor:
    """Pixels and VGG16, in the published weights."""
    assert isinstance(networks.perceptual, Vgg16Features)
    render, features = networks.generator.synthesis(latents), networks.perceptual
    distance = (features(render) - features(target)).square().mean()
    return (render - target).square().mean() + 5e-5 * distance


@pytest.mark.parametrize("weights", [(0, 0, 1), (0.7, 0.5, 1.3)])
def test_gradients_are_those_of_autograd(
    networks: IdInvertModel, weights: tuple[float, ...], tmp_path: Path
) -> None:
    """By latents and all noise maps, of VGG16 alone; of all terms, with a mask and a pull."""
    assert isinstance(networks.perceptual, Vgg16Features)
    term, generator = Vgg16Term(networks.perceptual), networks.generator
    is_all = sum(weights) > 1
    target = torch.from_numpy(to_input(fakeweights.image_u8(2, SIDE, SIDE), (SIDE, SIDE)))
    leaves = {"latents": normal("latents", 1, ROWS, WIDTH)} | {
        f"noise.layer{n}": normal(f"noise.{n}", 1, 1, side, side)
        for n, side in enumerate((4, 4, 8, 8, 16, 16, 32, 32))
    }
    fixed = {
        "target": target,
        "features.0": term.features(target)[0],
        "mask": torch.from_numpy(np.abs(normal("mask", 1, 1, SIDE, SIDE)).clip(0, 1)),
        "pull": 1e-3 * torch.from_numpy(normal("pull", 1, 3, SIDE, SIDE)),
        "term_weights": torch.tensor(weights, dtype=torch.float32),
    }
    if not is_all:
        fixed |= {"mask": torch.ones(1, 1, SIDE, SIDE), "pull": torch.zeros(1, 3, SIDE, SIDE)}
    variables = {name: torch.from_numpy(leaf).requires_grad_() for name, leaf in leaves.items()}
    noises = {name.removeprefix("noise."): v for name, v in variables.items() if "noise" in name}
    render = generator.synthesis(variables["latents"], noises)
    seen = term.loss(term.features(render), [fixed["features.0"]], fixed["mask"])
    terms = loss_terms(render, target, seen, fixed["mask"])
    loss = (fixed["term_weights"] * terms).sum()
    (loss + (fixed["pull"] * render).sum()).backward()

    given = leaves | {name: value.numpy() for name, value in fixed.items()}
    graph = build_latents_objective(networks)
    found = run_graph(graph, tmp_path, given)
    assert abs(found["loss"][0] / loss.item() - 1) <= EXACT
    np.testing.assert_allclose(found["terms"], terms.detach().numpy(), rtol=EXACT)
    for name, variable in variables.items():
        expected = variable.grad.numpy()
        error = np.linalg.norm(found[f"gradient.{name}"] - expected) / np.linalg.norm(expected)
        assert error <= RELATIVE, f"{name}: {error:.1e}"
    if is_all:
        check_finite_differences(graph, tmp_path, given, found)


def check_finite_differences(graph: object, folder: Path, given: dict, found: dict) -> None:
    for name in ("latents", "noise.layer5"):
        gradient = found[f"gradient.{name}"]
        step = np.float32(0.01 / np.linalg.norm(gradient)) * gradient
        ends = [
            _whole(run_graph(graph, folder, {**given, name: given[name] + way * step}), given)
            for way in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / 2
        assert abs(slope / float((gradient * step).sum()) - 1) <= 0.02, name


def _whole(outputs: dict, given: dict) -> float:
    """The loss with what is pulled."""
    pulled = (given["pull"] * outputs["reconstruction"]).sum(dtype=np.float64)
    return float(outputs["loss"][0]) + float(pulled)


def normal(key: str, *shape: int) -> Array:
    return np.float32(fakeweights.normal(key, shape))


def test_other_descents(model: Model, picture: Array) -> None:
    """Latents and noise by `refine`; what there is none of is refused by name."""
    inversion = model.invert(picture)
    for variable in ("latents", "noise"):
        losses: list[float] = []
        found = model.optimise(
            inversion,
            picture,
            steps=3,
            variables=(variable,),
            on_step=lambda _n, loss, _r: losses.append(loss),  # noqa: B023
        )
        assert losses[-1] < losses[0]
        assert found.data.needs == (("noise",) if variable == "noise" else ())
    started = model.optimise(None, picture, "image2stylegan", steps=1)
    average = model.bundle.latent_average()
    assert np.abs(started.latents - average).max() <= 0.01 + 1e-6
    with pytest.raises(BundleError, match="of the variables that it has: latents, w, noise"):
        model.optimise(inversion, picture)
    with pytest.raises(BundleError, match="gives every layer a latent of its own"):
        model.optimise(None, picture, "projector", steps=1)


@pytest.mark.slow
def test_commands(model: Model, picture: Array, tmp_path: Path) -> None:
    """`invert` with both rows of the table, `bench`, `check` with a picture of its own, `edit`."""
    bundle, shown = model.bundle.directory, tmp_path / "picture.png"
    write_picture(shown, picture)
    words = ("--bundle", bundle, "--threads", 1, "--quiet")
    then = ("--method", "idinvert", "--then", "idinvert", "--steps", 1, "--save-inversion")
    succeed("invert", shown, *words, *then, "--align", "never", "-o", tmp_path / "out")
    (file,) = (tmp_path / "out").glob("*.safetensors")
    assert Inversion.load(file).data.settings["optimise"][0]["preset"] == "idinvert"
    document = json.loads(succeed("bench", *words, "--json", "--rounds", 1))
    (result,) = document["results"]
    assert {"idinvert", "generator"} <= result["graphs"].keys()
    assert all(timing["macs"] for timing in result["graphs"].values())
    succeed("check", "--bundle", bundle, "--candidate", "cpu-fp16")


def test_random_pictures(model: Model, networks: IdInvertModel) -> None:
    z = normal("z", 3, WIDTH)
    latents = model.map(z)
    expected = networks.generator.mapping(torch.from_numpy(z)).numpy()
    assert np.abs(latents - expected).max() <= EXACT


def test_without_vgg16_it_inverts_and_says_what_optimising_needs(
    files: Files, picture: Array, tmp_path: Path
) -> None:
    """Its weights stored in halves."""
    command = Command(tmp_path, (Path(), Path()))
    bundle = command.succeed(
        *("--storage", "fp16"),
        checkpoint=None,
        w_encoder=None,
        generator=files["generator"],
        encoder=f"idinvert={files['encoder']}",
    )
    assert bundle.manifest.objective is None
    assert bundle.manifest.files["generator.onnx"].stored == "fp16"
    with Model.load(bundle.directory, "cpu", threads=1) as model:
        inversion = model.invert(picture)
        with pytest.raises(BundleError, match="lacks the graph encoder_term, features"):
            model.optimise(inversion, picture, "idinvert")


@pytest.mark.engines
@pytest.mark.slow
@pytest.mark.parametrize("sm", [89, 120])
def test_graphs_compile_with_tensorrt_rtx(built: Path, tmp_path: Path, sm: int) -> None:
    """NVIDIA's parser and compiler take them without a GPU: all in fp32, and those of fp16."""
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    bundle = Bundle.open(shutil.copytree(built, tmp_path / "bundle"))
    target, options = rtx_target(sm), EngineOptions()
    for precision in ("fp32", "fp16"):
        bundle, plans = add_plans(bundle, target, precision, options, lambda _step: None)
        assert {"idinvert", "generator"} <= plans.keys()
        roles = bundle.manifest.precisions.get(precision, bundle.manifest.graphs)
        for role in roles.keys() - plans.keys():
            graph, plan = bundle.verified_path(role, precision), tmp_path / f"{role}.plan"
            build_plan(target, graph, role, plan, options, lambda _step: None)
    bundle.verify()
