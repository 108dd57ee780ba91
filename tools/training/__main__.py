"""Entry point: `python tools/training --help`."""

from __future__ import annotations

import sys
from pathlib import Path

# Runs from a checkout without installation.
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("tools", "export", "runtime")]

from training.cli import app

# Lightning starts further processes as it finds this one started: by module name, or by path. This
# is a directory, for which only the path is right.
__spec__ = None

if __name__ == "__main__":
    app()
