"""Entry point: `python tools/training --help`."""

from __future__ import annotations

from training.cli import app

# Lightning starts further processes as it finds this one started: by module name, or by path. This
# is a directory, for which only the path is right.
__spec__ = None

if __name__ == "__main__":
    app()
