"""Bundles of StyleGAN3: built from files, inverted into, edited, moved and optimised."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fakeweights
import numpy as np
import pytest
import torch
from build_command import Command
from command_line import refuse, succeed
from face_pictures import in_a_photo, known_faces
from hyperstyle_export.bundles.spaces import stylegan3_space
from hyperstyle_export.bundles.stylegan3_writer import (
    add_stylegan3_half_graphs,
    write_stylegan3_bundle,
)
from hyperstyle_export.bundles.writer import BundleFacts
from hyperstyle_export.engines.plans import add_plans
from hyperstyle_export.networks.lpips import ALEXNET
from hyperstyle_export.networks.stylegan3_config import StyleGan3Config
from hyperstyle_export.networks.stylegan3_model import StyleGan3Model
from hyperstyle_export.readers.encoders import EncoderSource, read_encoder
from hyperstyle_export.readers.family import Sources
from hyperstyle_export.readers.stylegan3_family import find_stylegan3, load_stylegan3
from hyperstyle_rt import Inversion, Model, unaligned_transform
from hyperstyle_rt.backends.plans.build import EngineOptions, build_plan, rtx_target
from hyperstyle_rt.errors import BundleError, InversionError
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.directions_file import LinearDirection
from hyperstyle_rt.imaging.pictures import read_picture, to_input, write_picture
from models import narrow_lpips, tiny_encoder
from stylegan3_files import TINY, TINY_R, network_of, tensors_of, write_restyle, write_stylegan3

E4E, PSP = "ProgressiveBackboneEncoder", "BackboneEncoder"
PICTURE = fakeweights.image_u8(1, 32, 32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stylegan3")
    return {
        "net": write_stylegan3(folder / "net.pkl"),
        "e4e": write_restyle(folder / "e4e.pt", E4E),
        "psp": write_restyle(folder / "psp.pt", PSP),
    }


@pytest.fixture(scope="module")
def bundle(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Both encoders and their generator, by the command."""
    command = Command(tmp_path_factory.mktemp("built"), (files["net"], files["net"]))
    options = {"checkpoint": None, "w_encoder": None, "generator": files["net"]}
    encoders = ("--encoder", files["e4e"], "--encoder", files["psp"])
    return command.succeed(*encoders, "--precision", "fp32,fp16", "--domain", "noise", **options)


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Iterator[Model]:
    with Model.load(bundle.directory, "cpu", threads=1) as model:
        yield model


def networks(files: dict[str, Path]) -> StyleGan3Model:
    sources = Sources(encoders=tuple(EncoderSource(files[name]) for name in ("e4e", "psp")))
    read = [read_encoder(source) for source in sources.encoders]
    found = find_stylegan3(sources, read)
    assert found is not None
    return load_stylegan3(*found, sources, read)


def test_restyle_inverts_as_in_torch(files: dict[str, Path], model: Model) -> None:
    """Without a generator's file: the one in the encoders' is the same."""
    reference = networks(files)
    assert model.bundle.manifest.space == stylegan3_space(reference.decoder)
    assert list(model.bundle.manifest.methods) == ["restyle-e4e", "restyle-psp"]
    target = torch.from_numpy(to_input(PICTURE, (16, 16)))
    for method, encoder in reference.encoders.items():
        inversion = model.invert(PICTURE, method=method)
        *_, latents = encoder.invert(reference, target, 5)
        scale = float(latents.abs().max())
        assert np.abs(inversion.latents - latents[0].numpy()).max() <= 1e-4 * scale
        expected = reference.generate(latents)[0][0].numpy()
        assert inversion.output is not None
        assert np.abs(inversion.output - expected).max() <= 1e-4 * np.abs(expected).max()
    average = tensors_of(TINY)["mapping.w_avg"]
    assert torch.equal(reference.latent_avg, average.expand(TINY.num_latents, -1))


