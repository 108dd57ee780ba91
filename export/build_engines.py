#!/usr/bin/env python
"""Checkpoints -> engine bundle: the one command of export/. See `--help`."""

from __future__ import annotations

import sys
from pathlib import Path

# Runs from a checkout without installation: the runtime package lies beside this directory.
sys.path.append(str(Path(__file__).resolve().parents[1] / "runtime"))

from hyperstyle_export.cli import app

if __name__ == "__main__":
    app()
