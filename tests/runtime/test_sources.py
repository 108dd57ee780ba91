"""Files, folders and patterns as a user names them."""

from __future__ import annotations

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


def test_a_folder_gives_the_pictures_below_it_sorted_by_suffix() -> None:
    make("in/b.PNG", "in/a.jpg", "in/x/c.webp", "in/x.y/d.jpeg", "in/notes.txt", "in/f.psd")
    make("in/.hidden.png", "in/.cache/e.png")
    expected = {"in/a.jpg": "a", "in/b.PNG": "b", "in/x/c.webp": "x/c", "in/x.y/d.jpeg": "x.y/d"}
    assert found("in") == expected
    assert list(found("in")) == list(expected)


def test_results_of_earlier_runs_are_no_pictures_of_a_folder() -> None:
    make("in/a.png")
    result = with_record(encode(photo(), "PNG"), Record("0" * 64, {}, 1, 0, 0, ()))
    Path("in/a.inverted.png").write_bytes(result)
    assert found("in") == {"in/a.png": "a"}
    assert found("in/a.inverted.png") == {"in/a.inverted.png": "a.inverted"}


def test_a_folder_without_pictures_is_refused() -> None:
    make("in/notes.txt")
    with pytest.raises(PictureError, match=r"no picture in in; pictures end in one of \.png"):
        find_sources([Path("in")])


def test_a_named_file_is_taken_whatever_it_is_called() -> None:
    make("in/notes.txt")
    assert found("in/notes.txt", "missing") == {"in/notes.txt": "notes", "missing": "missing"}


def test_patterns_are_what_a_shell_makes_of_them() -> None:
    make("in/b.png", "in/a.png", "in/x/y/c.png", "in/d.txt")
    assert list(found("in/*.png")) == ["in/a.png", "in/b.png"]
    assert list(found("in/[b-z].png")) == ["in/b.png"]
    assert found("in/**/*.png") == {"in/a.png": "a", "in/b.png": "b", "in/x/y/c.png": "c"}
    assert found("i*") == found("in")  # a folder that fits is a folder


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
