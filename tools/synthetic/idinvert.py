"""IDInvert's files with synthetic weights: of the official sizes, or small ones of their layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import fakeweights_methods
import numpy as np
import torch
from hyperstyle_export.networks.idinvert import IdInvertEncoder, IdInvertEncoderConfig
from hyperstyle_export.networks.stylegan1 import StyleGan1, StyleGan1Config
from hyperstyle_export.networks.vgg16 import FILE_LAYERS
from torch import Tensor, nn

Contents = dict[str, Tensor]

OFFICIAL_VGG16 = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


@dataclass(frozen=True)
class Sizes:
    """Of the three networks."""

    generator: StyleGan1Config
    encoder: IdInvertEncoderConfig
    vgg16: tuple[int, ...]


OFFICIAL = Sizes(StyleGan1Config(), IdInvertEncoderConfig(), OFFICIAL_VGG16)

# 32 px: two layers of repeated pixels, one of either kind before it.
TINY = Sizes(
    StyleGan1Config((12, 10, 8, 6), style_width=16, mapping_depth=3, fused_from=32),
    IdInvertEncoderConfig((6, 8, 12, 12), num_latents=8, style_width=16),
    (4, 5, 6, 6, 7, 6, 6, 8, 8, 8, 6, 6, 6),
)


def generator_contents(config: StyleGan1Config = TINY.generator) -> Contents:
    """The state dict of a generator's file."""
    with torch.device("meta"):
        model = StyleGan1(config)
    contents = _filled(model, "idinvert_g.")
    contents["truncation.truncation"] = torch.ones(1, config.num_latents, 1)
    return contents


def encoder_contents(config: IdInvertEncoderConfig = TINY.encoder) -> Contents:
    """The state dict of an encoder's file."""
    with torch.device("meta"):
        encoder = IdInvertEncoder(config)
    return _filled(encoder, "idinvert_e.")


def vgg16_contents(widths: tuple[int, ...] = TINY.vgg16) -> Contents:
    """The state dict of the features' file."""
    contents, before = {}, 3
    for number, width in zip(FILE_LAYERS, widths, strict=True):
        for part, shape in (("weight", (width, before, 3, 3)), ("bias", (width,))):
            key = f"layer{number}.{part}"
            contents[key] = torch.from_numpy(fakeweights_methods.value("vgg16.", key, shape))
        before = width
    return contents


def write_files(folder: Path, sizes: Sizes = TINY) -> dict[str, Path]:
    """Write all three; gives them by `generator`, `encoder` and `vgg16`."""
    contents = {
        "generator": generator_contents(sizes.generator),
        "encoder": encoder_contents(sizes.encoder),
        "vgg16": vgg16_contents(sizes.vgg16),
    }
    paths = {name: folder / f"{name}.pth" for name in contents}
    for name, path in paths.items():
        torch.save(contents[name], path)
    return paths


def _filled(network: nn.Module, prefix: str) -> Contents:
    state = network.state_dict()
    return {
        key: torch.from_numpy(
            np.asarray(fakeweights_methods.value(prefix, key, tuple(tensor.shape), set(state)))
        )
        for key, tensor in state.items()
    }
