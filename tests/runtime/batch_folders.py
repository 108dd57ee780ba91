"""Folders of small pictures for tests, and what inverting them gives."""

from __future__ import annotations

import json
from pathlib import Path

import fakeweights
from command_line import run
from hyperstyle_rt.imaging.pictures import write_picture


def make_pictures(*names: str, first: int = 1) -> None:
    """Write small pictures, each of its own content."""
    for number, name in enumerate(names, first):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write_picture(name, fakeweights.image_u8(number, 16, 16))


def outcomes(*arguments: object, exit_code: int = 0) -> dict[str, list[str]]:
    """Run invert; the names of the pictures that were inverted, skipped and bad."""
    result = run("invert", *arguments, "--json", "-n", 1)
    assert result.exit_code == exit_code, result.output
    document = json.loads(result.stdout)
    return {
        key: sorted({Path(entry["input"]).stem for entry in document[key]})
        for key in ("inversions", "skipped", "errors")
    }


def contents(folder: str = "out") -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*.*")}
