"""Fixtures: the tiny checkpoints as dictionaries, the build command, and a bundle made by it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from build_command import Command
from checkpoint_files import Contents, read


@pytest.fixture
def contents(tiny_checkpoints: tuple[Path, Path]) -> Contents:
    """The tiny HyperStyle file as a dictionary to alter."""
    return read(tiny_checkpoints[0])


@pytest.fixture
def w_contents(tiny_checkpoints: tuple[Path, Path]) -> Contents:
    """The tiny W-encoder file as a dictionary to alter."""
    return read(tiny_checkpoints[1])


@pytest.fixture(scope="session")
def built(tiny_checkpoints: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle named first, to copy."""
    command = Command(tmp_path_factory.mktemp("built"), tiny_checkpoints)
    command.succeed("--name", "first")
    return command.out


@pytest.fixture
def command(tiny_checkpoints: tuple[Path, Path], tmp_path: Path) -> Command:
    return Command(tmp_path, tiny_checkpoints)


@pytest.fixture
def without_descent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build without the graphs that optimise: two thirds of a tiny bundle's time.

    For tests of what happens to whole bundles and directories, not of what is in them.
    """
    from hyperstyle_export.bundles import writer
    from hyperstyle_export.methods import sharing_graphs

    monkeypatch.setattr(writer, "sharing_graphs", partial(sharing_graphs, refinement=False))