def test_what_is_found_is_edited_and_interpolated(model: Model, tmp_path: Path) -> None:
    first, second = (model.invert(PICTURE, 2, method=f"restyle-{kind}") for kind in ("e4e", "psp"))
    first.save(tmp_path / "face.safetensors")
    read = Inversion.load(tmp_path / "face.safetensors")
    halfway, last = model.interpolate(read, second, [0.5, 1.0])
    assert np.array_equal(last, second.image)
    direction = fakeweights.normal("direction", (TINY.style_width,))
    moved = first.latents + 0.3 * direction
    assert (model.render(first, moved) != first.image).any()
    latents = (first.latents + second.latents) / 2
    assert np.array_equal(halfway, model.render(first, latents))


def test_a_rendering_is_moved(files: dict[str, Path], model: Model) -> None:
    inversion = model.invert(PICTURE, 1)
    turn = np.array([[0.8, -0.6, 0.1], [0.6, 0.8, 0], [0, 0, 1]], np.float32)
    eye = np.eye(3)
    batch = np.stack([inversion.latents] * 2)
    moved = model.synthesise(inversion, batch, transform=np.stack([eye, turn]))
    still, reference = model.synthesise(inversion)[0], networks(files)
    assert np.abs(moved[0] - still).max() <= 1e-6
    latents = torch.from_numpy(inversion.latents)[None]
    expected = reference.generate(latents, torch.from_numpy(turn)[None])[0][0].numpy()
    assert np.abs(moved[1] - expected).max() <= 1e-4 * np.abs(expected).max()
    assert np.abs(moved[1] - still).max() > 0.01


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (np.eye(4), r"must be \[3,3\], not \[4, 4\]"),
        (np.full((3, 3), np.nan), "must be finite"),
        (np.ones((3, 3)), "last row of 0, 0, 1"),
        (np.stack([np.eye(3)] * 2), r"must be \[3,3\], not \[2, 3, 3\]"),
    ],
    ids=["shape", "not finite", "projective", "too many"],
)
def test_wrong_transforms_are_refused(model: Model, transform: np.ndarray, message: str) -> None:
    with pytest.raises(InversionError, match=message):
        model.render(model.invert(PICTURE, 0), transform=transform)


def test_other_generators_cannot_move(tiny_bundle: Path) -> None:
    with Model.load(tiny_bundle, "cpu") as other:
        inversion = other.invert(PICTURE, 0)
        with pytest.raises(BundleError, match="cannot move its pictures"):
            other.render(inversion, transform=np.eye(3))
        with pytest.raises(BundleError, match="cannot move its pictures"):
            next(other.sweep(inversion, [{}], np.eye(3)))


def test_unaligned_turns_as_the_photo() -> None:
    """Up in the photo is where the motion takes what is up in the crop."""
    angle = np.radians(20)
    cosine, sine = np.cos(angle), np.sin(angle)
    photo_to_crop = np.array([[2 * cosine, -2 * sine, 7], [2 * sine, 2 * cosine, -40], [0, 0, 1]])
    motion = unaligned_transform(photo_to_crop)
    assert np.abs(motion @ (1, 0, 1) - (cosine, sine, 1)).max() < 1e-6
    assert np.array_equal(unaligned_transform(np.diag([3.0, 3.0, 1.0])), np.eye(3))
    with pytest.raises(InversionError, match="align the photo again"):
        unaligned_transform(np.zeros((3, 3)))


