"""The build command: a bundle that is right appears whole, anything else not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakeweights
import numpy as np
import pytest
import torch
from build_command import Command, snapshot
from checkpoint_files import OTHER_KINDS, UNREADABLE, read, write_malicious, write_zip
from hyperstyle_export.building import _plain
from hyperstyle_export.bundles import verification, writer
from hyperstyle_export.bundles.staging import BuildError
from hyperstyle_export.cli import app
from hyperstyle_rt import Model
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.fields import is_plain_name
from models import TINY, build_model
from typer.testing import CliRunner

SCRIPT = Path(__file__).parents[2] / "export" / "build_engines.py"
FIGURES = {
    "latents_max_abs",
    "offsets_max_abs",
    "offsets_largest",
    "image_max_abs",
    "image_psnr_db",
}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_success_writes_a_bundle(command: Command) -> None:
    bundle = command.succeed("--domain", "noise", "--license", "MIT")
    manifest = bundle.manifest
    assert (manifest.name, manifest.domain, manifest.license) == ("tiny", "noise", "MIT")
    assert manifest.provenance == {
        "checkpoint": f"hyperstyle.pt sha256:{digest(command.checkpoint)}",
        "w_encoder": f"w_encoder.pt sha256:{digest(command.w_encoder)}",
    }
    assert manifest.resolution == 32
    assert manifest.input_size == (64, 64)
    assert [layer.index for layer in manifest.tuned_layers] == [0, 2, 3, 5, 6, 8, 9]
    assert {path.name for path in command.out.iterdir()} == {*manifest.files, "manifest.json"}
    assert {file.stored for file in manifest.files.values()} == {"fp32"}
    assert np.array_equal(bundle.latent_average(), build_model(TINY).latent_avg.numpy())


def test_success_measures_the_bundle(command: Command) -> None:
    result = command.run()
    accuracy = Bundle.open(command.out).manifest.accuracy
    assert accuracy.keys() >= FIGURES
    assert 0 < accuracy["latents_max_abs"] < 1e-5
    assert 0 < accuracy["offsets_max_abs"] < 1e-5 < 0.01 < accuracy["offsets_largest"]
    assert len(accuracy["image_max_abs"]) == accuracy["iterations"] == 2
    assert all(0 < error < 1e-4 for error in accuracy["image_max_abs"])
    assert accuracy["image_psnr_db"] > 90
    assert accuracy["provider"].endswith("CPUExecutionProvider")
    assert torch.__version__ in accuracy["against"]
    for key in FIGURES:
        assert key in result.stderr


def test_bundle_inverts_as_its_reference(built: Path) -> None:
    """The figures are not taken at their word: the same comparison once more, by hand."""
    picture = fakeweights.image_u8(2, 64, 64)
    output = Model.load(built, "cpu").invert(picture, iterations=3).output
    *_, last = build_model(TINY).iterate(torch.from_numpy(fakeweights.to_input(picture)), 3)
    assert np.abs(output - last.image[0].numpy()).max() < 1e-4


def test_script_runs_from_a_checkout(command: Command) -> None:
    words = [sys.executable, str(SCRIPT), *command.arguments("--name", "other")]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        words, env=environment, cwd=command.directory, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Traceback" not in done.stderr
    bundle = Bundle.open(command.out)
    bundle.verify()
    assert bundle.manifest.name == "other"


@pytest.mark.usefixtures("without_descent")
def test_dataset_type_replaces_that_of_the_file(command: Command) -> None:
    contents = read(command.checkpoint)
    del contents["opts"]["input_size"]
    command.checkpoint = command.directory / "h.pt"
    torch.save(contents, command.checkpoint)
    manifest = command.succeed("--dataset-type", "cars").manifest
    assert (manifest.crop_rows, manifest.image_size) == ((4, 28), (24, 32))
    assert manifest.input_size == (192, 256)


# What goes wrong inside a build: where, with what, and what is said of it (None: a bug, told so).
FAILURES: dict[str, tuple[Any, str, BaseException, str | None]] = {
    "disk_full": (
        writer,
        "save_model",
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        "cannot write .*engines/tiny: No space left on device",
    ),
    "bug_in_a_graph": (writer, "save_model", RuntimeError("bug"), None),
    "manifest": (writer, "write_manifest", PermissionError(13, "denied"), "cannot write"),
    "measurement": (verification, "measure_accuracy", BuildError("too far off"), "too far off"),
    "bug_in_measurement": (verification, "measure_accuracy", ValueError("bug"), None),
    "interrupt": (verification, "measure_accuracy", KeyboardInterrupt(), None),
}


@pytest.mark.usefixtures("without_descent")
@pytest.mark.parametrize("existing", [False, True], ids=["nothing", "a_bundle"])
@pytest.mark.parametrize("case", FAILURES)
def test_failure_leaves_nothing_behind(
    case: str, existing: bool, command: Command, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, name, error, message = FAILURES[case]
    if existing:
        shutil.copytree(built, command.out)

    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(where, name, fail)
    force = ["--force"] if existing else []
    if message is not None:
        command.refuse(message, *force)
        return
    before = snapshot(command.directory)
    result = command.run(*force)
    assert result.exit_code not in (0, 2)
    assert snapshot(command.directory) == before


@pytest.mark.usefixtures("without_descent")
def test_current_directory_can_be_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command.out.mkdir(parents=True)
    monkeypatch.chdir(command.out)
    result = command.run(out=".")
    assert result.exit_code == 0, result.output
    assert Bundle.open(command.out).manifest.name == "tiny"


@pytest.mark.usefixtures("without_descent")
@pytest.mark.parametrize(("umask", "file_mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_permissions_follow_the_umask(umask: int, file_mode: int, command: Command) -> None:
    before = os.umask(umask)
    try:
        command.succeed()
    finally:
        os.umask(before)
    assert command.out.stat().st_mode & 0o777 == 0o777 & ~umask
    assert {path.stat().st_mode & 0o777 for path in command.out.iterdir()} == {file_mode}


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_checkpoints_are_one_sentence(
    case: str, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write, message = UNREADABLE[case]
    path = tmp_path_factory.mktemp("wrong") / "unreadable.pt"
    write(path)
    assert str(path) in command.refuse(message, checkpoint=path)


@pytest.mark.parametrize("case", OTHER_KINDS)
def test_other_checkpoints_are_one_sentence(case: str, command: Command) -> None:
    contents, message = OTHER_KINDS[case]
    path = command.directory / "other.pt"
    torch.save(contents, path)
    command.refuse(f"{message}; --checkpoint wants", checkpoint=path)


@pytest.mark.parametrize("option", ["checkpoint", "w_encoder"])
def test_nothing_in_a_file_is_run(option: str, command: Command) -> None:
    path = command.directory / "malicious.pt"
    marker = write_malicious(write_zip, path)
    command.refuse("nothing in it was run", **{option: path})
    assert not marker.exists()


def test_exchanged_files_are_one_sentence(command: Command) -> None:
    command.refuse(
        "is a W-encoder checkpoint; --checkpoint wants",
        checkpoint=command.w_encoder,
        w_encoder=command.checkpoint,
    )


@pytest.mark.parametrize(
    ("picture", "message"),
    [("missing.png", "cannot read .*missing.png"), ("text.png", "text.png is not a picture")],
)
def test_unreadable_picture_is_refused_before_any_work(
    picture: str, message: str, command: Command
) -> None:
    (command.directory / "text.png").write_text("not a picture")
    command.refuse(
        message, picture=command.directory / picture, checkpoint=command.directory / "missing.pt"
    )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("name", "a/b", "cannot be named 'a/b'; give --name a plain name"),
        ("name", "..", r"cannot be named '\.\.'"),
        ("name", "my bundle", "cannot be named 'my bundle'"),
        ("domain", "", "--domain is empty; give it a value, or leave it out"),
        ("license", "", "--license is empty; give it a value, or leave it out"),
        ("domain", "caf\udce9s", r"domain 'caf\\udce9s' is no UTF-8; give it in UTF-8"),
        ("license", "\udca9 2026", r"license '\\udca9 2026' is no UTF-8; give it in UTF-8"),
    ],
)
def test_bad_facts_are_refused_before_any_work(
    option: str, value: str, message: str, command: Command
) -> None:
    command.refuse(message, **{option: value}, checkpoint=command.directory / "missing.pt")


def test_training_facts_larger_than_a_manifest_takes_are_refused_before_any_work(
    command: Command,
) -> None:
    """Of half the bytes that a manifest may have, which indentation doubles."""
    facts = command.directory / "training.json"
    facts.write_text(json.dumps({"losses": [[0.1] * 2 for _ in range(40_000)]}))
    missing = command.directory / "missing.pt"
    command.refuse(
        "training facts take 1,.* bytes of the manifest", training=facts, checkpoint=missing
    )
    facts.write_text(json.dumps({"losses": [0.1] * 30_000}))
    command.refuse("cannot read .*missing.pt", training=facts, checkpoint=missing)


def test_a_manifest_that_could_not_be_opened_is_not_written(built: Path, tmp_path: Path) -> None:
    manifest = Bundle.open(built).manifest
    for length, is_written in ((900_000, True), (1_100_000, False)):
        large = replace(manifest, training={"notes": "x" * length})
        if is_written:
            writer.write_manifest(tmp_path, large)
            assert Bundle.open(tmp_path).manifest == large
            (tmp_path / "manifest.json").unlink()
        else:
            with pytest.raises(BuildError, match=r"would have 1,.* of which 1,048,576"):
                writer.write_manifest(tmp_path, large)
    assert not list(tmp_path.iterdir())


def test_messages_are_shown_as_they_are(command: Command) -> None:
    """Brackets are no markup, and what a file says moves no cursor."""
    contents = read(command.checkpoint)
    contents["opts"] = {"input_size": "[bold]\x1b[2J"}
    directory = command.directory / "[red]"
    directory.mkdir()
    torch.save(contents, directory / "h.pt")
    line = command.refuse(r"positive integers \[height, width\]\.$", checkpoint=directory / "h.pt")
    assert "[red]/h.pt" in line
    assert "[bold]" in line
    assert "\x1b" not in line


@pytest.mark.usefixtures("without_descent")
def test_brackets_in_the_directory_are_shown(command: Command) -> None:
    out = command.directory / "[red]"
    result = command.run(out=out)
    assert result.exit_code == 0, result.output
    assert "[red]" in result.stderr
    assert Bundle.open(out).manifest.name == "red"  # a plain name of the directory's


@pytest.mark.parametrize(
    ("directory", "name"),
    [("my dir", "my-dir"), (".faces 2.0 (new)", "faces-2.0-new"), ("a-b_c.d", "a-b_c.d")],
)
def test_names_of_directories_become_plain_names(directory: str, name: str) -> None:
    assert _plain(directory) == name
    assert is_plain_name(name)
    assert not is_plain_name(_plain("目録"))  # refused later, with a sentence that shows it


def test_help_shows_examples_that_would_run() -> None:
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "Examples" in result.stdout
    assert result.stdout.count("python export/build_engines.py") >= 2
    options = set(re.findall(r"--[a-z][a-z0-9-]*", result.stdout))
    examples = result.stdout[result.stdout.index("Examples") :]
    used = set(re.findall(r"--[a-z][a-z0-9-]*", examples))
    assert {"--checkpoint", "--w-encoder", "--out", "--storage"} <= used
    listed = set(re.findall(r"--[a-z][a-z0-9-]*", result.stdout[: result.stdout.index("Examples")]))
    assert used - {"--adapt", "--triton"} <= listed, options  # of commands with helps of their own


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(SCRIPT), "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "--checkpoint" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hyperstyle_export.cli" in imported
    assert not imported & {"torch", "onnx", "onnx_ir", "onnxruntime", "numpy", "cv2", "safetensors"}


@pytest.fixture(scope="module")
def lpips_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """AlexNet in torchvision's layout, and heads; noise."""
    source = torch.Generator().manual_seed(0)
    shapes = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))
    backbone, heads = {}, {}
    for number, (at, (out, into, side)) in enumerate(zip((0, 3, 6, 8, 10), shapes, strict=True)):
        kernel = torch.randn(out, into, side, side, generator=source)
        backbone[f"features.{at}.weight"] = kernel * (2 / (into * side * side)) ** 0.5
        backbone[f"features.{at}.bias"] = torch.zeros(out)
        heads[f"lin{number}.model.1.weight"] = torch.rand(1, out, 1, 1, generator=source) / out
    directory = tmp_path_factory.mktemp("lpips")
    torch.save(backbone, directory / "alexnet.pth")
    torch.save(heads, directory / "alex.pth")
    return directory / "alexnet.pth", directory / "alex.pth"


