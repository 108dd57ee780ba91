"""Write the bundles that the tests of the C library run, all with synthetic weights.

PYTHONPATH=tests python tests/cpp/make_bundle.py FOLDER tiny      # 32 px, seconds
PYTHONPATH=tests python tests/cpp/make_bundle.py FOLDER rich      # with all there can be
PYTHONPATH=tests python tests/cpp/make_bundle.py FOLDER official  # 256 px: 1.5 GB, a minute

Each becomes a directory of its name in the folder; one that is there is left as it is.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
from hyperstyle_export.bundles.half_graphs import add_half_graphs
from hyperstyle_export.bundles.writer import (
    BundleFacts,
    write_bundle,
    write_manifest,
)
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.networks.hyperstyle import HyperStyle
from hyperstyle_export.readers.official import load_model
from hyperstyle_rt.files import sha256
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.formats.manifest_entries import BundleFile, GraphFile
from models import TINY, TINY_OPTS
from synthetic import official_config, write_checkpoints

# What test_providers.cpp's stand-ins for TensorRT and the driver are.
PLANNED_ROLES = ("encoder", "hypernet", "weights", "generator")
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
    """Write the tiny model with fp16 graphs, external data, plans, and fields of tomorrow.

    The models of its plans hold the graphs themselves, so that a stand-in for TensorRT runs them.
    """
    model = _tiny_model()
    bundle = write_bundle(model, directory, BundleFacts("rich"), "fp32", _silent)
    bundle = add_half_graphs(model, bundle, _silent)
    plans = {}
    for precision, key in PLANS.items():
        folder = directory / "tensorrt" / key
        folder.mkdir(parents=True)
        for role in PLANNED_ROLES:
            path = bundle.verified_path(role, precision)
            (folder / f"{role}.onnx").write_bytes(path.read_bytes())
            (folder / f"{role}.plan").write_bytes(b"a plan")
        plans[key] = {path.name: _listed(path, precision) for path in folder.iterdir()}
    write_manifest(directory, replace(_with_external_data(bundle), plans=plans))
    manifest = directory / "manifest.json"
    document = json.loads(manifest.read_bytes())
    document["of_tomorrow"] = document["files"]["encoder.onnx"]["of_tomorrow"] = {"new": [None]}
    manifest.write_text(json.dumps(document), encoding="utf-8")


def _with_external_data(bundle: Bundle) -> Manifest:
    """Move the tensors of all graphs, which are too small for it, to files of their own."""
    manifest, directory = bundle.manifest, bundle.directory
    files = dict(manifest.files)

    def moved(graph: GraphFile) -> GraphFile:
        assert not graph.data, "the graph has external data already"
        path = directory / graph.file
        written = list(save_model(ir.load(path), path, external_above=0))
        for file in written:
            files[file.name] = _listed(file, files[graph.file].stored)
        return GraphFile(graph.file, tuple(file.name for file in written if file != path))

    def all_moved(graphs: Mapping[str, GraphFile]) -> dict[str, GraphFile]:
        return {role: moved(graph) for role, graph in graphs.items()}

    return replace(
        manifest,
        graphs=all_moved(manifest.graphs),
        precisions={key: all_moved(graphs) for key, graphs in manifest.precisions.items()},
        files=files,
    )


def _tiny_model() -> HyperStyle:
    with tempfile.TemporaryDirectory() as folder:
        return load_model(*write_checkpoints(TINY, Path(folder), TINY_OPTS))


def _listed(path: Path, stored: str) -> BundleFile:
    return BundleFile(sha256(path), path.stat().st_size, stored)


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
