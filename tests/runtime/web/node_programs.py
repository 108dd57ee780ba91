"""The package runtime/web in Node, as a page's worker runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

WEB = Path(__file__).parents[3] / "runtime" / "web"
PROGRAMS = Path(__file__).with_name("programs")
NODE = shutil.which("node")


def onnxruntime_web() -> Path | None:
    """The npm package onnxruntime-web: where ``npm install`` in runtime/web has put it."""
    named = os.environ.get("ONNXRUNTIME_WEB")
    package = Path(named) if named else WEB / "node_modules" / "onnxruntime-web"
    return package if (package / "package.json").is_file() else None


needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
needs_onnxruntime_web = pytest.mark.skipif(
    NODE is None or onnxruntime_web() is None,
    reason="onnxruntime-web is not installed; run npm install in runtime/web",
)


def run(program: str, *arguments: object, threads: int = 1) -> Any:
    """Run a program of ``programs/`` and read the JSON that it prints."""
    assert NODE is not None
    package = onnxruntime_web()
    variables = {"THREADS": str(threads)}
    if package is not None:
        variables["ONNXRUNTIME_WEB"] = str(package)
    done = subprocess.run(
        [NODE, str(PROGRAMS / program), *map(str, arguments)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
