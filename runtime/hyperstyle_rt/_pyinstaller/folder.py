"""Where this package keeps its hooks: the target of the entry point ``pyinstaller40``."""

from __future__ import annotations

from pathlib import Path


def hook_dirs() -> list[str]:
    """Give the folders that PyInstaller looks for hooks in."""
    return [str(Path(__file__).parent)]