def test_the_commands_turn_a_face_as_its_photo(
    bundle: Bundle, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known = known_faces()[0]
    photo = in_a_photo(known, (300, 320), np.array([160.0, 150.0]), 200, 25)
    write_picture("photo.png", photo.picture)
    of, always = ("--bundle", bundle.directory), ("--align", "always")
    succeed("invert", "photo.png", *of, *always, "--unaligned", "--save-inversion", "-n", 1, "-q")
    inversion = Inversion.load("photo.safetensors")
    assert inversion.data.transform is not None
    motion = unaligned_transform(inversion.data.transform)
    turned = np.degrees(np.arctan2(motion[1, 0], motion[0, 0]))
    assert abs(turned + 25) < 8  # what leads from the photo to the crop turns the other way
    direction = LinearDirection(np.ones(TINY.style_width, np.float32), (0, TINY.num_latents))
    with Model.load(bundle.directory, "cpu") as model:
        monkeypatch.setattr(Model, "directions", {"up": direction})
        expected = model.render(inversion, transform=motion)
        assert np.array_equal(read_picture("photo.unaligned.png"), expected)
        assert (expected != model.render(inversion)).any()
        succeed("edit", "photo.safetensors", "up=0", *of, "--unaligned", "-q")
        assert np.array_equal(read_picture("photo.edited.png"), expected)
    paste = ("--unaligned", "--paste", "photo.png")
    assert "leave out --unaligned" in refuse(
        "edit", "photo.safetensors", "up=0", *of, *paste, "--force"
    )
    said = refuse("invert", "photo.png", "--bundle", tiny_bundle, *always, "--unaligned", "--force")
    assert "cannot move its pictures" in said
    said = refuse("invert", "photo.png", *of, "--align", "never", "--unaligned", "--force")
    assert "--unaligned needs faces" in said


def test_half_precision_keeps_the_picture(bundle: Bundle) -> None:
    figures = bundle.manifest.accuracy["fp16"]
    assert figures["image_psnr_db"] >= 45
    roles = {"generator", "styled_generator", "transformed_generator", "restyle_e4e"}
    assert roles <= bundle.manifest.precisions["fp16"].keys()


def test_bench_times_every_graph_in_both_precisions(bundle: Bundle) -> None:
    words = ("--rounds", 1, "--edits", 1, "--threads", 1, "--quiet", "--json")
    contenders = ("--backend", "cpu,cpu-fp16", "--method", "restyle-psp")
    document = json.loads(succeed("bench", "--bundle", bundle.directory, *contenders, *words))
    assert [result["contender"] for result in document["results"]] == ["cpu", "cpu-fp16"]
    for result in document["results"]:
        assert {"restyle_psp", "generator"} <= result["graphs"].keys()
        assert all(result["graphs"][role]["macs"] for role in ("restyle_psp", "generator"))


@pytest.mark.engines
@pytest.mark.slow
@pytest.mark.parametrize("config", [TINY, TINY_R], ids=["t", "r"])
@pytest.mark.parametrize("sm", [89, 120])
def test_graphs_compile_with_tensorrt_rtx(
    config: StyleGan3Config, sm: int, files: dict[str, Path], tmp_path: Path
) -> None:
    """NVIDIA's parser and compiler take them without a GPU: all in fp32, and those of fp16."""
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    encoders = networks(files).encoders
    generator = network_of(config)
    average = generator.mapping.w_avg.expand(config.num_latents, -1).contiguous()
    lpips = narrow_lpips(ALEXNET)  # and with it the graphs of descent
    model = StyleGan3Model(generator, average, (32, 32), encoders, lpips)
    facts, target, options = BundleFacts("tiny"), rtx_target(sm), EngineOptions()
    bundle = write_stylegan3_bundle(model, tmp_path, facts, "fp32", lambda _step: None)
    bundle = add_stylegan3_half_graphs(model, bundle, lambda _step: None)
    for precision in ("fp32", "fp16"):
        bundle, plans = add_plans(bundle, target, precision, options, lambda _step: None)
        assert {"restyle_e4e", "restyle_psp", "generator"} <= plans.keys()
        roles = bundle.manifest.precisions.get(precision, bundle.manifest.graphs)
        assert {"styled_generator", "transformed_generator"} <= roles.keys()
        for role in roles.keys() - plans.keys():
            graph, plan = bundle.verified_path(role, precision), tmp_path / f"{role}.plan"
            build_plan(target, graph, role, plan, options, lambda _step: None)
    bundle.verify()


def test_a_generator_alone_is_a_bundle(files: dict[str, Path], tmp_path: Path) -> None:
    """It renders and has no method; with LPIPS it descends, here on the picture it renders."""
    command = Command(tmp_path, (files["net"], files["net"]))
    none = {"checkpoint": None, "w_encoder": None}
    alone = command.succeed("--domain", "noise", generator=files["net"], **none)
    assert alone.manifest.methods == {}
    assert alone.manifest.graphs["generator"].macs == alone.manifest.graphs["styled_generator"].macs
    with Model.load(alone.directory, "cpu") as model, pytest.raises(BundleError, match="no method"):
        model.invert(PICTURE)


def test_latents_descend(tmp_path: Path) -> None:
    generator = network_of(TINY)
    average = generator.mapping.w_avg.expand(TINY.num_latents, -1).contiguous()
    networks = StyleGan3Model(generator, average, (32, 32), lpips=narrow_lpips(ALEXNET))
    facts = BundleFacts("tiny", "noise", "MIT")
    written = write_stylegan3_bundle(networks, tmp_path, facts, "fp32", lambda _step: None)
    with Model.load(written.directory, "cpu", threads=1) as model:
        aim = fakeweights.normal("aim", (1, TINY.num_latents, TINY.style_width)) * 0.5
        picture = generator.synthesis(torch.from_numpy(aim))[0] * 4
        target = np.uint8((picture.clamp(-1, 1) + 1).permute(1, 2, 0).numpy() * 127.5)
        losses: list[float] = []
        found = model.optimise(
            None,
            target,
            "image2stylegan",
            steps=12,
            on_step=lambda _n, loss, _i: losses.append(loss),
        )
        assert losses[-1] < 0.8 * losses[0]
        assert found.latents.shape == (TINY.num_latents, TINY.style_width)
        with pytest.raises(
            BundleError, match=r"synthesis_objective.*; no bundle of its kind has it"
        ):
            model.optimise(found, target, "pti")


def _without_decoder(path: Path, **changed: object) -> Path:
    contents = torch.load(path, weights_only=False)
    state = contents["state_dict"].items()
    contents["state_dict"] = {k: v for k, v in state if not k.startswith("decoder.")}
    torch.save({**contents, **changed}, path)
    return path


def test_wrong_pairings_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    none = {"checkpoint": None, "w_encoder": None, "generator": None}
    folder = tmp_path / "files"
    folder.mkdir()
    (tmp_path / "command").mkdir()
    command = Command(tmp_path / "command", (files["net"], files["net"]))
    stylegan2 = tiny_encoder(folder / "s2.pt", "Encoder4Editing")
    other = tensors_of(TINY)
    other[f"synthesis.{TINY.layers[1].name}.bias"] = (
        other[f"synthesis.{TINY.layers[1].name}.bias"] + 1
    )
    changed = write_restyle(folder / "other.pt", PSP, decoder=other)
    wide = write_restyle(folder / "wide.pt", E4E, replace(TINY, channels=(8, 8, 7, 6, 6, 6)))
    larger = write_restyle(folder / "larger.pt", E4E, input_size=[64, 32])
    alone = _without_decoder(write_restyle(folder / "alone.pt", E4E))
    cases = {
        "is for a generator of StyleGAN2, and .*net.pkl is of StyleGAN3": (files["net"], stylegan2),
        r"differs by .*--allow-other-generator": (files["net"], changed),
        "is for a generator of StyleGAN3, and the others are not": (None, stylegan2, files["e4e"]),
        "makes 8 rows of latents": (files["net"], _without_decoder(wide)),
        r"is for pictures of 64 x 32, and the first encoder for 16 x 16": (
            files["net"],
            files["psp"],
            larger,
        ),
        "are both restyle-e4e encoders": (files["net"], files["e4e"], larger),
        "holds an encoder without its generator": (None, alone),
    }
    for message, (generator, *encoders) in cases.items():
        words = [word for path in encoders for word in ("--encoder", path)]
        command.refuse(message, *words, **{**none, "generator": generator})
    command.refuse(
        "for which there is no HyperStyle",
        checkpoint=alone,
        w_encoder=alone,
        generator=files["net"],
    )
