"""Running the command line in tests, and what it must not leave behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import hyperstyle_rt
import numpy as np
from hyperstyle_rt.cli.app import app
from hyperstyle_rt.imaging.pictures import write_picture
from typer.testing import CliRunner, Result

RUNTIME = Path(hyperstyle_rt.__file__).parents[1]


def run(*arguments: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeed(*arguments: object) -> str:
    """Check that a command succeeds without a word on standard error; give its output."""
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def refuse(*arguments: object) -> str:
    """Check that a command fails with one sentence and nothing else; give the sentence."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return sentence(result.stderr)


def sentence(stderr: str) -> str:
    """Check that an error is one line; give it."""
    (line,) = stderr.splitlines()
    assert line.startswith("error: ")
    assert "Traceback" not in line
    return line.removeprefix("error: ")


def files() -> set[str]:
    """List all files below the working directory."""
    return {str(path) for path in Path().rglob("*") if path.is_file()}


def run_python(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, where the package can be imported."""
    command = [sys.executable, *(str(argument) for argument in arguments)]
    environment = os.environ | {"PYTHONPATH": str(RUNTIME)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def run_program(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return run_python("-m", "hyperstyle_rt", *arguments)


def altered_copy(bundle: Path) -> Path:
    """Copy a bundle into the working directory, with one bit of its encoder flipped."""
    copy = Path("altered")
    shutil.copytree(bundle, copy)
    data = bytearray((copy / "encoder.onnx").read_bytes())
    data[-1] ^= 1
    (copy / "encoder.onnx").write_bytes(data)
    return copy


def write_face() -> Path:
    """Write ``face.png`` into the working directory, of no size that a bundle has."""
    y, x = np.mgrid[0:40, 0:56]
    path = Path("face.png")
    write_picture(path, np.stack([6 * y, 4 * x, 128 + y - x], -1).astype(np.uint8))
    return path
