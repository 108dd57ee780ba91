"""The fp16 twins of a bundle's graphs, written beside them."""

from __future__ import annotations

from dataclasses import replace

from hyperstyle_rt.files import sha256
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.manifest import BundleFile

from .bundle_writer import BuildError, OnProgress, write_manifest
from .graphs import HALF_GRAPHS, build_half_channels, save_model
from .networks.hyperstyle import HyperStyle


def add_half_graphs(model: HyperStyle, bundle: Bundle, on_progress: OnProgress) -> Bundle:
    """Write `<role>.fp16.onnx` of the required graphs and list them; gives the bundle reopened.

    The digest that inversions are tied to stays the same.

    Raises
    ------
    BuildError
        If a weight is too large for fp16.
    """
    directory, names, files = bundle.directory, {}, dict(bundle.manifest.files)
    builders = dict(HALF_GRAPHS)
    if bundle.manifest.refinement:
        builders["channels"] = build_half_channels
    for role, build in builders.items():
        on_progress(f"{role} graph in fp16")
        name = f"{role}.fp16.onnx"
        try:
            graph = build(model)
        except ValueError as error:
            raise BuildError(f"{error}; use --precision fp32.") from error
        for path in save_model(graph, directory / name):
            files[path.name] = BundleFile(sha256(path), path.stat().st_size, "fp16")
        names[role] = name
    precisions = {**bundle.manifest.precisions, "fp16": names}
    write_manifest(directory, replace(bundle.manifest, files=files, precisions=precisions))
    return Bundle.open(directory)
