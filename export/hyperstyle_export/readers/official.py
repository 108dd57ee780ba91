"""Official checkpoint files -> reference networks (docs/spec.md, section 1).

Every config is inferred from the shapes that are stored, so the official sizes and our small models
take the same path. A file of another kind is told what it is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..networks.config import HyperStyleConfig
from ..networks.generator import Generator
from ..networks.hyperstyle import HyperStyle
from ..networks.latent_layout import MappedGenerator
from . import network_pickles
from .checkpoints import (
    State,
    average_rows,
    check_fir,
    crop_rows,
    describe,
    floats,
    input_size,
    layout_of,
    load_strictly,
    options,
    state_dict,
    with_prefix,
    without_module,
)
from .layouts import infer_encoder, infer_generator, infer_hypernetwork
from .stylegan2_ada import read_stylegan2_ada
from .torch_files import CheckpointError, read_torch_file

logger = logging.getLogger(__name__)

AVERAGE_LATENT_SAMPLES = 100_000
AVERAGE_LATENT_CHUNKS = 10


@dataclass(frozen=True)
class HyperStyleFile:
    """What inference needs of a HyperStyle checkpoint; prefixes removed."""

    hypernet: State
    decoder: State
    latent_avg: Tensor | None
    opts: dict[str, Any] = field(default_factory=dict)


def load_model(checkpoint: Path, w_encoder: Path, dataset_type: str | None = None) -> HyperStyle:
    """Read a HyperStyle file and its W-encoder file into the reference networks.

    Parameters
    ----------
    checkpoint, w_encoder:
        torch.save'd files, zip or legacy container.
    dataset_type:
        Replaces the file's own option; one that contains "cars" crops rows;
        docs/spec.md, section 2.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged, of another kind, or of an unsupported layout.
    """
    file = read_hyperstyle(checkpoint)
    encoder = read_w_encoder(w_encoder)
    with layout_of(checkpoint):
        generator = infer_generator(file.decoder)
        hypernetwork = infer_hypernetwork(file.hypernet, generator)
    with layout_of(w_encoder):
        encoder_config = infer_encoder(encoder)
    if encoder_config.style_width != generator.style_width:
        raise CheckpointError(
            f"{w_encoder} makes latents of width {encoder_config.style_width}, but the generator "
            f"in {checkpoint} wants {generator.style_width}: the files are not of one model."
        )
    said = file.opts.get("dataset_type") if dataset_type is None else dataset_type
    kind = said if isinstance(said, str) else ""
    config = HyperStyleConfig(
        generator=generator,
        encoder=encoder_config,
        hypernetwork=hypernetwork,
        input_size=input_size(kind, file.opts, checkpoint),
        crop_rows=crop_rows(kind, generator),
    )
    check_input_size(config, checkpoint)
    check_fir(file.decoder, checkpoint, "decoder")
    with torch.device("meta"):
        model = HyperStyle(config)
    load_strictly(model.encoder, encoder, w_encoder, "encoder")
    load_strictly(
        model.hypernet, _with_aliases(model, file.hypernet, checkpoint), checkpoint, "hypernet"
    )
    load_strictly(model.decoder, file.decoder, checkpoint, "decoder")
    model.latent_avg = latent_average(file.latent_avg, model.decoder, checkpoint)
    return model.eval().requires_grad_(False)


def read_hyperstyle(path: Path) -> HyperStyleFile:
    """Read a HyperStyle checkpoint (`hypernet.*` and `decoder.*`)."""
    contents = read_torch_file(path)
    state = state_dict(contents)
    hypernet, decoder = with_prefix(state, "hypernet"), with_prefix(state, "decoder")
    if not hypernet or not decoder:
        raise CheckpointError(
            f"{path} is {describe(contents)}; --checkpoint wants a HyperStyle file with "
            "'hypernet.' and 'decoder.' keys."
        )
    opts = options(contents, path)
    separable = any(".make_kernel_" in key or ".kernel_linear_" in key for key in hypernet)
    said = opts.get("encoder_type")
    if separable or (isinstance(said, str) and said.endswith("Separable")):
        raise CheckpointError(
            f"{path} holds the Separable hypernetwork (SharedWeightsHyperNetResNetSeparable), "
            "whose offsets are not an affine function of a short code: it is not supported; use a "
            "SharedWeightsHyperNetResNet checkpoint."
        )
    average = contents.get("latent_avg")
    return HyperStyleFile(hypernet, decoder, average if isinstance(average, Tensor) else None, opts)


def read_w_encoder(path: Path) -> State:
    """Read a W-encoder checkpoint's `encoder.*` tensors; its own decoder is not used."""
    contents = read_torch_file(path)
    encoder = with_prefix(state_dict(contents), "encoder")
    if "linear.weight" not in encoder or "input_layer.0.weight" not in encoder:
        raise CheckpointError(
            f"{path} is {describe(contents)}; --w-encoder wants a W-encoder file with "
            "'encoder.input_layer.' and 'encoder.linear.' keys."
        )
    return encoder


