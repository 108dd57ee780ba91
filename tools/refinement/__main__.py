"""Entry point: ``python -m refinement --help``."""

from .cli import app

if __name__ == "__main__":
    app()
