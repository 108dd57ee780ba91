"""Folders of pictures with known factors: which row belongs to which picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from comparison.pictures import find_files
from directions.factor_regressor import read_renders
from directions.find import sample_of_pictures
from directions.read import load_attributes
from evaluation.cli import find_pictures as evaluated
from hyperstyle_rt import EditError, HyperStyleError, Model, PictureError
from hyperstyle_rt.imaging.pictures import write_picture
from photos.renders import read_set
from picture_sets.folders import known_pictures, read_factor_table
from portraits.assets import load
from portraits.dataset import read_table
from training.pictures import find_pictures

ROWS = 60


def write_some(folder: Path, names: Sequence[str]) -> Path:
    """A table of 60 rows that hold their own numbers, and some pictures."""
    folder.mkdir()
    values = np.arange(ROWS, dtype=np.float32)[:, None]
    np.savez(folder / "factors.npz", names=np.array(["row"]), values=values)
    for name in names:
        write_picture(folder / f"{name}.png", np.zeros((16, 16, 3), np.uint8))
    return folder


def test_rows_are_told_by_numbers_where_pictures_are_missing(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    """As two processes draw a set: the second has begun in its middle."""
    drawn = [0, 1, 2, 50, 51]
    folder = write_some(tmp_path / "set", [f"{number:06d}" for number in drawn])
    found = find_pictures([folder])
    assert [int(path.stem) for path in found.paths] == drawn
    assert found.factors[:, 0].tolist() == drawn
    assert read_renders(folder, 4).factors[:, 0].tolist() == drawn[:4]
    sample = sample_of_pictures(Model.load(tiny_bundle, "cpu", threads=1), folder, 5)
    spread = np.std(drawn) + 1e-3
    assert sample.standard[:, 0] == pytest.approx((drawn - np.mean(drawn)) / spread)


@pytest.mark.parametrize(
    "names",
    [["anna", "bert"], ["0001", "0002"], ["0000", "9999"], ["0", "10", "2"], ["0000", "01"]],
    ids=["words", "from 1 on", "beyond the table", "of several lengths", "of other lengths"],
)
def test_names_that_do_not_tell_rows_are_refused(tmp_path: Path, names: list[str]) -> None:
    folder = write_some(tmp_path / "set", names)
    with pytest.raises(EditError, match=rf"holds {len(names)} pictures and .* {ROWS} rows"):
        known_pictures(folder, EditError)


def test_pictures_beyond_the_table_are_left_out(tmp_path: Path) -> None:
    folder = write_some(tmp_path / "set", [f"face {number:03d}" for number in range(ROWS + 2)])
    known = known_pictures(folder, EditError)
    assert [path.stem for path in known.paths][-1] == f"face {ROWS - 1:03d}"
    assert known.values[:, 0].tolist() == list(range(ROWS))


def test_what_a_tool_has_left_is_no_picture_of_a_user(tmp_path: Path) -> None:
    """Unless it is asked for."""
    folder, out = tmp_path / "photos", tmp_path / "photos" / "report"
    (out / "renderings").mkdir(parents=True)
    for path in (folder / "1.png", out / "sheet.png", out / "renderings" / "1.png"):
        write_picture(path, np.zeros((16, 16, 3), np.uint8))
    (tmp_path / "link").symlink_to(out)
    assert find_files([folder], out) == [folder / "1.png"]
    assert find_files([folder], tmp_path / "link") == [folder / "1.png"]
    assert evaluated(folder, 5, out) == [folder / "1.png"]
    assert len(evaluated(folder, 5, None)) == len(find_files([folder], tmp_path / "other")) == 3
    assert find_files([out / "renderings"], out) == [out / "renderings" / "1.png"]
    with pytest.raises(PictureError, match="nothing to compare"):
        (folder / "1.png").unlink()
        find_files([folder], out)


@pytest.mark.parametrize("damage", ["cut off", "one array", "nothing", "missing"])
@pytest.mark.parametrize(
    "read",
    [
        lambda path: read_factor_table(path, EditError),
        lambda path: read_table(path.parent),
        lambda path: read_set(path.parent),
        load_attributes,
        load,
    ],
    ids=["factors", "portraits", "shards", "attributes", "head"],
)
def test_damaged_tables_are_named(
    tmp_path: Path, read: Callable[[Path], object], damage: str
) -> None:
    for name in ("factors.npz", "0000.npz"):
        path = tmp_path / name
        np.savez(path, names=np.array(["row"]), values=np.zeros((ROWS, 1), np.float32))
        if damage == "cut off":
            path.write_bytes(path.read_bytes()[:300])
        elif damage == "one array":
            with path.open("wb") as file:
                np.save(file, np.zeros(3))
        elif damage == "nothing":
            path.write_bytes(b"")
        elif name == "factors.npz":
            path.unlink()
        else:
            path.write_bytes(b"PK")
    with pytest.raises(HyperStyleError, match=r"\.npz"):
        read(tmp_path / "factors.npz")
