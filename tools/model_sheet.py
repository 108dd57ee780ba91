#!/usr/bin/env python
"""The sheet on top of the README: see figures/model.py."""

import typer
from figures.model import main

if __name__ == "__main__":
    typer.run(main)
