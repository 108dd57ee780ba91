"""The page's engine in Node: what it asks of the service."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import hyperstyle_rt.serving
import pytest

NODE = shutil.which("node")
PROGRAM = Path(__file__).parent / "programs" / "page_engine.mjs"
ENGINE = Path(hyperstyle_rt.serving.__file__).parent / "page" / "server.js"

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")


def run(case: str, folder: Path) -> Any:
    """What the engine gives in one case of the program, and the requests it has made."""
    module = folder / "server.mjs"  # for Node, .js is a module only where a package says so
    module.write_bytes(ENGINE.read_bytes())
    command = [NODE, str(PROGRAM), str(module), case]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_stop_during_the_upload_gives_the_job_up(tmp_path: Path) -> None:
    assert run("stopped during the upload", tmp_path) == {
        "result": "stopped",
        "asked": ["POST v1/inversions", "DELETE v1/inversions/X"],
    }


def test_stop_while_the_queue_is_full_sends_nothing_again(tmp_path: Path) -> None:
    assert run("stopped while the queue is full", tmp_path) == {
        "result": "stopped",
        "asked": ["POST v1/inversions"],
    }


def test_a_page_that_is_closed_gives_its_job_up(tmp_path: Path) -> None:
    assert run("the page is closed", tmp_path) == {
        "result": "closed",
        "asked": ["POST v1/inversions", "GET v1/inversions/X/events", "DELETE v1/inversions/X"],
    }


def test_stop_while_a_file_is_opened(tmp_path: Path) -> None:
    assert run("stopped while a file is opened", tmp_path) == {
        "result": "stopped",
        "asked": ["POST v1/inversion-files"],
    }


def test_a_token_that_no_header_can_carry_is_asked_for_again(tmp_path: Path) -> None:
    answer = run("a token that no header can carry", tmp_path)
    assert answer == {"result": "described", "asked": ["GET v1/bundles"] * 5}
