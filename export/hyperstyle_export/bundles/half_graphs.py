"""Graphs that compute in fp16, written beside those of float32."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

from hyperstyle_rt.formats.bundle import Bundle

from ..methods import HALF_GRAPHS, HALF_SHARING_GRAPHS, encoder_entry
from ..networks.encoder_method import EncoderMethod
from ..networks.hyperstyle import HyperStyle
from .staging import BuildError
from .writer import GraphFiles, OnProgress, write_manifest


def add_half_graphs(
    model: HyperStyle,
    bundle: Bundle,
    on_progress: OnProgress,
    encoders: Mapping[str, EncoderMethod] | None = None,
) -> Bundle:
    """Write `<role>.fp16.onnx` of the bundle's graphs and list them; gives the bundle reopened.

    Parameters
    ----------
    encoders:
        Method to encoder, of those in the bundle beside the model's own.

    Raises
    ------
    BuildError
        If a weight is too large for fp16.
    """
    manifest, written = bundle.manifest, GraphFiles(bundle.directory)
    write_half_graphs(model, written, manifest.graphs, on_progress, encoders)
    write_manifest(
        bundle.directory,
        replace(
            manifest,
            files={**manifest.files, **written.files},
            precisions={**manifest.precisions, "fp16": written.graphs},
        ),
    )
    return Bundle.open(bundle.directory)


def write_half_graphs(
    model: HyperStyle,
    written: GraphFiles,
    roles: Container[str],
    on_progress: OnProgress,
    encoders: Mapping[str, EncoderMethod] | None = None,
) -> None:
    """Write the graphs that have a form in fp16, of those among `roles`.

    Raises
    ------
    BuildError
        If a weight is too large for fp16.
    """
    added = [encoder_entry(model, encoder).half_graphs for encoder in (encoders or {}).values()]
    sharing = {
        role: build for graphs in (HALF_SHARING_GRAPHS, *added) for role, build in graphs.items()
    }
    for role, build in {**HALF_GRAPHS, **sharing}.items():
        if role not in roles:
            continue
        on_progress(f"{role} graph in fp16")
        try:
            graph = build(model)
        except ValueError as error:
            raise BuildError(f"{error}; use --precision fp32.") from error
        name = f"{role}.fp16"
        if role in HALF_GRAPHS:
            written.write(role, graph, name, "fp16")
        else:
            written.write_sharing(role, graph, name, "fp16", list(written.graphs))
