"""Identities: of a generator, and of what expands offset codes (docs/formats.md, section 1).

They are taken of the tensors as the exporter loaded them, so that a checkpoint has the same ones in
whatever storage and precision it is exported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from ..graphs.builder import to_array
from ..networks.hyperstyle import HyperStyle
from ..networks.mobilestylegan import MobileStyleGan
from ..networks.stylegan1 import StyleGan1
from ..networks.stylegan3 import StyleGan3

_NOT_SYNTHESIS = ("decoder.style.",)  # the mapping network
_HEADS = ("hypernet.refinement_blocks.", "hypernet.shared_weight_hypernet.")


def generator_space(model: HyperStyle) -> str:
    """Identity of a generator: SHA-256 of its layout and its synthesis tensors, noise included."""
    config = model.config
    layout = {
        "resolution": config.generator.resolution,
        "crop_rows": config.crop_rows,
        "num_latents": config.generator.num_latents,
        "latent_width": config.generator.style_width,
    }
    tensors = {
        key: tensor
        for key, tensor in model.state_dict().items()
        if key.startswith("decoder.")
        and not key.startswith(_NOT_SYNTHESIS)
        and not key.endswith(".kernel")  # the low-pass filter, the same in all
    }
    return _digest(layout, tensors)


def mobile_space(generator: MobileStyleGan) -> str:
    """Identity of a MobileStyleGAN: SHA-256 of its layout and its synthesis tensors."""
    config = generator.config
    layout = {
        "family": "mobilestylegan",
        "resolution": config.resolution,
        "num_latents": config.num_latents,
        "latent_width": config.style_width,
    }
    return _digest(layout, generator.synthesis.state_dict())


def stylegan3_space(generator: StyleGan3) -> str:
    """Identity of a StyleGAN3: SHA-256 of its layout and its synthesis tensors."""
    config = generator.config
    layout = {
        "family": "stylegan3",
        "resolution": config.resolution,
        "num_latents": config.num_latents,
        "latent_width": config.style_width,
        "radial": config.has_radial_filters,
        "clamp": config.clamp,
        "output_scale": config.output_scale,
    }
    tensors = {
        key: tensor
        for key, tensor in generator.synthesis.state_dict().items()
        if not key.endswith("_filter")  # which follow from the layout
    }
    return _digest(layout, tensors)


def stylegan1_space(generator: StyleGan1) -> str:
    """Identity of a StyleGAN 1: SHA-256 of its layout and its synthesis tensors, noise included."""
    config = generator.config
    layout = {
        "family": "stylegan1",
        "resolution": config.resolution,
        "num_latents": config.num_latents,
        "latent_width": config.style_width,
    }
    last = f"output{len(config.channels) - 1}."
    tensors = {
        key: tensor
        for key, tensor in generator.synthesis.state_dict().items()
        if key.startswith(("layer", last)) and not key.endswith(".kernel")
    }
    return _digest(layout, tensors)


def code_space(model: HyperStyle) -> str:
    """Identity of what expands codes: SHA-256 of the tuned layers and their heads' tensors."""
    config = model.config
    shared = config.hypernetwork.shared_layers
    layout = [
        {
            "index": spec.index,
            "name": spec.name,
            "shape": spec.weight_shape,
            "shared": spec.index in shared,
        }
        for spec in config.tuned
    ]
    tensors = {
        key: tensor
        for key, tensor in model.state_dict().items()
        if key.startswith(_HEADS) and _expands(key)
    }
    return _digest(layout, tensors)


def _expands(key: str) -> bool:
    """Whether a tensor is behind the code: the shared hypernetwork, or an ordinary head."""
    return key.startswith(_HEADS[1]) or ".output." in key


def _digest(layout: object, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of canonical JSON, then of every tensor's name, shape and float32 in C order."""
    digest = hashlib.sha256(json.dumps(layout, sort_keys=True, separators=(",", ":")).encode())
    for key in sorted(tensors):
        array = np.ascontiguousarray(to_array(tensors[key]), "<f4")
        digest.update(f"\n{key} {list(array.shape)}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