def read_generator(path: Path) -> tuple[Generator, Tensor | None]:
    """Read a StyleGAN2 generator, trained or fine-tuned.

    Parameters
    ----------
    path:
        rosinality's file (`g_ema`), or a `.pkl` of stylegan2-ada-pytorch.

    Returns
    -------
    Generator, Tensor or None
        The network in eval mode, and the average latent [W] if the file has one.
    """
    if path.suffix.lower() == network_pickles.SUFFIX:
        return read_stylegan2_ada(path)
    contents = read_torch_file(path)
    state = contents.get("g_ema")
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"{path} is {describe(contents)}; a StyleGAN2 generator file in rosinality's layout "
            "has a 'g_ema' entry."
        )
    state = floats(without_module(state))
    check_fir(state, path, "g_ema")
    with layout_of(path):
        config = infer_generator(state)
    with torch.device("meta"):
        generator = Generator(config)
    load_strictly(generator, state, path, "g_ema")
    average = contents.get("latent_avg")
    if isinstance(average, Tensor):
        average = average_rows(average, 1, config.style_width, path)[0]
    return generator.eval().requires_grad_(False), average


@torch.no_grad()
def average_latent(generator: MappedGenerator) -> Tensor:
    """Mean of mapped random vectors [W], for files that store no average (seed 0)."""
    source = torch.Generator().manual_seed(0)
    width, total = generator.config.style_width, torch.zeros(generator.config.style_width)
    for _ in range(AVERAGE_LATENT_CHUNKS):
        z = torch.randn(AVERAGE_LATENT_SAMPLES // AVERAGE_LATENT_CHUNKS, width, generator=source)
        total += generator.map(z).sum(dim=0)
    return total / AVERAGE_LATENT_SAMPLES


def check_input_size(config: HyperStyleConfig, path: Path) -> None:
    """Refuse sizes that the pooling or the shared refinement blocks cannot work on."""
    (height, width), (rows, columns) = config.image_size, config.input_size
    smaller = height % rows == 0 and width % columns == 0
    larger = rows % height == 0 and columns % width == 0
    if not smaller and not larger:
        raise CheckpointError(
            f"{path}: a generated image of {height} x {width} cannot be pooled to the input size "
            f"{rows} x {columns}, only in whole ratios; give another --dataset-type or option "
            "'input_size'."
        )
    most = 16 * 2 ** len(config.hypernetwork.trunk.groups)  # four more halvings leave one pixel
    if config.hypernetwork.shared_layers and max(rows, columns) > most:
        raise CheckpointError(
            f"{path}: the input size {rows} x {columns} is larger than the {most} x {most} that "
            "its shared refinement blocks reduce to one pixel."
        )


def _with_aliases(model: HyperStyle, state: State, path: Path) -> State:
    """Point the names of the shared hypernetwork at one set of tensors; refuse if they differ."""
    merged = dict(state)
    if not model.config.hypernetwork.shared_layers:  # then the official file stores it unused
        return {k: v for k, v in merged.items() if not k.startswith("shared_weight_hypernet.")}
    for key, value in state.items():
        head, _, name = key.rpartition(".")
        if not head.endswith(".hypernet"):
            continue
        shared = state.get(f"shared_weight_hypernet.{name}")
        if shared is None:
            raise CheckpointError(f"{path} lacks 'hypernet.shared_weight_hypernet.{name}'.")
        same = shared.data_ptr() == value.data_ptr() and shared.shape == value.shape
        if not same and not torch.equal(shared, value):
            raise CheckpointError(
                f"{path}: 'hypernet.{key}' differs from 'hypernet.shared_weight_hypernet.{name}', "
                "of which it must be an alias; the file was converted wrongly."
            )
        merged[key] = shared
    for index in model.config.hypernetwork.shared_layers:  # a file may store the one set only
        for name in ("w1", "b1", "w2", "b2"):
            if (shared := state.get(f"shared_weight_hypernet.{name}")) is not None:
                merged[f"refinement_blocks.{index}.hypernet.{name}"] = shared
    return merged


def latent_average(stored: Tensor | None, decoder: MappedGenerator, path: Path) -> Tensor:
    """The average as [L,W]: stored with L rows, with one, or computed if it is absent."""
    rows, width = decoder.config.num_latents, decoder.config.style_width
    if stored is None:
        logger.warning(
            "%s stores no average latent; using the mean of %d mapped samples.",
            path,
            AVERAGE_LATENT_SAMPLES,
        )
        stored = average_latent(decoder)
    return average_rows(stored, rows, width, path)
