"""IDInvert's boundaries, which say themselves which rows of the latents they move."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from directions import convert as tool
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.directions_file import LinearDirection, bundle_directions
from typer.testing import CliRunner, Result

ROWS, WIDTH = 8, 16
BOUNDARY = np.random.default_rng(0).standard_normal((1, ROWS, WIDTH), dtype=np.float32)
BOUNDARY /= np.linalg.norm(BOUNDARY, axis=2, keepdims=True)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    return tmp_path / "tiny"


def write(folder: Path, rows: Any, boundary: Any = BOUNDARY) -> Path:
    """A file as IDInvert's are: an array without axes that holds a dictionary."""
    path = folder / "age.npy"
    facts = {"boundary": boundary, "meta_data": {"manipulate_layers": rows, "attribute": "age"}}
    np.save(path, np.array(facts, dtype=object))
    return path


def convert(bundle: Path, path: Path, *more: str) -> Result:
    words = ["interfacegan", str(path), "--name", "age", "--bundle", str(bundle), *more]
    return CliRunner().invoke(tool.app, words)


def converted(bundle: Path, path: Path, *more: str) -> LinearDirection:
    result = convert(bundle, path, *more)
    assert result.exit_code == 0, result.output
    opened = Bundle.open(bundle)
    opened.verify()
    direction = bundle_directions(opened)["age"]
    assert isinstance(direction, LinearDirection)
    return direction


@pytest.mark.parametrize("stated", ["0-2", [0, 1, 2], np.arange(3), "0, 1-2"])
def test_the_stated_rows_are_moved(stated: Any, bundle: Path, tmp_path: Path) -> None:
    direction = converted(bundle, write(tmp_path, stated))
    np.testing.assert_array_equal(direction.vector, BOUNDARY[0])
    assert (direction.rows, direction.scale) == ((0, 3), 1.0)


def test_rows_apart_all_rows_and_rows_of_the_user(bundle: Path, tmp_path: Path) -> None:
    apart = converted(bundle, write(tmp_path, "1, 4-5"))
    assert apart.rows == (1, 6)
    assert {row for row in range(ROWS) if apart.vector[row].any()} == {1, 4, 5}
    np.testing.assert_array_equal(apart.vector[[1, 4, 5]], BOUNDARY[0, [1, 4, 5]])
    assert converted(bundle, write(tmp_path, None)).rows == (0, ROWS)
    assert converted(bundle, write(tmp_path, "0-2"), "--rows", "3:6").rows == (3, 6)
    one = converted(bundle, write(tmp_path, [2, 5], BOUNDARY[:, 0]))
    np.testing.assert_array_equal(one.vector[5], BOUNDARY[0, 0])
    assert not one.vector[3].any()


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("run",)


@pytest.mark.parametrize(
    ("rows", "boundary", "message"),
    [
        ("0-2", BOUNDARY[:, :7], r"shape \[1, 7, 16\].*takes \[16\] or \[8,16\]"),
        ("0-8", BOUNDARY, "moves row 8 of the latents .* have 8"),
        ("all of them", BOUNDARY, "which is no list of rows; give --rows"),
        ([0.5], BOUNDARY, "which is no list of rows"),
        ([], BOUNDARY, "which is no list of rows"),
        ("0-2", np.full_like(BOUNDARY, np.nan), "NaN or infinity"),
        ("0-2", Malicious(), "posix.mkdir, more than arrays .*nothing in it was run"),
    ],
)
def test_wrong_files_are_refused(
    rows: Any,
    boundary: Any,
    message: str,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = (bundle / "manifest.json").read_bytes()
    result = convert(bundle, write(tmp_path, rows, boundary))
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert re.search(message, line), line
    assert not (tmp_path / "run").exists()
    assert (bundle / "manifest.json").read_bytes() == before


def test_cut_files_are_refused(bundle: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "0-2")
    data = path.read_bytes()
    for part in range(1, 8):
        path.write_bytes(data[: len(data) * part // 8])
        result = convert(bundle, path)
        assert result.exit_code == 2, result.output
        assert len(result.stderr.splitlines()) == 1
