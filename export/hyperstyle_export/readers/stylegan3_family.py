"""Checkpoints that share one generator of StyleGAN3 -> the networks of one bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..networks.lpips import Lpips
from ..networks.stylegan3 import StyleGan3
from ..networks.stylegan3_model import StyleGan3Model
from . import network_pickles
from .checkpoints import average_rows, input_size
from .encoders import EncoderFile, load_encoder
from .family import Sources, check_methods, check_values
from .network_pickles import read_network
from .stylegan3 import NETWORK, is_stylegan3, stylegan3_of_network, stylegan3_of_tensors
from .torch_files import CheckpointError

_TRANSFORM = "synthesis.input.transform"  # an encoder's training leaves its last batch's there
_NOT_COMPARED = ("mapping.", _TRANSFORM)


def find_stylegan3(sources: Sources, files: Sequence[EncoderFile]) -> tuple[StyleGan3, Path] | None:
    """The generator of a bundle and its file, if it is of StyleGAN3; else None.

    Raises
    ------
    CheckpointError
        If it is damaged or of an unsupported kind.
    """
    path = sources.generator
    if path is not None:
        if path.suffix.lower() != network_pickles.SUFFIX:
            return None
        network = read_network(path, NETWORK)
        if not is_stylegan3(dict(network.tensors())):
            return None
        return stylegan3_of_network(network, path), path
    first = next((file for file in files if file.decoder), None)
    if sources.hyperstyle is not None or first is None or not is_stylegan3(first.decoder):
        return None
    tensors = first.decoder | {_TRANSFORM: torch.eye(3)}
    return stylegan3_of_tensors(tensors, first.path, "decoder"), first.path


def load_stylegan3(
    generator: StyleGan3,
    path: Path,
    sources: Sources,
    files: Sequence[EncoderFile],
    lpips: Lpips | None = None,
) -> StyleGan3Model:
    """The networks of a bundle.

    Parameters
    ----------
    path:
        The generator's file.

    Raises
    ------
    CheckpointError
        If a file is of another generator than the others.
    """
    if sources.hyperstyle is not None:
        raise CheckpointError(
            f"{path} is a generator of StyleGAN3, for which there is no HyperStyle: leave out "
            "--checkpoint and --w-encoder, or give StyleGAN2's generator."
        )
    check_methods(files)
    config = generator.config
    rows, width = config.num_latents, config.style_width
    average = average_rows(generator.mapping.w_avg, rows, width, path)
    model = StyleGan3Model(generator, average, _input_size(generator, sources, files), lpips=lpips)
    state, encoders = generator.state_dict(), {}
    for file in files:
        if file.decoder and not is_stylegan3(file.decoder):
            raise CheckpointError(
                f"{file.path} is for a generator of StyleGAN2, and {path} is of StyleGAN3: the "
                "files are not of one model."
            )
        if file.decoder and not sources.allow_other_generator:
            check_values(file.decoder, file.path, state, path, _NOT_COMPARED)
        _check_picture_size(file, model.input_size, sources)
        if file.latent_avg is None:
            file = replace(file, latent_avg=average)
        encoders[file.kind.method] = load_encoder(file, model)
    return replace(model, encoders=encoders)


def _input_size(
    generator: StyleGan3, sources: Sources, files: Sequence[EncoderFile]
) -> tuple[int, int]:
    """What encoders read; of a generator alone, the picture or a quarter of it."""
    resolution = generator.config.resolution
    if not files:
        return (min(resolution, 256),) * 2
    first = files[0]
    kind = (first.dataset_type or "") if sources.dataset_type is None else sources.dataset_type
    size = input_size(kind, first.opts, first.path)
    if any(max(resolution, side) % min(resolution, side) for side in size):
        raise CheckpointError(
            f"{first.path}: a generated image of {resolution} x {resolution} cannot be pooled to "
            f"the input size {size[0]} x {size[1]}, only in whole ratios; give another option "
            "'input_size'."
        )
    return size


def _check_picture_size(file: EncoderFile, wanted: tuple[int, int], sources: Sources) -> None:
    if sources.dataset_type is not None or file.dataset_type is None:
        return
    size = input_size(file.dataset_type, file.opts, file.path)
    if size != wanted:
        raise CheckpointError(
            f"{file.path} is for pictures of {size[0]} x {size[1]}, and the first encoder for "
            f"{wanted[0]} x {wanted[1]}: the files are not of one model."
        )