def test_refinement_follows_lpips(command: Command, lpips_files: tuple[Path, Path]) -> None:
    backbone, heads = lpips_files
    bundle = command.succeed("--refine-lpips", backbone, "--refine-lpips-heads", heads)
    said = bundle.manifest.provenance
    assert said["refine_lpips"] == f"alexnet.pth sha256:{digest(backbone)}"
    assert said["refine_lpips_heads"] == f"alex.pth sha256:{digest(heads)}"
    sizes = {name: file.size for name, file in bundle.manifest.files.items()}
    assert sizes["features.onnx.data"] > 9 << 20
    assert sizes["objective.onnx"] < 2 << 20  # the backbone is stored once
    model = Model.load(command.out, "cpu", threads=1)
    inversion, losses = model.invert(command.picture, 1), []
    model.optimise(
        inversion, command.picture, steps=3, on_step=lambda _n, loss, _i: losses.append(loss)
    )
    assert losses[-1] < losses[0]


def test_lpips_files_that_do_not_serve_are_refused(
    command: Command, lpips_files: tuple[Path, Path]
) -> None:
    backbone, heads = lpips_files
    command.refuse("give --refine-lpips and --refine-lpips-heads", "--refine-lpips", backbone)
    both = ("--refine-lpips", heads, "--refine-lpips-heads", heads)
    command.refuse("holds no torchvision backbone", *both)


