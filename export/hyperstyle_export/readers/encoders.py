"""Checkpoints of pSp, e4e and ReStyle -> encoders (docs/spec.md, sections 5.3 to 5.5).

A file says in its options what it holds; a state dict alone is told by its keys where they leave no
doubt. Everything else is inferred from shapes, as in :mod:`.official`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..networks.config import Body, Head, StyleEncoderConfig
from ..networks.encoder_kinds import (
    ENCODER_KINDS,
    ENCODER_METHODS,
    RESTYLE_PYRAMID,
    EncoderKind,
)
from ..networks.encoder_method import EncoderMethod
from ..networks.latent_layout import InvertibleModel
from ..networks.style_encoder import StyleEncoder
from .checkpoints import State, describe, layout_of, load_strictly, options, state_dict, with_prefix
from .layouts import infer_style_encoder
from .official import latent_average
from .torch_files import CheckpointError, read_torch_file, shown

SIZE_OPTIONS = ("output_size", "stylegan_size")  # of pSp and ReStyle, of e4e
CHANNEL_OPTIONS = ("input_nc", "label_nc")  # the latter is 0 where it reads no labels


@dataclass(frozen=True)
class EncoderSource:
    """A file, and the method that a user says it holds.

    Attributes
    ----------
    method:
        One of :data:`ENCODER_METHODS`; None to believe the file.
    """

    path: Path
    method: str | None = None

    @classmethod
    def parse(cls, text: str) -> EncoderSource:
        """Read what stands on the command line: a file, or ``METHOD=FILE``."""
        method, equals, path = text.partition("=")
        if equals and method in ENCODER_METHODS:
            return cls(Path(path), method)
        return cls(Path(text))


@dataclass(frozen=True)
class EncoderFile:
    """What inference needs of an encoder's checkpoint; prefixes removed.

    Attributes
    ----------
    decoder:
        Its generator; empty where the file has none.
    """

    path: Path
    kind: EncoderKind
    encoder: State
    decoder: State
    latent_avg: Tensor | None
    opts: dict[str, Any] = field(default_factory=dict)

    @property
    def dataset_type(self) -> str | None:
        """What its pictures show, e.g. ``cars_encode``; None where the file does not say."""
        said = self.opts.get("dataset_type")
        return said if isinstance(said, str) else None

    @property
    def adds_average(self) -> bool:
        """Whether latents are relative to the average; those of published files are."""
        return self.kind.is_iterative or bool(self.opts.get("start_from_latent_avg", True))


def read_encoder(source: EncoderSource) -> EncoderFile:
    """Read the checkpoint of an encoder.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, of another kind, or says two things at once.
    """
    path = source.path
    contents = read_torch_file(path)
    state, opts = state_dict(contents), options(contents, path)
    encoder = with_prefix(state, "encoder")
    if not encoder:
        raise CheckpointError(
            f"{path} is {describe(contents)}; --encoder wants a pSp, e4e or ReStyle file with "
            "'encoder.' keys."
        )
    kind = _kind(source, encoder, opts)
    average = contents.get("latent_avg")
    file = EncoderFile(
        path,
        kind,
        encoder,
        with_prefix(state, "decoder"),
        average if isinstance(average, Tensor) else None,
        opts,
    )
    _check_channels(file)
    return file


def load_encoder(file: EncoderFile, model: InvertibleModel) -> EncoderMethod:
    """Make the network of a file, for the generator of a model.

    Raises
    ------
    CheckpointError
        If it is for another generator, or of an unsupported layout.
    """
    generator = model.config.generator
    _check_size(file, generator.resolution)
    with layout_of(file.path):
        config = infer_style_encoder(file.encoder, file.kind, generator)
    _check_blocks(config, model.config.input_size, file.path)
    with torch.device("meta"):
        encoder = StyleEncoder(config)
    load_strictly(encoder, file.encoder, file.path, "encoder")
    method = EncoderMethod(file.kind, encoder)
    if file.adds_average:
        average = latent_average(file.latent_avg, model.decoder, file.path)
        if config.head == "mean":  # one vector has one average
            average = average[:1].expand(len(average), -1).contiguous()
        method.latent_avg = average
    return method.eval().requires_grad_(False)


def _kind(source: EncoderSource, encoder: State, opts: Mapping[str, Any]) -> EncoderKind:
    """What a file holds, by what it says of itself, else by its keys."""
    path, said = source.path, opts.get("encoder_type")
    if said == "WEncoder":
        raise CheckpointError(f"{path} is a W-encoder of HyperStyle; give it as --w-encoder.")
    if said is None:
        return _kind_of_keys(source, encoder)
    kind = ENCODER_KINDS.get(said) if isinstance(said, str) else None
    if kind is None:
        raise CheckpointError(
            f"{path} holds an encoder of type {shown(said)}, which is not supported; those that "
            f"are: {', '.join(ENCODER_KINDS)}."
        )
    if kind.method == "psp" and _channels(encoder) == 6 and not opts.get("label_nc"):
        kind = RESTYLE_PYRAMID
    if source.method not in (None, kind.method):
        raise CheckpointError(
            f"{path} holds an encoder of type {said!r}, which is {kind.method} and not "
            f"{source.method}; give it as --encoder {kind.method}={path}."
        )
    return kind


def _kind_of_keys(source: EncoderSource, encoder: State) -> EncoderKind:
    body: Body = "resnet" if "conv1.weight" in encoder else "ir_se"
    head: Head = "mean"
    if "styles.0.linear.weight" in encoder:
        head = "pyramid" if "latlayer1.weight" in encoder else "last"
    is_iterative = _channels(encoder) == 6
    fitting = {
        kind.method: kind
        for kind in (*ENCODER_KINDS.values(), RESTYLE_PYRAMID)
        if (kind.body, kind.head, kind.is_iterative) == (body, head, is_iterative)
    }
    if source.method in fitting:
        return fitting[source.method]
    if source.method is None and len(fitting) == 1:
        return next(iter(fitting.values()))
    path = source.path
    if not fitting or source.method is not None:
        found = f"an encoder for {' or '.join(fitting)}" if fitting else "no encoder known here"
        raise CheckpointError(
            f"{path} does not say what it holds (opts.encoder_type), and its keys are those of "
            f"{found}; give the file that the training wrote."
        )
    choices = " or ".join(f"--encoder {method}={path.name}" for method in fitting)
    raise CheckpointError(
        f"{path} does not say what it holds (opts.encoder_type), and its keys leave a choice; give "
        f"it as {choices}."
    )


def _channels(encoder: State) -> int:
    """Channels that an encoder's first convolution reads; 0 where there is none."""
    stem = encoder.get("input_layer.0.weight", encoder.get("conv1.weight"))
    return 0 if stem is None or stem.ndim != 4 else stem.shape[1]


