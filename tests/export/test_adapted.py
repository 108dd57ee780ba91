"""Fine-tuned generators as bundles of their own, by the build command."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import fakeweights
import numpy as np
import pytest
import torch
from build_command import Command, snapshot
from hyperstyle_export.bundles.adapted import load_adapted, measure_adapted, write_adapted
from hyperstyle_export.bundles.half_graphs import add_half_graphs
from hyperstyle_export.bundles.idinvert_writer import write_idinvert_bundle
from hyperstyle_export.bundles.writer import (
    BuildError,
    BundleFacts,
    write_bundle,
    write_manifest,
)
from hyperstyle_export.cli import app
from hyperstyle_export.graphs import storage as storing
from hyperstyle_export.readers.idinvert import read_idinvert, read_vgg16
from hyperstyle_export.readers.official import load_model, read_generator
from hyperstyle_rt import Bundle, Model
from hyperstyle_rt.adaptation import Adaptation
from hyperstyle_rt.errors import InversionError
from hyperstyle_rt.formats.fit import Fit, Quantiles
from hyperstyle_rt.formats.manifest_entries import BaseBundle
from models import TINY, finetuned_generator
from synthetic.idinvert import write_files
from typer.testing import CliRunner, Result

MAX_ERROR = 2e-5


@pytest.fixture
def finetuned(tmp_path: Path) -> Path:
    return finetuned_generator(tmp_path / "finetuned.pt")


def adapt(command: Command, generator: Path, base: Path, *more: str) -> Result:
    """Run the build command with --adapt."""
    options = {"adapt": generator, "base": base, "out": command.out, "picture": command.picture}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return CliRunner().invoke(app, [*words, *more])


def test_an_adapted_bundle_renders_the_base_s_inversions(
    command: Command, built: Path, finetuned: Path
) -> None:
    result = adapt(command, finetuned, built, "--name", "toon", "--domain", "toons")
    assert result.exit_code == 0, result.output
    adapted, base = Bundle.open(command.out), Bundle.open(built)
    adapted.verify()
    manifest = adapted.manifest
    assert (manifest.name, manifest.domain) == ("toon", "toons")
    assert manifest.base == BaseBundle(base.manifest.name, base.manifest.space)
    assert manifest.codes == base.manifest.codes
    assert manifest.space != base.manifest.space
    assert (manifest.methods, manifest.default_method) == ({}, None)
    rendering = {"weights", "generator", "mapping", "styled_generator", "noise", "channel_offsets"}
    assert set(manifest.graphs) == rendering
    assert manifest.provenance["generator"].startswith("finetuned.pt sha256:")
    assert manifest.accuracy["image_max_abs"] < MAX_ERROR
    assert {p.name for p in command.out.iterdir()} == {*manifest.files, "manifest.json"}

    model, adaptation = Model.load(built, "cpu"), Adaptation.load(command.out, "cpu")
    inversion = model.invert(fakeweights.image_u8(3, 64, 64), 3)
    generator, _ = read_generator(finetuned)
    latents = torch.from_numpy(inversion.latents)[None]
    for first in (0, 5, 14):
        kept = {
            index: torch.from_numpy(offsets)[None]
            for index, offsets in model.offsets(inversion).items()
            if index >= first
        }
        with torch.no_grad():
            expected = generator(latents, kept)[0].numpy()
        assert np.abs(adaptation.synthesise(inversion, first) - expected).max() < MAX_ERROR
    own = model.synthesise(inversion)[0]
    assert np.abs(adaptation.synthesise(inversion, 0) - own).max() > 0.1


def test_its_base_is_never_replaced(
    command: Command, built: Path, finetuned: Path, tmp_path: Path
) -> None:
    shutil.copytree(built, command.out)
    link = tmp_path / "link"
    link.symlink_to(command.out)
    before = snapshot(tmp_path)
    for base in (command.out, link):
        result = adapt(command, finetuned, base, "--force")
        assert result.exit_code == 2
        assert "is the bundle that the generator was fine-tuned from" in result.stderr
    assert snapshot(tmp_path) == before


def test_how_well_the_base_fits_is_not_said_of_another_generator(
    command: Command, built: Path, finetuned: Path, tmp_path: Path
) -> None:
    """It has no method that could be followed by steps."""
    base = shutil.copytree(built, tmp_path / "measured")
    manifest = Bundle.open(base).manifest
    alike = Quantiles((0.1,), (0.1,))
    fit = Fit(1, (0.5,), (alike,) * (1 + manifest.method().iterations), alike)
    write_manifest(base, replace(manifest, fit=fit, then="refine"))
    assert Bundle.open(base).manifest.fit == fit
    result = adapt(command, finetuned, base)
    assert result.exit_code == 0, result.output
    adapted = Bundle.open(command.out).manifest
    assert (adapted.fit, adapted.then) == (None, None)


def test_channel_offsets_of_a_refined_inversion_are_kept_where_those_of_the_codes_are(
    command: Command, built: Path, finetuned: Path
) -> None:
    assert adapt(command, finetuned, built).exit_code == 0
    model, adaptation = Model.load(built, "cpu"), Adaptation.load(command.out, "cpu")
    picture = fakeweights.image_u8(3, 64, 64)
    inversion = model.invert(picture, 1)
    refined = model.optimise(inversion, picture, steps=10)
    generator, _ = read_generator(finetuned)
    latents = torch.from_numpy(inversion.latents)[None]
    for first in (0, 6):
        offsets = model.offsets(refined).items()
        kept = {i: torch.from_numpy(o)[None] for i, o in offsets if i >= first}
        with torch.no_grad():
            expected = generator(latents, kept)[0].numpy()
        rendering = adaptation.synthesise(refined, first)
        assert np.abs(rendering - expected).max() < MAX_ERROR
        assert np.abs(rendering - adaptation.synthesise(inversion, first)).max() > 0.05


def test_free_weights_and_features_are_the_base_s_alone(
    command: Command, built: Path, finetuned: Path
) -> None:
    assert adapt(command, finetuned, built).exit_code == 0
    picture = fakeweights.image_u8(3, 64, 64)
    with Model.load(built, "cpu") as model, Adaptation.load(command.out, "cpu") as adaptation:
        for name in ("weights", "features"):
            found = model.optimise(None, picture, steps=1, variables=[name])
            with pytest.raises(
                InversionError,
                match=rf"needs {name}.* cannot render it: an adapted generator has its own; render",
            ):
                adaptation.synthesise(found, 0)


def test_a_generator_of_another_family_is_no_base(
    command: Command, finetuned: Path, tmp_path: Path
) -> None:
    """Of the same size: IDInvert's StyleGAN, which has no tuned layers to compare."""
    files = write_files(tmp_path)
    vgg16 = read_vgg16(files["vgg16"])
    networks = read_idinvert(files["generator"], files["encoder"], vgg16)
    base = tmp_path / "base"
    base.mkdir()
    write_idinvert_bundle(networks, base, BundleFacts("idinvert"), "fp32", lambda _step: None)
    for generator in (finetuned, files["generator"]):
        result = adapt(command, generator, base)
        assert result.exit_code == 2
        assert "bundle 'idinvert' was not built of StyleGAN2's checkpoints" in (
            " ".join(result.stderr.split())
        )
        assert not command.out.exists()


