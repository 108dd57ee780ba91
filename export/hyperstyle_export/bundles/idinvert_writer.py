"""IDInvert's networks -> an engine bundle on disk, in the format of all bundles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx_ir as ir
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.formats.methods import Method, Phase

from ..graphs.builder import Precision
from ..graphs.generator import NOISE, STYLE_OFFSETS
from ..graphs.idinvert import ENCODER_TERM, ROLE, build_encoder_term, build_idinvert_encoder
from ..graphs.objective import build_features, build_objective
from ..graphs.perceptual import LpipsNodes, PerceptualTerm
from ..graphs.storage import Storage
from ..graphs.stylegan1 import (
    build_stylegan1_generator,
    build_stylegan1_mapping,
    build_stylegan1_noise,
    noisy_layers,
    stylegan1_optional_inputs,
)
from ..graphs.vgg16 import Vgg16Nodes
from ..networks.idinvert import IdInvertModel
from ..networks.vgg16 import Vgg16Features
from .family_manifest import family_manifest
from .half_graphs import add_half_graphs_of
from .spaces import stylegan1_space
from .writer import BundleFacts, GraphFiles, OnProgress, stored_graph, write_average, write_manifest

GraphOf = Callable[[], ir.Model]

METHOD = "idinvert"
LATENTS_OBJECTIVE = "latents_objective"
EXTRAS = (STYLE_OFFSETS, NOISE)
"""What `styled_generator` has as inputs beside latents."""


def write_idinvert_bundle(
    model: IdInvertModel,
    directory: Path,
    facts: BundleFacts,
    storage: Storage,
    on_progress: OnProgress,
) -> Bundle:
    """Write all graphs, the average latent and a manifest (without measured accuracy).

    The bundle has neither codes nor tuned layers: its kernels are constants of the generator.

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
        written.write_sharing(role, graph, role, storage, list(written.graphs))
    written.files |= write_average(directory, model.average)
    on_progress("digests")
    write_manifest(directory, _manifest(model, written, facts))
    return Bundle.open(directory)


def add_idinvert_half_graphs(
    model: IdInvertModel, bundle: Bundle, on_progress: OnProgress
) -> Bundle:
    """Write the graphs that compute in fp16 and list them; gives the bundle reopened.

    Raises
    ------
    BuildError
        If a weight is too large for fp16.
    """
    return add_half_graphs_of(bundle, half_graphs(model), on_progress)


def own_graphs(model: IdInvertModel) -> dict[str, GraphOf]:
    """Role to graph, of those with data files of their own."""
    return {
        ROLE: partial(build_idinvert_encoder, model.encoder),
        "generator": partial(build_stylegan1_generator, model.generator, model.input_size),
        "mapping": partial(build_stylegan1_mapping, model.generator),
    }


def shared_graphs(model: IdInvertModel) -> dict[str, GraphOf]:
    """Role to graph, of those that read tensors from the data files of the others."""
    graphs: dict[str, GraphOf] = {"styled_generator": partial(_styled, model)}
    if noisy_layers(model.generator):
        graphs["noise"] = partial(build_stylegan1_noise, model.generator)
    if model.perceptual is not None:
        graphs["features"] = lambda: build_features(perceptual_nodes(model))
        graphs[LATENTS_OBJECTIVE] = partial(build_latents_objective, model)
        graphs[ENCODER_TERM] = partial(build_encoder_term, model.encoder)
    return graphs


def half_graphs(model: IdInvertModel) -> dict[str, GraphOf]:
    """Role to graph, of those that also compute in fp16; optimising takes float32."""
    return {
        ROLE: partial(build_idinvert_encoder, model.encoder, "fp16"),
        "generator": partial(
            build_stylegan1_generator, model.generator, model.input_size, precision="fp16"
        ),
        "styled_generator": partial(_styled, model, "fp16"),
    }


def build_latents_objective(model: IdInvertModel) -> ir.Model:
    """The loss of a picture, and its gradients by latents and noise."""
    forward = build_stylegan1_generator(
        model.generator, model.input_size, (NOISE,), LATENTS_OBJECTIVE
    )
    return build_objective(LATENTS_OBJECTIVE, forward, perceptual_nodes(model))


def perceptual_nodes(model: IdInvertModel) -> PerceptualTerm:
    """VGG16's features, or LPIPS, on the reconstruction."""
    assert model.perceptual is not None
    if isinstance(model.perceptual, Vgg16Features):
        return Vgg16Nodes(model.perceptual, model.input_size)
    return LpipsNodes(model.perceptual, model.input_size)


def _styled(model: IdInvertModel, precision: Precision = "fp32") -> ir.Model:
    return build_stylegan1_generator(
        model.generator, model.input_size, EXTRAS, "styled_generator", precision
    )


def _manifest(model: IdInvertModel, written: GraphFiles, facts: BundleFacts) -> Manifest:
    generator = model.generator
    return family_manifest(
        facts,
        written,
        generator.config,
        stylegan1_space(generator),
        model.input_size,
        {METHOD: Method((Phase(ROLE),))},
        stylegan1_optional_inputs(generator),
        perceptual=None if model.perceptual is None else perceptual_nodes(model),
    )
