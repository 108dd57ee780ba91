"""MobileStyleGAN's networks -> an engine bundle on disk, in the format of all bundles."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import partial
from pathlib import Path

import onnx_ir as ir
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.formats.manifest_entries import TunedLayer
from hyperstyle_rt.formats.methods import Method, Phase
from hyperstyle_rt.free_inputs import PARAMETRIC_GENERATOR
from hyperstyle_rt.optimising.names import REFINE

from ..graphs.channel_offsets import channel_offsets_adjoint_graph, channel_offsets_graph
from ..graphs.draft_step import APPROACH, RESTYLE, build_approach, build_restyle
from ..graphs.generator import FEATURE_OFFSET, NOISE, PARAMETERS, STYLE_OFFSETS
from ..graphs.latent_encoder import build_latent_encoder
from ..graphs.mobile_objectives import (
    DRAFT_OBJECTIVE,
    EXTRAS,
    build_draft_objective,
    build_mobile_objective,
    perceptual_nodes,
)
from ..graphs.mobile_stored_inputs import (
    build_mobile_noise,
    build_mobile_parameters,
    mobile_optional_inputs,
    mobile_parametric_inputs,
)
from ..graphs.mobilestylegan import (
    build_mobile_generator,
    build_mobile_mapping,
    build_mobile_weights,
)
from ..graphs.objective import build_features
from ..graphs.storage import Storage
from ..networks.draft_step import DraftGradient, DraftSearch
from ..networks.mobile_model import DescentModel, MobileModel
from ..networks.mobilestylegan import MobileStyleGan
from .family_manifest import family_manifest
from .half_graphs import add_half_graphs_of
from .spaces import mobile_space
from .writer import BundleFacts, GraphFiles, OnProgress, stored_graph, write_average, write_manifest

GraphOf = Callable[[], ir.Model]

ENCODER = "encoder"
STRAIGHT = (ENCODER,)
"""Methods whose picture tells how precisely a bundle computes. The steps of the others search: on a
photograph a difference of 1e-3 leads them to another, equally close picture."""
RESTYLE_ITERATIONS = 5
OFFERING = ("features", RESTYLE)
"""Graphs whose tensors others read: the perceptual network's, and the matrices of a step."""


def write_mobile_bundle(
    model: MobileModel,
    directory: Path,
    facts: BundleFacts,
    storage: Storage,
    on_progress: OnProgress,
) -> Bundle:
    """Write all graphs, the average latent and a manifest (without measured accuracy).

    The bundle has no codes: its graph `weights` gives the kernels that every face begins with.

    Parameters
    ----------
    directory:
        An existing directory; usually a staged one.
    storage:
        Type the weights are stored in; all arithmetic stays in float32.
    """
    written = GraphFiles(directory)
    for role, build in own_graphs(model).items():
        on_progress(f"{role} graph")
        written.write(role, stored_graph(build, storage), role, storage)
    for role, build in shared_graphs(model).items():
        on_progress(f"{role} graph")
        graph = stored_graph(build, storage)
        others = list(written.graphs)
        written.write_sharing(role, graph, role, storage, others, offers=role in OFFERING)
    written.files |= write_average(directory, model.latent_avg.expand(_rows(model), -1))
    on_progress("digests")
    write_manifest(directory, _manifest(model, written, facts))
    return Bundle.open(directory)


def add_mobile_half_graphs(
    generator: MobileStyleGan, bundle: Bundle, on_progress: OnProgress
) -> Bundle:
    """Write what renders as graphs that compute in fp16; gives the bundle reopened.

    Encoder and steps stay float32: they are a few of the arithmetic, and the steps take gradients.

    Raises
    ------
    BuildError
        If a weight is too large for fp16.
    """
    size = bundle.manifest.input_size
    layers = [layer.name for layer in generator.config.tunable]
    half = partial(build_mobile_generator, generator, layers, size, precision="fp16")
    styled = partial(half, (STYLE_OFFSETS, NOISE), "styled_generator")
    return add_half_graphs_of(bundle, {"generator": half, "styled_generator": styled}, on_progress)