def test_lpips_weights_that_are_no_networks_are_refused(
    command: Command, lpips_files: tuple[Path, Path]
) -> None:
    """NaN would make a bundle that builds and cannot optimise."""
    backbone, heads = lpips_files
    kernel, head = "features.3.weight", "lin2.model.1.weight"
    stored = read(backbone)[kernel]
    no_numbers, no_layer = "holds something other than finite numbers", "convolution 1 of .* shape"
    for file, key, value, message in (
        (backbone, kernel, stored * torch.nan, f"{kernel}' {no_numbers}"),
        (backbone, "features.3.bias", torch.full((192,), torch.inf), f"bias' {no_numbers}"),
        (heads, head, read(heads)[head] * torch.nan, f"{head}' {no_numbers}"),
        (backbone, kernel, 3, f"{kernel}' {no_numbers}"),
        (backbone, kernel, torch.tensor(1.0), no_layer),
        (backbone, kernel, stored[..., 0], no_layer),
        (backbone, kernel, stored[..., :1, :1], no_layer),
    ):
        changed = command.directory / "changed.pth"
        torch.save(read(file) | {key: value}, changed)
        files = [changed if file is each else each for each in (backbone, heads)]
        command.refuse(message, "--refine-lpips", files[0], "--refine-lpips-heads", files[1])
