"""Graphs that compute in fp16, written beside those of float32."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import replace

import onnx_ir as ir
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
    written = GraphFiles(bundle.directory)
    write_half_graphs(model, written, bundle.manifest.graphs, on_progress, encoders)
    return _listed(bundle, written)


def add_half_graphs_of(
    bundle: Bundle, graphs: Mapping[str, Callable[[], ir.Model]], on_progress: OnProgress
) -> Bundle:
    """Write the graphs given by their roles, which share their tensors; gives the bundle reopened.

    Raises
    ------
    BuildError
        If a weight is too large for fp16.
    """
    written = GraphFiles(bundle.directory)
    for role, build in graphs.items():
        on_progress(f"{role} graph in fp16")
        try:
            graph = build()
        except ValueError as error:
            raise BuildError(f"{error}; use --precision fp32.") from error
        written.write_sharing(role, graph, f"{role}.fp16", "fp16", list(written.graphs))
    return _listed(bundle, written)


def _listed(bundle: Bundle, written: GraphFiles) -> Bundle:
    """A bundle whose manifest names the graphs that were written, reopened."""
    manifest = bundle.manifest
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
