#!/usr/bin/env python
"""What a machine with a GPU can show in ten minutes: see benchmarking/gpu_report.py."""

import typer
from benchmarking.gpu_report import main

if __name__ == "__main__":
    typer.run(main)