def _check_channels(file: EncoderFile) -> None:
    """Refuse an encoder that reads other channels than its options say; labels are one each."""
    found = _channels(file.encoder)
    for option in CHANNEL_OPTIONS:
        said = file.opts.get(option)
        if isinstance(said, int) and said and found and said != found:
            raise CheckpointError(
                f"{file.path} says that its encoder reads {said} channels (opts.{option}), but it "
                f"reads {found}: the file was put together of two."
            )


def _check_size(file: EncoderFile, resolution: int) -> None:
    for option in SIZE_OPTIONS:
        said = file.opts.get(option)
        if isinstance(said, int) and said != resolution:
            raise CheckpointError(
                f"{file.path} is for a generator of {said} px (opts.{option}), but the generator "
                f"has {resolution} px: the files are not of one model."
            )


def _check_blocks(config: StyleEncoderConfig, size: tuple[int, int], path: Path) -> None:
    """Refuse style blocks that do not reduce their feature map to one pixel."""
    halvings = 2 ** len(config.trunk.groups)
    if config.head == "pyramid" and (size[0] % halvings or size[1] % halvings):
        raise CheckpointError(
            f"{path}: the input size {size[0]} x {size[1]} is no multiple of {halvings}, which the "
            "encoder's feature pyramid needs; give another option 'input_size'."
        )
    for row, depth in enumerate(config.block_depths):
        height, width = config.level_size(config.row_levels[row], size)
        for _ in range(depth):
            height, width = -(-height // 2), -(-width // 2)
        if (height, width) != (1, 1):
            raise CheckpointError(
                f"{path}: 'encoder.styles.{row}' leaves {height} x {width} values of a picture of "
                f"{size[0]} x {size[1]} where one is wanted: the encoder is for another input size."
            )
