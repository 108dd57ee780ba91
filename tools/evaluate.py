#!/usr/bin/env python
"""Reconstruction quality on a folder of pictures: see evaluation/cli.py."""

import typer
from evaluation.cli import main

if __name__ == "__main__":
    typer.run(main)
