"""Generators of StyleGAN3: those of the golden data, and a tiny one; as NVIDIA's pickles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import fakeweights
import fakeweights_methods
import numpy as np
import torch
from hyperstyle_export.networks.style_encoder import StyleEncoder
from hyperstyle_export.networks.stylegan3 import StyleGan3, stylegan3_from_state
from hyperstyle_export.networks.stylegan3_config import StyleGan3Config, channel_widths
from models import TINY as TINY_HYPERSTYLE
from nvidia_files import EasyDict, Persistent, module, write_generator
from synthetic import encoder_config

Tensors = dict[str, torch.Tensor]

SCHEMAS = Path(__file__).parents[1] / "golden" / "schema"

GOLDEN: dict[str, StyleGan3Config] = {
    "t": StyleGan3Config(64, channel_widths(64, 2048, 64), style_width=64),
    "r": StyleGan3Config(64, channel_widths(64, 2048, 64), 1, True, style_width=64),
}
# Four times the side of its first layers: it has factors 4 and 2, and layers that are cropped.
TINY = StyleGan3Config(32, (8, 8, 7, 6, 6), style_width=16)
TINY_R = StyleGan3Config(32, (8, 8, 7, 6, 6), 1, True, style_width=16)


def prefix(config: StyleGan3Config) -> str:
    """What the recipe of the golden data puts before a tensor's name."""
    return "sg3r." if config.has_radial_filters else "sg3t."


def tensors_of(config: StyleGan3Config) -> Tensors:
    """The tensors of a generator by the recipe of the golden data."""
    own = StyleGan3(config).state_dict()
    return {
        key: value
        if fakeweights_methods.CONSTRUCTED.search(key)
        else torch.from_numpy(
            np.array(fakeweights_methods.value(prefix(config), key, tuple(value.shape), own))
        )
        for key, value in own.items()
    }


def network_of(config: StyleGan3Config) -> StyleGan3:
    return stylegan3_from_state(tensors_of(config), config)


def golden_schema(kind: str) -> Any:
    """The keys of the golden generator as NVIDIA's code writes them, and its options."""
    return json.loads((SCHEMAS / f"stylegan3_{kind}_64_small.json").read_text())


def pickled(tensors: Mapping[str, torch.Tensor], **options: Any) -> Persistent:
    """A generator as a module; options that are None are left out."""
    given = {key: value for key, value in options.items() if value is not None}
    return module("Generator", tensors, {"": {"_init_args": (), "_init_kwargs": EasyDict(given)}})


def options_of(config: StyleGan3Config) -> dict[str, Any]:
    """Options as NVIDIA's training writes them."""
    options = {
        "c_dim": 0,
        "z_dim": config.style_width,
        "w_dim": config.style_width,
        "img_resolution": config.resolution,
        "img_channels": 3,
        "mapping_kwargs": EasyDict(num_layers=config.mapping_depth),
        "num_layers": len(config.channels),
        "magnitude_ema_beta": 0.9988915792636801,
    }
    radial = {"conv_kernel": 1, "use_radial_filters": True}
    return options | (radial if config.has_radial_filters else {})


def write_stylegan3(
    path: Path, config: StyleGan3Config = TINY, tensors: Tensors | None = None, **options: Any
) -> Path:
    """Write a generator as training saves it."""
    tensors = tensors_of(config) if tensors is None else tensors
    return write_generator(path, pickled(tensors, **(options_of(config) | options)))


def write_restyle(
    path: Path,
    encoder_type: str,
    config: StyleGan3Config = TINY,
    decoder: Tensors | None = None,
    **opts: Any,
) -> Path:
    """Write a small encoder's file as stylegan3-editing's training does; gives its path.

    Its generator is `decoder`, that of the config by default.
    """
    network = encoder_config(
        encoder_type, config, trunk=TINY_HYPERSTYLE.encoder.trunk, se_reduction=4, depth=2
    )
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in StyleEncoder(network).state_dict().items()}
    names = {f"encoder.{key}" for key in shapes}
    state = {
        f"encoder.{key}": torch.from_numpy(
            np.array(fakeweights.value(f"encoder.{key}", shape, names))
        )
        for key, shape in shapes.items()
    }
    tensors = tensors_of(config) if decoder is None else decoder
    state |= {f"decoder.{key}": value for key, value in tensors.items()}
    # Training leaves the transforms of its last batch there.
    state["decoder.synthesis.input.transform"] = torch.full((2, 3, 3), 0.5)
    options = {
        "encoder_type": encoder_type,
        "input_nc": 6,
        "output_size": config.resolution,
        "dataset_type": "noise",
        "input_size": [16, 16],
        "stylegan_weights": PurePosixPath("pretrained_models/stylegan3-r-ffhq-1024x1024.pkl"),
        "n_iters_per_batch": 3,
    } | opts
    average = tensors["mapping.w_avg"]
    torch.save({"state_dict": state, "latent_avg": average, "opts": options}, path)
    return path
