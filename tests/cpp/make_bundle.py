"""Write the tests' tiny bundle (32 px, synthetic weights) or a synthetic official-layout one.

python tests/cpp/make_bundle.py OUTPUT          # the tiny one, seconds
python tests/cpp/make_bundle.py OUTPUT --full   # official layout at 256 px: 1.3 GB, a minute
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
for folder in ("runtime", "export", "tools", "tests"):
    sys.path.insert(0, str(REPOSITORY / folder))

from hyperstyle_export.bundle_writer import BundleFacts, write_bundle  # noqa: E402
from hyperstyle_export.checkpoints import load_model  # noqa: E402
from models import TINY, TINY_OPTS  # noqa: E402
from synthetic import official_config, write_checkpoints  # noqa: E402


def main() -> None:
    """Write the bundle the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args()
    if (arguments.output / "manifest.json").exists():
        return
    config, options = (official_config(256), {}) if arguments.full else (TINY, TINY_OPTS)
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(*write_checkpoints(config, Path(folder), options))
        facts = BundleFacts(
            arguments.output.name, "noise", "MIT", {"checkpoint": "synthetic"}, {"steps": 0}
        )
        write_bundle(model, arguments.output, facts, "fp32", lambda _step: None)


if __name__ == "__main__":
    main()