@pytest.mark.parametrize("storage", ["fp32", "fp16"])
def test_precision_and_storage_are_the_base_s(
    storage: str,
    tiny_checkpoints: tuple[Path, Path],
    finetuned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Affine layers in halves, too, as those of larger generators are."""
    monkeypatch.setattr(storing, "MIN_ELEMENTS", 16)
    base_path, path = tmp_path / "base", tmp_path / "adapted"
    base_path.mkdir()
    path.mkdir()
    model = load_model(*tiny_checkpoints)
    base = write_bundle(model, base_path, BundleFacts("base"), storage, lambda _step: None)
    base = add_half_graphs(model, base, lambda _step: None)
    adapted_model = load_adapted(finetuned, base)
    adapted = write_adapted(adapted_model, base, path, BundleFacts("toon"), lambda _step: None)
    adapted.verify()
    assert adapted.manifest.files["weights.onnx"].stored == storage
    half = {"weights", "generator", "styled_generator", "channel_offsets"}
    assert set(adapted.manifest.precisions["fp16"]) == half
    measure_adapted(adapted_model, base, adapted, fakeweights.image_u8(1, 64, 64))
    inversion = Model.load(base_path, "cpu").invert(fakeweights.image_u8(3, 64, 64), 2)
    single, half = (
        Adaptation.load(path, "cpu", precision=precision).synthesise(inversion, 0)
        for precision in ("fp32", "fp16")
    )
    assert 0 < np.abs(single - half).max() < 0.05


def test_a_wrong_bundle_is_not_written(
    command: Command, built: Path, finetuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Base weights left as they were: the comparison must see it."""
    from hyperstyle_export.bundles import adapted

    monkeypatch.setattr(adapted, "with_base_weights", lambda weights, *_: weights)
    result = adapt(command, finetuned, built)
    assert result.exit_code == 2
    assert "differs from its torch reference" in result.stderr
    assert not command.out.exists()


def test_a_generator_of_another_size_is_refused(
    command: Command, built: Path, tmp_path: Path
) -> None:
    larger = replace(TINY, generator=replace(TINY.generator, channels=(16, 16, 12, 8, 8)))
    result = adapt(command, finetuned_generator(tmp_path / "larger.pt", larger), built)
    assert result.exit_code == 2
    assert "is a generator of 64 px and style width 16 whose layers are not" in result.stderr
    assert not command.out.exists()


def test_an_adapted_base_is_refused(command: Command, built: Path, finetuned: Path) -> None:
    assert adapt(command, finetuned, built).exit_code == 0
    with pytest.raises(BuildError, match="is adapted from 'first' itself; give that one"):
        load_adapted(finetuned, Bundle.open(command.out))


def test_other_files_are_refused(command: Command, built: Path, tmp_path: Path) -> None:
    result = adapt(command, command.checkpoint, built)
    assert "is a HyperStyle checkpoint; a StyleGAN2 generator file" in result.stderr
    result = adapt(command, tmp_path / "missing.pt", built)
    assert "cannot read" in result.stderr


def test_the_two_commands_have_options_of_their_own(
    command: Command, built: Path, finetuned: Path
) -> None:
    for more in (["--checkpoint", "x.pt"], ["--w-encoder", "x.pt"], ["--storage", "fp16"]):
        result = adapt(command, finetuned, built, *more)
        assert result.exit_code == 2
        assert f"No such option: {more[0]}" in result.stderr
    assert not command.out.exists()
    result = CliRunner().invoke(app, ["--adapt", str(finetuned), "--out", str(command.out)])
    assert result.exit_code == 2
    assert "Missing option '--base'" in result.stderr


@pytest.mark.parametrize("words", [["--adapt", "--help"], ["--help", "--adapt", "x.pt"]])
def test_the_help_of_adapting_shows_its_options_only(words: list[str]) -> None:
    result = CliRunner().invoke(app, words, terminal_width=200)
    assert result.exit_code == 0
    assert "--base" in result.stdout
    assert "--w-encoder" not in result.stdout
    assert "build_engines.py --adapt toonify.pt --base" in result.stdout
