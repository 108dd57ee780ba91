"""Small configs of the official layout, each reaching a branch the others do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakeweights
import numpy as np
import torch
from hyperstyle_export.networks.config import (
    EncoderConfig,
    GeneratorConfig,
    HypernetworkConfig,
    HyperStyleConfig,
    TrunkConfig,
)
from hyperstyle_export.networks.hyperstyle import HyperStyle
from hyperstyle_export.networks.lpips import ALEXNET, BackboneLayer, Lpips
from synthetic import encoder_config, latent_average, synthetic_state, write_encoder

# 32 px, seen at 64 px: the face pool repeats pixels. Layers 0, 2, 3 share a hypernetwork.
TINY = HyperStyleConfig(
    generator=GeneratorConfig((16, 16, 12, 8), style_width=16, mapping_depth=2),
    encoder=EncoderConfig(TrunkConfig(8, ((8, 2), (12, 1), (16, 1), (24, 1))), 4, 16),
    hypernetwork=HypernetworkConfig(
        tuned_layers=(0, 2, 3, 5, 6, 8, 9),
        shared_layers=(0, 2, 3),
        trunk=TrunkConfig(8, ((8, 1), (12, 2), (16, 1), (24, 1))),
        code_width=16,
        shared_inner=8,
        ordinary_inner=12,
    ),
    input_size=(64, 64),
)
TINY_OPTS = {"input_size": [64, 64], "dataset_type": "noise"}

ALL_LAYERS = replace(TINY, hypernetwork=replace(TINY.hypernetwork, tuned_layers=tuple(range(11))))
ORDINARY_ONLY = replace(
    TINY, hypernetwork=replace(TINY.hypernetwork, tuned_layers=(5, 9, 10), shared_layers=())
)
# 64 px cropped to 48x64 rows, seen at 24x32: crop and average pooling.
CARS = replace(
    TINY,
    generator=GeneratorConfig((16, 16, 12, 8, 8), style_width=16, mapping_depth=2),
    input_size=(24, 32),
    crop_rows=(8, 56),
    hypernetwork=replace(TINY.hypernetwork, tuned_layers=(5, 6, 8), shared_layers=()),
)
# The generator makes what the networks read: no pooling at all.
SAME_SIZE = replace(TINY, input_size=(32, 32))

CONFIGS = {
    "tiny": TINY,
    "all_layers": ALL_LAYERS,
    "ordinary_only": ORDINARY_ONLY,
    "cars": CARS,
    "same_size": SAME_SIZE,
}


def build_model(config: HyperStyleConfig) -> HyperStyle:
    """The reference networks with synthetic weights, in eval mode."""
    with torch.device("meta"):
        model = HyperStyle(config)
    state = synthetic_state(config) | {"latent_avg": latent_average(config)}
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def finetuned_generator(path: Path, config: HyperStyleConfig = TINY) -> Path:
    """Write the generator of a model, a little off, as fine-tuning saves it (`g_ema`)."""
    state = build_model(config).decoder.state_dict()
    source = torch.Generator().manual_seed(0)
    for key, value in state.items():
        if key.endswith("conv.weight"):
            state[key] = value + 0.3 * torch.randn(value.shape, generator=source)
    torch.save({"g_ema": state}, path)
    return path


def tiny_encoder(
    path: Path,
    encoder_type: str,
    opts: Mapping[str, Any] | None = None,
    config: HyperStyleConfig = TINY,
    in_channels: int | None = None,
) -> Path:
    """Write the file of a small encoder of an official class, for the generator of a config."""
    is_resnet = encoder_type.startswith("ResNet")
    network = encoder_config(
        encoder_type,
        config.generator,
        trunk=config.hypernetwork.trunk if is_resnet else config.encoder.trunk,
        se_reduction=config.encoder.se_reduction,
        in_channels=in_channels,
        depth=2,
    )
    options = {**TINY_OPTS, "input_size": list(config.input_size)} | dict(opts or {})
    return write_encoder(path, encoder_type, network, config.generator, options)


def narrow_lpips(layers: tuple[BackboneLayer, ...], width: int = 6) -> Lpips:
    """AlexNet or VGG16 of few channels."""
    sizes = (11, 5, 3, 3, 3) if layers is ALEXNET else (3,) * len(layers)
    widths = [3, *(width + number % 3 for number in range(len(layers)))]
    convolutions = []
    for number, size in enumerate(sizes):
        shape = (widths[number + 1], widths[number], size, size)
        kernel = fakeweights.normal(f"lpips.{number}", shape) / np.sqrt(np.prod(shape[1:]) / 2)
        convolutions.append((torch.from_numpy(np.float32(kernel)), torch.full(shape[:1], 0.1)))
    ends = [n for n, layer in enumerate(layers) if layer.is_feature]
    heads = [np.abs(fakeweights.normal(f"head.{n}", (1, widths[n + 1], 1, 1))) for n in ends]
    return Lpips(convolutions, [torch.from_numpy(head) for head in heads])
