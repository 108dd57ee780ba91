"""Checkpoints of pSp, e4e and ReStyle with synthetic weights, of any size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fakeweights
import numpy as np
import torch
from hyperstyle_export.networks.config import (
    COARSE_ROWS,
    IR_SE50_TRUNK,
    MIDDLE_ROWS,
    RESNET34_TRUNK,
    GeneratorConfig,
    StyleEncoderConfig,
    TrunkConfig,
)
from hyperstyle_export.networks.encoder_kinds import ENCODER_KINDS
from hyperstyle_export.networks.generator import Generator
from hyperstyle_export.networks.latent_layout import LatentLayout
from hyperstyle_export.networks.style_encoder import StyleEncoder
from torch import Tensor

OFFICIAL_DEPTH = 4  # convolutions that reduce the last feature map of the official trunks, 16x16


def encoder_config(
    encoder_type: str,
    generator: LatentLayout,
    *,
    trunk: TrunkConfig | None = None,
    se_reduction: int = 16,
    in_channels: int | None = None,
    depth: int = OFFICIAL_DEPTH,
) -> StyleEncoderConfig:
    """The encoder of an official class for a generator.

    Parameters
    ----------
    trunk:
        None for the official one.
    in_channels:
        None for those of a picture, with its reconstruction where the class reads it.
    depth:
        Convolutions of the style blocks that read the last feature map.
    """
    kind = ENCODER_KINDS[encoder_type]
    official = IR_SE50_TRUNK if kind.body == "ir_se" else RESNET34_TRUNK
    rows = range(0 if kind.head == "mean" else generator.num_latents)
    levels = [(row >= COARSE_ROWS) + (row >= MIDDLE_ROWS) for row in rows]
    return StyleEncoderConfig(
        body=kind.body,
        head=kind.head,
        trunk=trunk or official,
        in_channels=in_channels or (6 if kind.is_iterative else 3),
        num_latents=generator.num_latents,
        style_width=generator.style_width,
        block_depths=tuple(depth + (level if kind.head == "pyramid" else 0) for level in levels),
        is_progressive=kind.is_progressive,
        se_reduction=se_reduction,
    )


def encoder_state(config: StyleEncoderConfig, generator: GeneratorConfig) -> dict[str, Tensor]:
    """State of encoder and decoder under the keys of the official files."""
    with torch.device("meta"):
        modules = {"encoder": StyleEncoder(config), "decoder": Generator(generator)}
    shapes = {
        f"{name}.{key}": tuple(value.shape)
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    keys = set(shapes)
    return {
        key: torch.from_numpy(np.asarray(fakeweights.value(key, shape, keys)))
        for key, shape in shapes.items()
    }


def write_encoder(
    path: Path,
    encoder_type: str,
    config: StyleEncoderConfig,
    generator: GeneratorConfig,
    opts: Mapping[str, Any] | None = None,
) -> Path:
    """Write the file of an encoder as the official training does; gives its path."""
    shape = (generator.num_latents, generator.style_width)
    options = {"encoder_type": encoder_type, "start_from_latent_avg": True} | dict(opts or {})
    contents = {
        "state_dict": encoder_state(config, generator),
        "latent_avg": torch.from_numpy(fakeweights.value("latent_avg", shape, set())),
        "opts": options,
    }
    torch.save(contents, path)
    return path
