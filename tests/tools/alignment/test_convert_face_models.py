"""The script that made the packaged face models."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
from hyperstyle_rt.photos.face_models import MODEL_DIGESTS, MODELS
from typer.testing import CliRunner

pytest.importorskip("torch")
import typer
from alignment import convert_models
from alignment.convert_models import CONVERSIONS


def test_every_packaged_model_is_of_a_conversion_and_of_its_digest() -> None:
    assert {each.result for each in CONVERSIONS} == set(MODEL_DIGESTS)
    assert {path.name for path in MODELS.glob("*.onnx")} == set(MODEL_DIGESTS)
    for name, digest in MODEL_DIGESTS.items():
        assert hashlib.sha256((MODELS / name).read_bytes()).hexdigest() == digest


def test_another_version_of_the_package_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for each in CONVERSIONS:
            archive.writestr(each.source, b"another model")
    app = typer.Typer()
    app.command()(convert_models.main)
    result = CliRunner().invoke(app, [str(wheel), "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "take the package versions that the head of this script names" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["other.whl"]


@pytest.mark.parametrize(
    ("stride", "kernel", "same", "pads"),
    [
        (1, 3, True, [1, 1, 1, 1]),
        (2, 3, True, [0, 0, 1, 1]),
        (2, 5, True, [1, 1, 2, 2]),
        (2, 2, True, [0, 0, 0, 0]),
        (3, 3, False, [0, 0, 0, 0]),
    ],
)
def test_the_odd_pixel_of_same_padding_comes_behind(
    stride: int, kernel: int, same: bool, pads: list[int]
) -> None:
    class Options:
        def Padding(self) -> int:
            return 0 if same else 1

        def StrideH(self) -> int:
            return stride

        StrideW = StrideH

    window = convert_models._window(Options(), kernel, kernel)
    assert window["pads"] == pads
    assert window["strides"] == [stride, stride]
