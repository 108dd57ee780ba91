"""The README's examples, run as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoints: tuple[Path, Path]) -> Path:
    """A working directory with the examples, the exporter and two checkpoints."""
    directory = tmp_path_factory.mktemp("readme")
    (directory / "examples").symlink_to(ROOT / "examples")
    (directory / "export").symlink_to(ROOT / "export")
    (directory / "engines").mkdir()
    for checkpoint in tiny_checkpoints:
        shutil.copy(checkpoint, directory)
    return directory


def run(command: list[str], folder: Path) -> None:
    paths = os.pathsep.join(str(ROOT / p) for p in ("runtime", "export"))
    environment = os.environ | {"PYTHONPATH": paths}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_python_examples(folder: Path) -> None:
    for block in blocks("python"):
        run([sys.executable, "-c", block], folder)
    assert (folder / "portrait.safetensors").is_file()


def test_command_line_examples(folder: Path) -> None:
    programs = {
        "hyperstyle-rt": [sys.executable, "-m", "hyperstyle_rt"],
        "python": [sys.executable],
    }
    lines = [line for block in blocks("sh") for line in block.splitlines() if line]
    assert len(lines) >= 6
    for line in lines:
        words = [
            match
            for word in shlex.split(line)
            for match in (sorted(map(str, folder.glob(word))) if "*" in word else [word])
        ]
        run(programs[words[0]] + words[1:], folder)
    assert (folder / "face.png").is_file()