def own_graphs(model: MobileModel) -> dict[str, GraphOf]:
    """Role to graph, of those with data files of their own."""
    generator, tuned = model.generator, _tuned(model)
    rows = _rows(model)
    return {
        ENCODER: partial(
            build_latent_encoder, model.encoder, model.latent_avg, rows, model.input_size
        ),
        "weights": partial(build_mobile_weights, generator),
        "generator": partial(build_mobile_generator, generator, tuned, model.input_size),
        "mapping": partial(build_mobile_mapping, generator),
    }


def shared_graphs(model: MobileModel) -> dict[str, GraphOf]:
    """Role to graph, of those that read tensors from the data files of the others."""
    generator = model.generator
    styled = partial(
        build_mobile_generator,
        generator,
        _tuned(model),
        model.input_size,
        (STYLE_OFFSETS, NOISE),
        "styled_generator",
    )
    graphs: dict[str, GraphOf] = {"styled_generator": styled}
    if mobile_optional_inputs(generator).noise:
        graphs["noise"] = partial(build_mobile_noise, generator)
    if model.lpips is None:
        return graphs
    graphs["features"] = lambda: build_features(perceptual_nodes(model))
    if model.restyle is not None:
        search = _search(model)
        graphs[RESTYLE] = partial(build_restyle, search, model.input_size)
        graphs[APPROACH] = partial(build_approach, search, model.input_size)
    return graphs | descent_graphs(model)


def descent_graphs(model: DescentModel) -> dict[str, GraphOf]:
    """Role to graph, of those that change an inversion and render changed ones."""
    generator, layers = model.generator, model.generator.config.tunable
    graphs: dict[str, GraphOf] = {
        role: partial(build_mobile_objective, role, model) for role in EXTRAS
    }
    if model.draft is not None:
        graphs[DRAFT_OBJECTIVE] = partial(build_draft_objective, model)
    graphs["channel_offsets"] = partial(channel_offsets_graph, layers)
    graphs["channel_offsets_adjoint"] = partial(channel_offsets_adjoint_graph, layers)
    graphs["parameters"] = partial(build_mobile_parameters, generator)
    graphs[PARAMETRIC_GENERATOR] = partial(
        build_mobile_generator,
        generator,
        (),
        model.input_size,
        (STYLE_OFFSETS, NOISE, FEATURE_OFFSET, PARAMETERS),
        PARAMETRIC_GENERATOR,
    )
    return graphs


def mobile_methods(roles: Container[str]) -> Mapping[str, Method]:
    """The methods of a bundle with these graphs, as its manifest lists them, the default first."""
    methods = {ENCODER: Method((Phase(ENCODER),))}
    if RESTYLE in roles:
        phases = (Phase(ENCODER), Phase(APPROACH), Phase(RESTYLE, RESTYLE_ITERATIONS))
        return {RESTYLE: Method(phases), **methods}
    return methods


def _search(model: MobileModel) -> DraftSearch:
    assert model.restyle is not None and model.lpips is not None
    step, draft = model.restyle
    perceptual = step.config.perceptual
    return DraftSearch(step, DraftGradient(model.generator, draft, model.lpips, perceptual))


def _manifest(model: MobileModel, written: GraphFiles, facts: BundleFacts) -> Manifest:
    generator, has_objectives = model.generator, model.lpips is not None
    return family_manifest(
        facts,
        written,
        generator.config,
        mobile_space(generator),
        model.input_size,
        mobile_methods(written.graphs),
        mobile_optional_inputs(generator),
        parametric_inputs=mobile_parametric_inputs(generator) if has_objectives else None,
        perceptual=perceptual_nodes(model) if has_objectives else None,
        tuned_layers=[
            TunedLayer(index, layer.name, layer.weight_shape)
            for index, layer in enumerate(generator.config.tunable)
        ],
        # A photograph is met by descent: what feed-forward methods give is a likeness.
        then=REFINE if has_objectives else None,
    )


def _tuned(model: MobileModel) -> list[str]:
    return [layer.name for layer in model.generator.config.tunable]


def _rows(model: MobileModel) -> int:
    return model.generator.config.num_latents
