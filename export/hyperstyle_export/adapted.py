"""A fine-tuned generator as a bundle of its own, which renders inversions of its base (spec 6).

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
from hyperstyle_rt.backends.registry import open_backend
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.manifest import BASE_PRECISION, BaseBundle, BundleFile
from hyperstyle_rt.types import Array
from numpy.typing import NDArray

from .bundle_writer import BuildError, BundleFacts, OnProgress, sha256, write_manifest
from .checkpoints import read_generator
from .graphs import GRAPHS, HALF_GRAPHS, build_channels, build_half_channels, save_model
from .graphs.builder import State, to_half
from .graphs.generator import optional_inputs
from .graphs.storage import Storage, store_weights
from .graphs.weights import base_weight, normalised_weight
from .networks.config import EncoderConfig, HypernetworkConfig, HyperStyleConfig, LayerSpec
from .networks.hyperstyle import HyperStyle
from .verification import ITERATIONS, MAX_IMAGE_ERROR_FP32, MIN_PSNR_FP16, on_cpu, psnr_db

BaseWeight = Callable[[State, LayerSpec], Array]


def load_adapted(path: Path, base: Bundle) -> HyperStyle:
    """Read a fine-tuned generator (`g_ema`) as the decoder of a model with nothing else in it.

    Raises
    ------
    BuildError
        If the base is an adapted bundle itself, or the generator has another size or other layers.
    CheckpointError
        If the file is no generator.
    """
    manifest = base.manifest
    if manifest.base is not None:
        raise BuildError(
            f"bundle {manifest.name!r} is adapted from {manifest.base.name!r} itself; give that "
            "one as --base."
        )
    generator, _ = read_generator(path)
    config, indices = generator.config, tuple(layer.index for layer in manifest.tuned_layers)
    wanted = [(layer.name, layer.shape) for layer in manifest.tuned_layers]
    found = [(s.name, s.weight_shape) for s in config.layers if s.index in indices]
    if (
        config.style_width != manifest.style_width
        or found != wanted
        or (config.resolution != manifest.resolution)
    ):
        raise BuildError(
            f"{path} is a generator of {config.resolution} px and style width "
            f"{config.style_width} whose layers are not those of bundle {manifest.name!r} "
            f"({manifest.resolution} px, {manifest.style_width}); give one that was fine-tuned "
            "from its generator."
        )
    with torch.device("meta"):
        model = HyperStyle(
            HyperStyleConfig(
                generator=config,
                encoder=EncoderConfig(),
                hypernetwork=HypernetworkConfig(indices, ()),
                input_size=manifest.input_size,
                crop_rows=manifest.crop_rows,
            )
        )
    model.decoder = generator
    return model.eval().requires_grad_(False)


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
    manifest = base.manifest
    stored = manifest.files[manifest.graphs["generator"]].precision
    storage: Storage = "fp16" if stored == "fp16" else "fp32"
    files: dict[str, BundleFile] = {}

    def write(graph: ir.Model, name: str, precision: str) -> str:
        for path in save_model(graph, directory / name):
            files[path.name] = BundleFile(sha256(path), path.stat().st_size, precision)
        return name

    graphs, twins = {}, {}
    for role, build in GRAPHS.items():
        if role not in ("weights", "generator", "mapping"):
            continue
        on_progress(f"{role} graph")
        if role == "weights":
            graph = with_base_weights(ir.load(base.verified_path(role)), model, base_weight)
        else:
            graph = store_weights(build(model), storage)
        graphs[role] = write(graph, f"{role}.onnx", storage)
    if "fp16" in manifest.precisions:
        on_progress("graphs in fp16")
        source = ir.load(base.verified_path("weights", "fp16"))
        half = with_base_weights(source, model, normalised_weight)
        twins["weights"] = write(half, "weights.fp16.onnx", "fp16")
        twins["generator"] = write(HALF_GRAPHS["generator"](model), "generator.fp16.onnx", "fp16")
    refinement = {}
    if manifest.refinement:  # what renders the base's refined inversions
        refinement["channels"] = write(build_channels(model), "channels.onnx", storage)
        if twins:
            twins["channels"] = write(build_half_channels(model), "channels.fp16.onnx", "fp16")
    adapted = replace(
        manifest,
        name=facts.name,
        domain=facts.domain,
        license=facts.license,
        provenance=facts.provenance,
        graphs=graphs,
        files=files,
        accuracy={},
        training=facts.training,
        precisions={"fp16": twins} if twins else {},
        plans={},
        refinement=refinement,
        base=BaseBundle(manifest.name, base.digest),
        optional_inputs=optional_inputs(model),
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
    runtime = on_cpu(base)
    inversion = runtime.invert(picture, ITERATIONS)
    offsets = {i: torch.from_numpy(d)[None] for i, d in runtime.offsets(inversion).items()}
    reference, _ = model.generate(torch.from_numpy(inversion.latents)[None], offsets)
    adaptation = Adaptation(adapted, open_backend("cpu", adapted, threads=None))
    image = adaptation.synthesise(inversion, first=0)
    error = float(np.abs(image - reference[0].numpy()).max())
    ratio = psnr_db(image, reference[0].numpy())
    stored = adapted.manifest.files[adapted.manifest.graphs["generator"]].precision
    within = error <= MAX_IMAGE_ERROR_FP32 if stored == BASE_PRECISION else ratio >= MIN_PSNR_FP16
    if not within:
        raise BuildError(
            f"the adapted bundle differs from its torch reference (by {error:.2g}, PSNR {ratio} "
            "dB) and was not written; please report the checkpoint."
        )
    return {
        "against": f"torch {torch.__version__} generator, float32, offsets of the base bundle",
        "iterations": ITERATIONS,
        "image_max_abs": error,
        "image_psnr_db": ratio,
    }
