"""The page in Node, with elements and an engine of the test: what it shows, and lets one do."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import hyperstyle_rt.serving
import pytest

NODE = shutil.which("node")
PROGRAM = Path(__file__).parent / "programs" / "page_app.mjs"
PAGE = Path(hyperstyle_rt.serving.__file__).parent / "page"

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")

ALL, NOTHING, WATCHED = [True] * 4, [False] * 4, [True, False, False, False]
"""Shown or not: the stage, the buttons that save, the edits."""


def run(case: str, folder: Path) -> Any:
    """What a case of the program says."""
    page = folder / "page"
    shutil.copytree(PAGE, page)
    (page / "package.json").write_text('{"type": "module"}')  # for Node
    command = [NODE, str(PROGRAM), str(page), case]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_nothing_can_be_saved_before_there_is_a_face(tmp_path: Path) -> None:
    before, after = run("nothing is done yet", tmp_path)
    assert (before["shown"], before["result"]) == (WATCHED, "crop of one")
    assert (after["shown"], after["result"]) == (ALL, "one {}")


def test_the_face_before_comes_back_where_nothing_comes_of_the_next(tmp_path: Path) -> None:
    first, during, after = run("nothing comes of it", tmp_path)
    assert (first["shown"], first["status"]) == (NOTHING, "it failed")
    assert (during["shown"], during["result"]) == (WATCHED, "crop of bad")
    assert (after["shown"], after["result"]) == (ALL, "one {}")
    assert after["status"] == "it failed"


def test_another_face_is_shown_without_the_amounts_of_the_last(tmp_path: Path) -> None:
    shown = run("another face while a slider is moved", tmp_path)
    assert (shown["result"], shown["slider"]) == ("one {}", 0)


def test_methods_are_not_compared_while_an_inversion_goes_on(tmp_path: Path) -> None:
    said = run("all methods while one goes on", tmp_path)
    assert said["going_on"] == 1
    assert said["status"].startswith("One picture at a time")


def test_a_picture_may_miss_the_field(tmp_path: Path) -> None:
    assert run("a drop beside the field", tmp_path) == {
        "kept_from_the_browser": True,
        "going_on": 1,
    }


def test_the_bundle_s_own_steps_are_not_promised_where_a_method_is_named(tmp_path: Path) -> None:
    own = "the bundle's (photo)"
    assert run("a method is named", tmp_path) == [own, "none, for a method is named", own]
