"""pSp, e4e and ReStyle beside HyperStyle in one bundle, against their networks in torch."""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import fakeweights
import jsonschema
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from build_command import Command
from hyperstyle_export.graphs import builder, sharing
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.graphs.style_encoder import build_style_encoder
from hyperstyle_export.networks.encoder_kinds import ENCODER_KINDS
from hyperstyle_export.networks.encoder_method import EncoderMethod, encoder_input
from hyperstyle_export.networks.hyperstyle import HyperStyle
from hyperstyle_export.readers.encoders import EncoderSource
from hyperstyle_export.readers.family import Sources, load_family
from hyperstyle_export.readers.official import read_generator
from hyperstyle_rt import Model
from hyperstyle_rt.adaptation import Adaptation
from hyperstyle_rt.errors import BundleError
from hyperstyle_rt.formats import manifest as manifest_module
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.imaging.pictures import to_input
from models import CARS, finetuned_generator, tiny_encoder

TOLERANCE = 2e-5
IMAGE_TOLERANCE = 1e-4
ALL_METHODS = ("psp", "e4e", "restyle-psp", "restyle-e4e")
FILES = {
    "psp": "GradualStyleEncoder",
    "e4e": "Encoder4Editing",
    "restyle-psp": "ResNetBackboneEncoder",
    "restyle-e4e": "ProgressiveBackboneEncoder",
}


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Method to file, all of the tiny generator."""
    folder = tmp_path_factory.mktemp("encoders")
    return {m: tiny_encoder(folder / f"{m}.pt", kind) for m, kind in FILES.items()}


@pytest.fixture(scope="module")
def sources(tiny_checkpoints: tuple[Path, Path], files: dict[str, Path]) -> Sources:
    return Sources(tiny_checkpoints, tuple(EncoderSource(path) for path in files.values()))


@pytest.fixture(scope="module")
def together(
    tiny_checkpoints: tuple[Path, Path],
    files: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    """HyperStyle and all encoders in one bundle, by the build command."""
    command = Command(tmp_path_factory.mktemp("together"), tiny_checkpoints)
    options = [word for path in files.values() for word in ("--encoder", path)]
    return command.succeed(*options, "--precision", "fp32,fp16")


def load_one(encoder_type: str, folder: Path, **more: object) -> tuple[HyperStyle, EncoderMethod]:
    path = tiny_encoder(folder / "encoder.pt", encoder_type, **more)
    family = load_family(Sources(encoders=(EncoderSource(path),)))
    (method,) = family.encoders.values()
    return family.model, method


def session(model: HyperStyle, method: EncoderMethod, folder: Path) -> ort.InferenceSession:
    save_model(build_style_encoder(model, method), folder / "encoder.onnx")
    return ort.InferenceSession(folder / "encoder.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("encoder_type", ENCODER_KINDS)
def test_every_encoder_is_its_graph_in_batches(encoder_type: str, tmp_path: Path) -> None:
    model, method = load_one(encoder_type, tmp_path)
    targets = torch.from_numpy(fakeweights.normal("targets", (3, 3, 64, 64)))
    graph = session(model, method, tmp_path)
    if method.kind.is_iterative:
        latents = torch.from_numpy(fakeweights.normal("latents", (3, 8, 16)))
        expected = method.refine(targets, targets.flip(0), latents)
        feeds = {"reconstruction": targets.flip(0).numpy(), "latents": latents.numpy()}
        (found,) = graph.run(["latents_next"], {"target": targets.numpy(), **feeds})
    else:
        expected = method.encode(targets)
        (found,) = graph.run(["latents"], {"target": targets.numpy()})
    assert found.shape == (3, 8, 16)
    assert np.abs(found - expected.numpy()).max() < TOLERANCE
    assert np.ptp(found, axis=0).max() > 1e-3  # the pictures differ, and so do their latents
    # Rows are of one vector where the encoder makes one, and independent else.
    rows = found - (0 if method.kind.is_iterative else method.latent_avg.numpy())
    assert (np.ptp(rows, axis=1).max() < 1e-5) == (method.kind.head == "mean")


@pytest.mark.parametrize("channels", [1, 5])
def test_sketches_and_labels_are_read_of_grey_pictures(channels: int, tmp_path: Path) -> None:
    model, method = load_one("GradualStyleEncoder", tmp_path, in_channels=channels)
    labels = np.random.default_rng(0).integers(0, 5, (64, 64), dtype=np.uint8)
    target = torch.from_numpy(to_input(np.stack([labels] * 3, axis=2), (64, 64)))
    read = encoder_input(target, channels)[0].numpy()
    if channels == 1:  # as pSp's ToTensor gives a sketch: in [0,1]
        assert np.abs(read[0] - labels / 255).max() < 1e-6
    else:  # as its ToOneHot gives labels
        assert np.array_equal(read, np.eye(5, dtype=np.float32)[labels].transpose(2, 0, 1))
    (found,) = session(model, method, tmp_path).run(["latents"], {"target": target.numpy()})
    assert np.abs(found - method.encode(target).numpy()).max() < TOLERANCE
    assert not method.reads_pictures


def test_a_set_of_files_becomes_all_its_methods(together: Bundle) -> None:
    manifest = together.manifest
    assert manifest.default_method == "hyperstyle"
    assert set(manifest.methods) == {
        "hyperstyle",
        *ALL_METHODS,
        *(f"hyperstyle+{method}" for method in ALL_METHODS),
    }
    assert manifest.methods["hyperstyle+restyle-e4e"].to_json()["phases"] == [
        {"graph": "restyle_e4e_average"},
        {"graph": "restyle_e4e", "repeat": 5},
        {"graph": "hypernet", "repeat": 5},
    ]
    assert {"psp", "e4e", "restyle_psp", "restyle_e4e"} <= manifest.precisions["fp16"].keys()
    assert set(manifest.accuracy["methods"]) == set(ALL_METHODS)
    assert set(manifest.provenance) == {"checkpoint", "w_encoder", *ALL_METHODS}


@pytest.mark.parametrize("method", ALL_METHODS)
def test_methods_follow_their_networks(method: str, together: Bundle, sources: Sources) -> None:
    family, picture = load_family(sources), fakeweights.image_u8(2, 64, 64)
    target = torch.from_numpy(to_input(picture, (64, 64)))
    model, encoder = family.model, family.encoders[method]
    *_, latents = encoder.invert(model, target, 5)
    expected = model.generate(latents)[0][0].numpy()
    with Model.load(together.directory, "cpu") as runtime:
        alone = runtime.invert(picture, method=method)
        continued = runtime.invert(picture, 3, method=f"hyperstyle+{method}")
        rendered = runtime.render(alone)
    assert np.abs(alone.latents - latents[0].numpy()).max() < 1e-4
    assert np.abs(alone.output - expected).max() < IMAGE_TOLERANCE
    assert alone.codes is None
    assert (alone.method, alone.iterations) == (method, 5 if "restyle" in method else 0)
    assert np.array_equal(
        rendered, np.clip((alone.output + 1) * 127.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    )
    # HyperStyle goes on from those latents.
    *_, last = model.iterate_from(latents, target, 3)
    assert np.array_equal(continued.latents, alone.latents)
    assert np.abs(continued.output - last.image[0].numpy()).max() < IMAGE_TOLERANCE
    assert np.abs(continued.output - alone.output).max() > 1e-3


@pytest.mark.parametrize("method", ALL_METHODS)
def test_graphs_in_fp16_follow_those_in_float32(method: str, together: Bundle) -> None:
    picture = fakeweights.image_u8(2, 64, 64)
    with (
        Model.load(together.directory, "cpu") as single,
        Model.load(together.directory, "cpu", precision="fp16") as half,
    ):
        count = 1 if "restyle" in method else None
        expected, found = (model.invert(picture, count, method=method) for model in (single, half))
        assert half.backend.graph_precision == "fp16"
    spread = np.abs(expected.latents - single.bundle.latent_average()).max()
    assert 0 < np.abs(found.latents - expected.latents).max() < 0.01 * spread


def test_inversions_of_all_methods_are_of_one_space(
    together: Bundle, files: dict[str, Path]
) -> None:
    picture = fakeweights.image_u8(2, 64, 64)
    with Model.load(together.directory, "cpu") as runtime:
        one = runtime.invert(picture, method="psp")
        other = runtime.invert(fakeweights.image_u8(3, 64, 64), method="hyperstyle+e4e")
        between = list(runtime.interpolate(one, other, [0.0, 0.5, 1.0]))
        assert one.data.space == other.data.space
    assert len(between) == 3
    assert np.abs(between[0].astype(int) - one.image).max() <= 1
    assert np.abs(between[-1].astype(int) - other.image).max() <= 1


def test_an_encoder_alone_makes_a_bundle(
    together: Bundle, files: dict[str, Path], command: Command
) -> None:
    bundle = command.succeed(
        checkpoint=None, w_encoder=None, encoder=files["restyle-e4e"], precision="fp32,fp16"
    )
    manifest, picture = bundle.manifest, fakeweights.image_u8(2, 64, 64)
    assert list(manifest.methods) == ["restyle-e4e"]
    assert (manifest.default_method, manifest.codes) == ("restyle-e4e", None)
    assert manifest.space == together.manifest.space
    with Model.load(bundle.directory, "cpu") as alone:
        found = alone.invert(picture)
        again = alone.render(found)
        with pytest.raises(BundleError, match=r"lacks the graph .*; build it with .*--checkpoint"):
            alone.optimise(found, picture)
    with Model.load(together.directory, "cpu") as runtime:
        expected = runtime.invert(picture, method="restyle-e4e")
        assert np.abs(found.latents - expected.latents).max() < 1e-4
        assert np.abs(runtime.render(found).astype(int) - again).max() <= 1


def test_a_finetuned_generator_draws_what_an_encoder_alone_found(
    files: dict[str, Path], command: Command, tmp_path: Path
) -> None:
    """StyleAlign's transfer: the parent's latents in the child, no offsets."""
    base = command.succeed(checkpoint=None, w_encoder=None, encoder=files["e4e"])
    child = finetuned_generator(tmp_path / "child.pt")
    adapted = command.succeed(
        "--adapt",
        child,
        "--base",
        base.directory,
        checkpoint=None,
        w_encoder=None,
        out=tmp_path / "child",
    )
    picture = fakeweights.image_u8(2, 64, 64)
    with (
        Model.load(base.directory, "cpu") as model,
        Adaptation.load(adapted.directory, "cpu") as adaptation,
    ):
        found = model.invert(picture)
        translated = adaptation.synthesise(found)
    generator, _ = read_generator(child)
    expected = generator(torch.from_numpy(found.latents)[None])[0].numpy()
    assert np.abs(translated - expected).max() < IMAGE_TOLERANCE
    assert np.abs(translated - found.output).max() > 0.01


def test_restyle_starts_from_its_own_average(
    tiny_checkpoints: tuple[Path, Path], files: dict[str, Path], command: Command
) -> None:
    contents = torch.load(files["restyle-e4e"], weights_only=True)
    contents["latent_avg"] = contents["latent_avg"] + 0.5
    path = files["restyle-e4e"].with_name("other_average.pt")
    torch.save(contents, path)
    bundle = command.succeed(encoder=path)
    phases = bundle.manifest.methods["hyperstyle+restyle-e4e"].phases
    assert [phase.graph for phase in phases] == ["restyle_e4e_average", "restyle_e4e", "hypernet"]
    with Model.load(bundle.directory, "cpu") as model:
        start = model.invert(fakeweights.image_u8(1, 64, 64), 0, method="restyle-e4e")
        assert np.array_equal(start.latents, contents["latent_avg"].numpy())
        assert not np.array_equal(start.latents, model.bundle.latent_average())


def test_the_average_is_not_rendered_again(together: Bundle) -> None:
    """Five iterations are five renderings; what the first one sees is what is rendered of it."""
    picture = fakeweights.image_u8(1, 64, 64)
    with Model.load(together.directory, "cpu", threads=1) as model:
        runs = mock.Mock(side_effect=model.backend.run)
        with mock.patch.object(model.backend, "run", runs):
            model.invert(picture, method="restyle-psp")
        seen = [call.args[0] for call in runs.call_args_list]
        start = model.invert(picture, 0, method="restyle-psp")
        stored, latents = (
            model.backend.download(model.backend.run("restyle_psp_average", {})[name])
            for name in ("reconstruction", "latents")
        )
    assert seen.count("generator") == seen.count("restyle_psp") == 5
    assert np.array_equal(latents[0], start.latents)
    pooled = start.output.repeat(2, axis=1).repeat(2, axis=2)  # enlarged to what is read
    assert np.abs(stored[0] - pooled).max() < IMAGE_TOLERANCE


def test_equal_weights_are_stored_once(files: dict[str, Path], command: Command) -> None:
    """Two encoders of the same weights: the second is nodes only."""
    contents = torch.load(files["psp"], weights_only=True)
    contents["opts"]["encoder_type"] = "Encoder4Editing"
    twin = files["psp"].with_name("twin.pt")
    torch.save(contents, twin)
    with (
        mock.patch.object(builder.save_model, "__defaults__", (1 << 13,)),
        mock.patch.object(sharing, "INTERNAL_BESIDE_SHARED", 1 << 10),
    ):
        bundle = command.succeed("--encoder", files["psp"], "--encoder", twin)
    graphs = bundle.manifest.graphs
    assert graphs["e4e"].data == graphs["psp"].data
    sizes = {name: file.size for name, file in bundle.manifest.files.items()}
    assert sizes["e4e.onnx"] < sizes["psp.onnx.data"]


def test_cars_are_cropped(tmp_path: Path) -> None:
    path = tiny_encoder(
        tmp_path / "cars.pt", "ProgressiveBackboneEncoder", {"dataset_type": "cars_encode"}, CARS
    )
    family = load_family(Sources(encoders=(EncoderSource(path),)))
    config = family.model.config
    assert (config.crop_rows, config.input_size) == ((8, 56), (24, 32))
    (method,) = family.encoders.values()
    *_, latents = method.invert(family.model, torch.zeros(1, 3, 24, 32), 2)
    assert family.model.generate(latents)[0].shape == (1, 3, 48, 64)


def test_options_are_read_whatever_they_hold(tmp_path: Path) -> None:
    """A Namespace with paths in it, as newer trainings save it; nothing is run."""
    path = tiny_encoder(tmp_path / "e4e.pt", "Encoder4Editing")
    contents = torch.load(path, weights_only=True)
    contents["opts"] = argparse.Namespace(
        **contents["opts"], exp_dir=pathlib.PurePosixPath("/data/runs"), best=np.float64(0.5)
    )
    torch.save(contents, path)
    family = load_family(Sources(encoders=(EncoderSource(path),)))
    assert list(family.encoders) == ["e4e"]


def test_a_state_dict_alone_is_told_by_its_keys(tmp_path: Path) -> None:
    path = tiny_encoder(tmp_path / "e4e.pt", "Encoder4Editing")
    contents = torch.load(path, weights_only=True)
    del contents["opts"]["encoder_type"]
    torch.save(contents, path)
    family = load_family(Sources(encoders=(EncoderSource.parse(f"e4e={path}"),)))
    assert family.encoders["e4e"].kind.is_progressive
    family = load_family(Sources(encoders=(EncoderSource.parse(f"psp={path}"),)))
    assert not family.encoders["psp"].kind.is_progressive


def test_no_average_is_added_where_the_file_says_so(tmp_path: Path) -> None:
    _, method = load_one("GradualStyleEncoder", tmp_path, opts={"start_from_latent_avg": False})
    assert not method.latent_avg.any()


def test_graphs_fix_all_but_the_batch(together: Bundle) -> None:
    for role in ("psp", "restyle_e4e"):
        graph = onnx.load(together.verified_path(role)).graph
        for value in (*graph.input, *graph.output):
            batch, *rest = value.type.tensor_type.shape.dim
            assert batch.dim_param == "batch"
            assert all(dim.dim_value for dim in rest)
        shapes = [
            attribute
            for node in graph.node
            if node.op_type == "Conv"
            for attribute in node.attribute
            if attribute.name == "kernel_shape"
        ]
        assert len(shapes) == sum(node.op_type == "Conv" for node in graph.node)


def test_the_manifest_is_valid_json_of_the_schema(together: Bundle) -> None:
    schema = json.loads(
        Path(manifest_module.__file__).with_name("manifest.schema.json").read_text()
    )
    jsonschema.validate(together.manifest.to_json(), schema)
