"""Write the bundles that the tests of the C library run, all with synthetic weights.

python tests/cpp/make_bundle.py FOLDER tiny        # 32 px, seconds
python tests/cpp/make_bundle.py FOLDER rich        # the same with all that a bundle can have
python tests/cpp/make_bundle.py FOLDER official    # official layout at 256 px: 1.5 GB, a minute

Each becomes a directory of its name in the folder; one that is there is left as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
for folder in ("runtime", "export", "tools", "tests"):
    sys.path.insert(0, str(REPOSITORY / folder))

import onnx_ir as ir  # noqa: E402
from hyperstyle_export.bundles.half_graphs import add_half_graphs  # noqa: E402
from hyperstyle_export.bundles.writer import BundleFacts, write_bundle, write_manifest  # noqa: E402
from hyperstyle_export.graphs import save_model  # noqa: E402
from hyperstyle_export.networks.hyperstyle import HyperStyle  # noqa: E402
from hyperstyle_export.readers.official import load_model  # noqa: E402
from hyperstyle_rt.files import sha256  # noqa: E402
from hyperstyle_rt.formats.manifest import REQUIRED_ROLES, BundleFile  # noqa: E402
from models import TINY, TINY_OPTS  # noqa: E402
from synthetic import official_config, write_checkpoints  # noqa: E402

# What test_providers.cpp's stand-ins for TensorRT and the driver are.
PLANS = {"fp32": "10.13.2-sm89-fp32", "fp16": "10.13.2-sm89-fp16"}


def write_tiny(directory: Path) -> None:
    """Write the tiny model of the other tests."""
    write_bundle(_tiny_model(), directory, BundleFacts("tiny"), "fp32", _silent)


def write_official(directory: Path) -> None:
    """Write the official layout at 256 px."""
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(*write_checkpoints(official_config(256), Path(folder)))
    write_bundle(model, directory, BundleFacts("official"), "fp32", _silent)


def write_rich(directory: Path) -> None:
    """Write the tiny model with fp16 twins, external data, plans, and fields of tomorrow.

    The models of its plans hold the graphs themselves, so that a stand-in for TensorRT runs them.
    """
    model = _tiny_model()
    bundle = write_bundle(model, directory, BundleFacts("rich"), "fp32", _silent)
    bundle = add_half_graphs(model, bundle, _silent)
    plans = {}
    for precision, key in PLANS.items():
        folder = directory / "tensorrt" / key
        folder.mkdir(parents=True)
        for role in REQUIRED_ROLES:
            path = bundle.verified_path(role, precision)
            (folder / f"{role}.onnx").write_bytes(path.read_bytes())
            (folder / f"{role}.plan").write_bytes(b"a plan")
        plans[key] = {path.name: _listed(path, precision) for path in folder.iterdir()}
    files = dict(bundle.manifest.files)
    for path in list(directory.glob("*.onnx")):
        for written in save_model(ir.load(path), path, external_above=0):
            files[written.name] = _listed(written, files[path.name].precision)
    write_manifest(directory, replace(bundle.manifest, files=files, plans=plans))
    manifest = directory / "manifest.json"
    document = json.loads(manifest.read_bytes())
    document["of_tomorrow"] = document["files"]["encoder.onnx"]["of_tomorrow"] = {"new": [None]}
    manifest.write_text(json.dumps(document), encoding="utf-8")


def _tiny_model() -> HyperStyle:
    with tempfile.TemporaryDirectory() as folder:
        return load_model(*write_checkpoints(TINY, Path(folder), TINY_OPTS))


def _listed(path: Path, precision: str) -> BundleFile:
    return BundleFile(sha256(path), path.stat().st_size, precision)


def _silent(_step: str) -> None:
    pass


WRITERS = {"tiny": write_tiny, "rich": write_rich, "official": write_official}


def main() -> None:
    """Write the bundles the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("kinds", nargs="+", choices=WRITERS)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for kind in arguments.kinds:
        output = arguments.folder / kind
        if output.exists():
            continue
        with tempfile.TemporaryDirectory(dir=arguments.folder) as unfinished:
            directory = Path(unfinished) / kind
            directory.mkdir()
            WRITERS[kind](directory)
            directory.rename(output)


if __name__ == "__main__":
    main()
