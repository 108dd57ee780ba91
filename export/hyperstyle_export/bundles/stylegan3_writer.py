"""StyleGAN3's networks -> an engine bundle on disk, in the format of all bundles.

HyperStyle was never trained for it, so its kernels are constants of the graphs, and an inversion is
latents alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import onnx_ir as ir
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.formats.methods import Method

from ..graphs.generator import STYLE_OFFSETS
from ..graphs.objective import build_features, build_objective
from ..graphs.perceptual import LpipsNodes
from ..graphs.storage import Storage
from ..graphs.stylegan3 import (
    TRANSFORM,
    build_stylegan3_generator,
    build_stylegan3_mapping,
    stylegan3_optional_inputs,
)
from ..methods import DEFAULT_ITERATIONS, encoder_graphs
from ..networks.stylegan3_model import StyleGan3Model
from .family_manifest import family_manifest
from .half_graphs import add_half_graphs_of
from .spaces import stylegan3_space
from .staging import BuildError
from .writer import BundleFacts, GraphFiles, OnProgress, stored_graph, write_average, write_manifest

GraphOf = Callable[[], ir.Model]

GENERATOR = "generator"
LATENTS_OBJECTIVE = "latents_objective"


def write_stylegan3_bundle(
    model: StyleGan3Model,
    directory: Path,
    facts: BundleFacts,
    storage: Storage,
    on_progress: OnProgress,
) -> Bundle:
    """Write all graphs, the average latent and a manifest (without measured accuracy).

    Parameters
    ----------
    directory:
        An existing directory; usually a staged one.
    storage:
        Type the weights are stored in; all arithmetic stays in float32.
    """
    written = GraphFiles(directory)
    for role, build in stylegan3_graphs(model).items():
        on_progress(f"{role} graph")
        graph = stored_graph(build, storage)
        written.write_sharing(role, graph, role, storage, list(written.graphs))
    written.files |= write_average(directory, model.latent_avg)
    on_progress("digests")
    write_manifest(directory, _manifest(model, written, facts))
    return Bundle.open(directory)


def stylegan3_graphs(model: StyleGan3Model) -> dict[str, GraphOf]:
    """Role to graph; each reads from the data files of those before it what it has in common."""
    generator = partial(build_stylegan3_generator, model.decoder, model.input_size)
    graphs: dict[str, GraphOf] = {
        GENERATOR: generator,
        "mapping": partial(build_stylegan3_mapping, model.decoder),
    }
    for encoder in model.encoders.values():
        own, _, _ = encoder_graphs(model, encoder)
        graphs |= {role: partial(build, model) for role, build in own.items()}
    for role, extras in RENDERERS.items():
        graphs[role] = partial(generator, extras, role)
    if model.lpips is not None:
        graphs["features"] = lambda: build_features(_perceptual(model))
        graphs[LATENTS_OBJECTIVE] = partial(_objective, model)
    return graphs


RENDERERS: Mapping[str, tuple[str, ...]] = {
    "styled_generator": (STYLE_OFFSETS,),
    "transformed_generator": (STYLE_OFFSETS, TRANSFORM),
}
"""Role -> what the generator has as inputs beside latents."""


def add_stylegan3_half_graphs(
    model: StyleGan3Model, bundle: Bundle, on_progress: OnProgress
) -> Bundle:
    """Write `<role>.fp16.onnx` of what renders and encodes; gives the bundle reopened.

    Activations are limited as in float32, which is what the published networks were trained with
    to compute in fp16.

    Raises
    ------
    BuildError
        If activations have no limit that fp16 can hold, or a weight is too large for it.
    """
    clamp = model.decoder.config.clamp
    if clamp is None or clamp > LARGEST_CLAMP:
        raise BuildError(
            "the generator does not limit its activations (conv_clamp) to what fp16 can hold; use "
            "--precision fp32."
        )
    return add_half_graphs_of(bundle, _half_graphs(model), on_progress)


LARGEST_CLAMP = 1024.0
"""What activations may be limited to in fp16: an up-sampling filter takes them a little higher."""


def _half_graphs(model: StyleGan3Model) -> dict[str, GraphOf]:
    half = partial(build_stylegan3_generator, model.decoder, model.input_size, precision="fp16")
    graphs: dict[str, GraphOf] = {GENERATOR: half}
    for role, extras in RENDERERS.items():
        graphs[role] = partial(half, extras, role)
    for encoder in model.encoders.values():
        _, own, _ = encoder_graphs(model, encoder)
        graphs |= {role: partial(build, model) for role, build in own.items()}
    return graphs


def _objective(model: StyleGan3Model) -> ir.Model:
    forward = build_stylegan3_generator(model.decoder, model.input_size, name=LATENTS_OBJECTIVE)
    return build_objective(LATENTS_OBJECTIVE, forward, _perceptual(model))


def _perceptual(model: StyleGan3Model) -> LpipsNodes:
    assert model.lpips is not None
    return LpipsNodes(model.lpips, model.input_size)


def _manifest(model: StyleGan3Model, written: GraphFiles, facts: BundleFacts) -> Manifest:
    generator = model.decoder
    return family_manifest(
        facts,
        written,
        generator.config,
        stylegan3_space(generator),
        model.input_size,
        _methods(model),
        stylegan3_optional_inputs(generator),
        perceptual=None if model.lpips is None else _perceptual(model),
    )


def _methods(model: StyleGan3Model) -> dict[str, Method]:
    methods = {}
    for name, encoder in model.encoders.items():
        _, _, phases = encoder_graphs(model, encoder)
        methods[name] = Method(phases(DEFAULT_ITERATIONS))
    return methods
