#!/usr/bin/env python
"""Every method of a bundle on the same pictures: see comparison/cli.py."""

from comparison.cli import app

if __name__ == "__main__":
    app()
