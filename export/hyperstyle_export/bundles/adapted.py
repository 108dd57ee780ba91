"""A fine-tuned generator as a bundle of its own, which renders inversions of its base.

The offsets are the base's, so its ``weights`` graph serves with other base weights in it; the
generator is written anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from hyperstyle_rt.adaptation import Adaptation
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.manifest import BASE_PRECISION
from hyperstyle_rt.formats.manifest_entries import BaseBundle
from hyperstyle_rt.types import Array
from numpy.typing import NDArray

from ..graphs.builder import State, to_half
from ..graphs.channel_offsets import build_channel_offsets
from ..graphs.generator import build_generator
from ..graphs.storage import Storage, store_weights
from ..graphs.stored_inputs import optional_inputs
from ..graphs.weights import base_weight, normalised_weight
from ..methods import GRAPHS, sharing_graphs
from ..networks.config import LayerSpec
from ..networks.hyperstyle import HyperStyle
from ..readers.official import read_generator
from .half_graphs import write_half_graphs
from .spaces import generator_space
from .staging import BuildError
from .verification import ITERATIONS, MAX_IMAGE_ERROR_FP32, MIN_PSNR_FP16, on_cpu, psnr_db
from .writer import BundleFacts, GraphFiles, OnProgress, write_manifest

OF_STYLEGAN2 = "decoder.conv1.conv.modulation.weight"
"""Of its graphs, and of those of no other generator."""

BaseWeight = Callable[[State, LayerSpec], Array]


def load_adapted(path: Path, base: Bundle) -> HyperStyle:
    """Read a fine-tuned generator (`g_ema`) as the decoder of a model with nothing else in it.

    Raises
    ------
    BuildError
        If the base is an adapted bundle itself or not of StyleGAN2, or the generator has another
        size or other layers.
    CheckpointError
        If the file is no generator.
    """
    manifest = base.manifest
    if manifest.base is not None:
        raise BuildError(
            f"bundle {manifest.name!r} is adapted from {manifest.base.name!r} itself; give that "
            "one as --base."
        )
    parameters = _parameters(ir.load(base.verified_path("generator")))
    if OF_STYLEGAN2 not in parameters:
        raise BuildError(
            f"bundle {manifest.name!r} was not built of StyleGAN2's checkpoints, and a fine-tuned "
            "generator is adapted with such a base only; give another --base."
        )
    generator, _ = read_generator(path)
    config, indices = generator.config, tuple(layer.index for layer in manifest.tuned_layers)
    wanted = [(layer.name, layer.shape) for layer in manifest.tuned_layers]
    found = [(s.name, s.weight_shape) for s in config.layers if s.index in indices]
    if (
        config.style_width != manifest.latent_width
        or found != wanted
        or (config.resolution != manifest.resolution)
    ):
        raise BuildError(
            f"{path} is a generator of {config.resolution} px and style width "
            f"{config.style_width} whose layers are not those of bundle {manifest.name!r} "
            f"({manifest.resolution} px, {manifest.latent_width}); give one that was fine-tuned "
            "from its generator."
        )
    model = HyperStyle.of_generator(generator, indices, manifest.input_size, manifest.crop_rows)
    if _parameters(build_generator(model)) != parameters:
        raise BuildError(
            f"{path} is a generator of other layers than that of bundle {manifest.name!r}; give "
            "one that was fine-tuned from its generator."
        )
    return model


def _parameters(graph: ir.Model) -> dict[str, tuple[int, ...]]:
    """Weights and biases of a graph with their shapes: those of one family, and one size, agree.

    A weight that is stored in halves has the name of the other.
    """
    return {
        name: tuple(value.shape.numpy())
        for stored, value in graph.graph.initializers.items()
        if (name := stored.removesuffix(".fp16")).endswith((".weight", ".bias"))
        and value.shape is not None
    }


def write_adapted(
    model: HyperStyle, base: Bundle, directory: Path, facts: BundleFacts, on_progress: OnProgress
) -> Bundle:
    """Write the graphs in the precisions and the storage of the base, and a manifest.

    Parameters
    ----------
    model:
        From :func:`load_adapted`.
    directory:
        An existing directory; usually a staged one.
    """
    manifest, written = base.manifest, GraphFiles(directory)
    stored = manifest.files[manifest.graphs["generator"].file].stored
    storage: Storage = "fp16" if stored == "fp16" else "fp32"
    if "weights" in manifest.graphs:
        on_progress("weights graph")
        source = ir.load(base.verified_path("weights"))
        weights = with_base_weights(source, model, base_weight)
        written.write("weights", weights, "weights", storage)
    for role in ("generator", "mapping"):
        on_progress(f"{role} graph")
        written.write(role, store_weights(GRAPHS[role](model), storage), role, storage)
    # What renders edits, and the base's refined inversions.
    for role, build in sharing_graphs(model, refinement=False).items():
        graph = store_weights(build(model), storage)
        written.write_sharing(role, graph, role, storage, list(written.graphs))
    if "channel_offsets" in manifest.graphs:
        written.write("channel_offsets", build_channel_offsets(model), "channel_offsets", storage)
    half = GraphFiles(directory)
    if "fp16" in manifest.precisions:
        if "weights" in manifest.graphs:
            on_progress("weights graph in fp16")
            source = ir.load(base.verified_path("weights", "fp16"))
            weights = with_base_weights(source, model, normalised_weight)
            half.write("weights", weights, "weights.fp16", "fp16")
        write_half_graphs(model, half, set(written.graphs) - {"weights"}, on_progress)
    adapted = replace(
        manifest,
        name=facts.name,
        domain=facts.domain,
        license=facts.license,
        provenance=facts.provenance,
        space=generator_space(model),
        graphs=written.graphs,
        files={**written.files, **half.files},
        accuracy={},
        training=facts.training,
        methods={},
        default_method=None,
        precisions={"fp16": half.graphs} if half.graphs else {},
        plans={},
        base=BaseBundle(manifest.name, manifest.space),
        optional_inputs=optional_inputs(model),
        parametric_inputs=None,
        objective=None,
        then=None,
        fit=None,
    )
    write_manifest(directory, adapted)
    return Bundle.open(directory)


def with_base_weights(weights: ir.Model, model: HyperStyle, base: BaseWeight) -> ir.Model:
    """Put another generator's base weights into a ``weights`` graph, in the type it stores them.

    Raises
    ------
    BuildError
        If a weight is too large for that type, or the graph is of an older version.
    """
    constants, state = weights.graph.initializers, model.state_dict()
    for layer in model.config.tuned:
        name = f"{layer.name}.weight"
        value = constants.get(name) or constants.get(f"{name}.fp16")
        if value is None or value.const_value is None:
            raise BuildError(f"the base bundle's weights graph has no {name}; build it again.")
        array: NDArray[Any] = base(state, layer)
        if value.const_value.dtype == ir.DataType.FLOAT16:
            try:
                array = to_half(name, array)
            except ValueError as error:
                raise BuildError(f"{error}; use a base with --storage fp32.") from error
        value.const_value = ir.tensor(np.ascontiguousarray(array), name=value.name)
    return weights


@torch.no_grad()
def measure_adapted(
    model: HyperStyle, base: Bundle, adapted: Bundle, picture: NDArray[np.uint8]
) -> dict[str, Any]:
    """Compare an adapted bundle on a picture with the torch generator, offsets of all layers kept.

    Parameters
    ----------
    picture:
        uint8 [H,W,3].

    Returns
    -------
    JSON-able figures: largest absolute difference of the images, and their PSNR in dB (peak 2).

    Raises
    ------
    BuildError
        If they differ by more than rounding explains.
    """
    iterates = base.manifest.method().iterating_phase is not None
    with on_cpu(base) as runtime:
        inversion = runtime.invert(picture, ITERATIONS if iterates else None, align="never")
        expanded = {} if inversion.codes is None else runtime.offsets(inversion)
    offsets = {index: torch.from_numpy(offset)[None] for index, offset in expanded.items()}
    reference, _ = model.generate(torch.from_numpy(inversion.latents)[None], offsets)
    with Adaptation.load(adapted.directory, "cpu") as adaptation:
        image = adaptation.synthesise(inversion, first=0)
    error = float(np.abs(image - reference[0].numpy()).max())
    ratio = psnr_db(image, reference[0].numpy())
    stored = adapted.manifest.files[adapted.manifest.graphs["generator"].file].stored
    within = error <= MAX_IMAGE_ERROR_FP32 if stored == BASE_PRECISION else ratio >= MIN_PSNR_FP16
    if not within:
        raise BuildError(
            f"the adapted bundle differs from its torch reference (by {error:.2g}, PSNR {ratio} "
            "dB) and was not written; please report the checkpoint."
        )
    return {
        "against": f"torch {torch.__version__} generator, float32, offsets of the base bundle",
        "iterations": inversion.iterations,
        "image_max_abs": error,
        "image_psnr_db": ratio,
    }
