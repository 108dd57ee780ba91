"""Files, folders and patterns as a user names them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hyperstyle_rt import PictureError
from hyperstyle_rt.batch.records import Record, with_record
from hyperstyle_rt.batch.sources import find_sources
from pictures import encode, photo


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")


def found(*arguments: str) -> dict[str, str]:
    """Path -> name of the results, in the order found."""
    sources = find_sources([Path(argument) for argument in arguments])
    return {source.path.as_posix(): source.name.as_posix() for source in sources}


def passed_over(*arguments: str) -> list[str]:
    return [path.as_posix() for path in find_sources(list(map(Path, arguments))).passed_over]


def test_a_folder_gives_the_pictures_below_it_sorted_by_suffix() -> None:
    make("in/b.PNG", "in/a.jpg", "in/x/c.webp", "in/x.y/d.jpeg", "in/notes.txt", "in/f.xcf")
    make("in/.hidden.png", "in/.cache/e.png")
    expected = {"in/a.jpg": "a", "in/b.PNG": "b", "in/x/c.webp": "x/c", "in/x.y/d.jpeg": "x.y/d"}
    assert found("in") == expected
    assert list(found("in")) == list(expected)
    assert passed_over("in") == ["in/f.xcf", "in/notes.txt"]


def test_results_of_earlier_runs_are_no_pictures_of_a_folder() -> None:
    make("in/a.png")
    result = with_record(encode(photo(), "PNG"), Record("0" * 64, {}, {}, 1, 0, 0, ()))
    Path("in/a.inverted.png").write_bytes(result)
    Path("in/a.inverted.xcf").write_bytes(result)
    Path("in/r.json").write_text(json.dumps({"format": "hyperstyle-rt-report"}))
    Path("in/other.json").write_text("{}")
    make("in/a.safetensors", "in/Thumbs.db", "in/desktop.ini", "in/.DS_Store")
    assert found("in") == {"in/a.png": "a"}
    assert passed_over("in") == ["in/other.json"]
    assert found("in/a.inverted.png") == {"in/a.inverted.png": "a.inverted"}


def test_results_of_a_name_of_dots_are_not_hidden() -> None:
    make("..png", "x/...png")
    assert found("..png") == {"..png": "png"}
    assert found("x/...png") == {"x/...png": "png"}


def test_a_folder_without_pictures_is_refused() -> None:
    make("in/notes.txt")
    with pytest.raises(PictureError, match=r"no picture in in, only in/notes\.txt; pictures end"):
        find_sources([Path("in")])
    Path("in/notes.txt").unlink()
    with pytest.raises(PictureError, match=r"no picture in in; pictures end in one of \.png"):
        find_sources([Path("in")])


def test_links_to_folders_are_followed(folder: Path) -> None:
    make("in/a.png", "elsewhere/b.png", "elsewhere/deep/c.png", "elsewhere/x.psd")
    Path("in/more").symlink_to(folder / "elsewhere")
    assert found("in") == {
        "in/a.png": "a",
        "in/more/b.png": "more/b",
        "in/more/deep/c.png": "more/deep/c",
    }
    assert passed_over("in") == ["in/more/x.psd"]
    Path("link").symlink_to("in")
    assert list(found("link").values()) == list(found("in").values())
    assert len(found("link", "in")) == len(found("in/**/*.png", "elsewhere")) == 3


def test_links_that_lead_back_are_followed_once(folder: Path) -> None:
    make("in/a.png", "in/x/b.png", "in/x/y/c.png", "other/d.png")
    Path("in/0").symlink_to("x")  # sorts before the folder's own name
    Path("in/x/up").symlink_to("..")
    Path("in/x/y/self").symlink_to(".")
    Path("in/x/other").symlink_to(folder / "other")
    Path("other/back").symlink_to(folder / "in")
    expected = {
        "in/a.png": "a",
        "in/x/b.png": "x/b",
        "in/x/other/d.png": "x/other/d",
        "in/x/y/c.png": "x/y/c",
    }
    assert found("in") == expected
    assert passed_over("in") == []
    below = find_sources([Path("in/x/**/*.png")])
    assert sorted(source.path.name for source in below) == ["a.png", "b.png", "c.png", "d.png"]


def test_what_cannot_be_read_is_named_not_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("in/a.png", "in/secret/b.png")
    os.mkfifo("in/pipe.png")
    Path("in/gone.png").symlink_to("nowhere.png")
    scandir = os.scandir

    def refuse(place: Path) -> object:
        if Path(place).name == "secret":
            raise PermissionError(13, "denied")
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list(found("in")) == ["in/a.png", "in/gone.png"]  # reading that is an error
    assert sorted(passed_over("in")) == ["in/pipe.png", "in/secret"]


def test_what_is_named_by_itself_is_not_passed_over() -> None:
    make("in/a.png", "in/b.xcf")
    assert found("in", "in/b.xcf") == {"in/a.png": "a", "in/b.xcf": "b"}
    assert passed_over("in", "in/b.xcf") == []


def test_a_named_file_is_taken_whatever_it_is_called() -> None:
    make("in/notes.txt")
    assert found("in/notes.txt", "missing") == {"in/notes.txt": "notes", "missing": "missing"}


def test_patterns_are_what_a_shell_makes_of_them() -> None:
    make("in/b.png", "in/a.png", "in/x/y/c.png", "in/d.txt")
    assert list(found("in/*.png")) == ["in/a.png", "in/b.png"]
    assert list(found("in/[b-z].png")) == ["in/b.png"]
    assert found("in/**/*.png") == {"in/a.png": "a", "in/b.png": "b", "in/x/y/c.png": "c"}
    assert found("i*") == found("in")  # a folder that fits is a folder
    assert found("**/y/*.png") == found("in/*/**/?.png") == {"in/x/y/c.png": "c"}
    assert list(found("in/**")) == ["in/a.png", "in/b.png", "in/d.txt", "in/x/y/c.png"]


def test_a_file_may_have_a_name_like_a_pattern() -> None:
    make("[a].png", "a.png")
    assert found("[a].png") == {"[a].png": "[a]"}


def test_a_pattern_that_nothing_fits_is_refused() -> None:
    with pytest.raises(PictureError, match=r"nothing fits in/\*\.png"):
        find_sources([Path("in/*.png")])


def test_a_file_counts_once() -> None:
    make("in/a.png")
    assert found("in", "in/a.png", "./in/a.png", str(Path("in/a.png").resolve()), "in/*") == {
        "in/a.png": "a"
    }


def test_names_that_collide_keep_the_folders_they_differ_in() -> None:
    make("2024/may/face.png", "2024/june/face.jpg", "2024/june/other.png")
    names = {
        "2024/may/face.png": "may/face",
        "2024/june/face.jpg": "june/face",
        "2024/june/other.png": "other",
    }
    assert found(*names) == names
    assert found("2024/may", "2024/june")["2024/june/face.jpg"] == "june/face"
    make("face.png")
    assert found("face.png", "2024/may/face.png") == {
        "face.png": "face",
        "2024/may/face.png": "2024/may/face",
    }


def test_longer_names_may_collide_again() -> None:
    make("in/b/c.png", "x/b/c.png", "x/d/c.png")
    assert found("in", "x/b/c.png", "x/d/c.png") == {
        "in/b/c.png": "in/b/c",
        "x/b/c.png": "x/b/c",
        "x/d/c.png": "d/c",
    }


def test_names_that_collide_in_one_folder_keep_their_suffix() -> None:
    make("in/x/a.png", "in/x/a.jpg", "in/x/b.png")
    assert found("in") == {"in/x/a.jpg": "x/a.jpg", "in/x/a.png": "x/a.png", "in/x/b.png": "x/b"}
