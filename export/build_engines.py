#!/usr/bin/env python
"""Checkpoints -> engine bundle: the one command of export/. See `--help`."""

from __future__ import annotations

from hyperstyle_export.cli import app

if __name__ == "__main__":
    app()
