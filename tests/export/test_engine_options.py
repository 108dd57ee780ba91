"""build_engines.py with fp16 graphs and TensorRT plans, from checkpoints to a bundle."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hyperstyle_export.bundles import verification
from hyperstyle_export.cli import app
from hyperstyle_rt.backends.cuda.driver import Gpu
from hyperstyle_rt.backends.plans import build as plan_build
from hyperstyle_rt.errors import BackendError
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.imaging.pictures import write_picture
from typer.testing import CliRunner, Result


@pytest.fixture
def files(tiny_checkpoints: tuple[Path, Path], picture: np.ndarray, tmp_path: Path) -> list[str]:
    """The options that name what is read and written."""
    write_picture(tmp_path / "picture.png", picture)
    checkpoint, w_encoder = (str(path) for path in tiny_checkpoints)
    paths = ["--checkpoint", checkpoint, "--w-encoder", w_encoder, "--out", str(tmp_path / "tiny")]
    return [*paths, "--picture", str(tmp_path / "picture.png")]


def build(files: list[str], *options: str) -> Result:
    return CliRunner().invoke(app, [*files, *options], env={"COLUMNS": "200"})


def test_both_precisions_in_one_go(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is measured takes the disk that the bundle is written to, not the temporary one."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    result = build(files, "--precision", "fp32,fp16")
    assert result.exit_code == 0, result.output
    bundle = Bundle.open(tmp_path / "tiny")
    bundle.verify()
    assert set(bundle.manifest.precisions) == {"fp16"}
    figures = bundle.manifest.accuracy["fp16"]
    assert figures["iterations"] == 5
    assert figures["image_psnr_db"] >= 45
    assert {f.stored for n, f in bundle.manifest.files.items() if ".fp16." in n} == {"fp16"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.usefixtures("without_descent")
def test_half_graphs_that_compute_something_else_are_not_written(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "MIN_PSNR_HALF", 100.0)
    result = build(files, "--precision", "fp32,fp16")
    assert result.exit_code == 2
    assert "the fp16 graphs of hyperstyle differ from those in fp32" in result.output
    assert not (tmp_path / "tiny").exists()


@pytest.mark.engines
@pytest.mark.usefixtures("without_descent")
def test_plans_for_another_machine_in_one_go(files: list[str], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    result = build(files, "--precision", "fp32,fp16", "--tensorrt-rtx", "--sm", "120")
    assert result.exit_code == 0, result.output
    bundle = Bundle.open(tmp_path / "tiny")
    bundle.verify()
    assert [key.split("-", 1)[1] for key in bundle.manifest.plans] == ["sm120-fp32", "sm120-fp16"]
    assert "generator" in result.output
    assert "layers" in result.output


@pytest.mark.usefixtures("without_descent")
def test_without_tensorrt_the_bundle_is_kept(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(plan_build, "find_gpu", lambda: Gpu("NVIDIA L4", 89))
    result = build(files, "--tensorrt")
    assert result.exit_code == 1
    assert result.output.count("error:") == 1
    assert "tensorrt cannot be imported" in result.output
    assert result.output.rstrip().endswith("is whole without plans.")
    bundle = Bundle.open(tmp_path / "tiny")
    bundle.verify()
    assert not bundle.manifest.plans


@pytest.mark.usefixtures("without_descent")
def test_without_a_gpu_the_bundle_is_kept(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_gpu() -> None:
        raise BackendError("there is no NVIDIA driver on this machine; install it")

    monkeypatch.setattr(plan_build, "find_gpu", no_gpu)
    result = build(files, "--tensorrt")
    assert result.exit_code == 1
    assert "error: there is no NVIDIA driver on this machine; install it; the O" in result.output
    Bundle.open(tmp_path / "tiny").verify()


@pytest.mark.usefixtures("without_descent")
def test_nothing_is_said_of_plans_that_were_not_asked_for(files: list[str]) -> None:
    assert "TensorRT" not in build(files).output


@pytest.mark.parametrize(
    "options", [["--workspace", "64"], ["--timing-cache", "x"], ["--layer-report"]]
)
def test_how_plans_are_built_is_refused_without_plans(
    options: list[str], files: list[str], tmp_path: Path
) -> None:
    result = build(files, *options)
    assert result.exit_code == 2
    assert f"{options[0]} is for TensorRT plans; give --tensorrt or" in result.output
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("options", [["--tensorrt-rtx"], ["--sm", "89"]])
def test_rtx_and_its_architecture_go_together(
    options: list[str], files: list[str], tmp_path: Path
) -> None:
    result = build(files, *options)
    assert result.exit_code == 2
    assert "--tensorrt-rtx and --sm go together" in result.output
    assert not (tmp_path / "tiny").exists()
