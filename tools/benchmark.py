#!/usr/bin/env python
"""The runtime beside the torch reference: see benchmarking/inversion.py."""

import typer
from benchmarking.inversion import main

if __name__ == "__main__":
    typer.run(main)
