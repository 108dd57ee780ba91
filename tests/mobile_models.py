"""A tiny MobileStyleGAN with what inverts for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import fakeweights
import numpy as np
import torch
from hyperstyle_export.graphs.mobile_tensors import mobile_feature_layer, noise_strength
from hyperstyle_export.graphs.synthesis_tensors import PARAMETER
from hyperstyle_export.networks.draft_step import DraftStep, DraftStepConfig
from hyperstyle_export.networks.latent_encoder import FeaturesConfig, LatentEncoder
from hyperstyle_export.networks.lpips import ALEXNET
from hyperstyle_export.networks.mobile_draft import Draft
from hyperstyle_export.networks.mobile_model import MobileModel
from hyperstyle_export.networks.mobilestylegan import MobileStyleGan, PictureHead
from mobilestylegan_files import TINY, tiny_model
from models import narrow_lpips
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)

SIDE = 32  # of what the networks look at, and of the draft's pictures
FEATURES = FeaturesConfig(SIDE, (4, 6), pixel_cell=8, face_widths=(3, 4), face_blocks=(1, 1))
BLOCKS = 2
NOISE = "noise."


def tiny_mobile_model() -> MobileModel:
    """All networks with reproducible weights."""
    width = TINY.style_width
    average = torch.from_numpy(np.float32(fakeweights.normal("latent_avg", (width,)) * 0.1))
    return MobileModel(
        generator=tiny_model(),
        latent_avg=average,
        encoder=filled(LatentEncoder(FEATURES, width), "encoder"),
        input_size=(SIDE, SIDE),
        lpips=narrow_lpips(ALEXNET),
        restyle=(
            tiny_step(),
            Draft(filled(PictureHead(TINY.channels[BLOCKS], width, 6), "other"), BLOCKS),
        ),
        draft=Draft(filled(PictureHead(TINY.channels[BLOCKS], width, 6), "head"), BLOCKS),
    )


def tiny_step() -> DraftStep:
    """A step that goes down along the gradient."""
    step = DraftStep(DraftStepConfig(TINY.style_width, 3 * BLOCKS + 1)).eval().requires_grad_(False)
    step.shared.copy_(0.02 * torch.eye(TINY.style_width))
    return step


def filled(network: Network, name: str) -> Network:
    """Give a network reproducible weights of sizes that training would give; frozen."""
    for key, value in network.state_dict().items():
        scale = value[0].numel() ** -0.5 if value.ndim > 1 else 0.1
        value.copy_(
            torch.from_numpy(np.float32(fakeweights.normal(f"{name}.{key}", value.shape)) * scale)
        )
    network.eval().requires_grad_(False)
    return network


def whole_picture(
    generator: MobileStyleGan,
    leaves: Mapping[str, Tensor],
    latents: Tensor,
    kernels: Mapping[str, Tensor],
    factor: Callable[[str], float],
) -> Tensor:
    """A rendering by torch, with those of noise, parameters and feature offset that are leaves.

    Parameters
    ----------
    factor:
        Of a parameter by its name: times which it is the network's tensor.
    """
    network, state = generator.synthesis, {}
    for name, leaf in leaves.items():
        plain = name.removeprefix(NOISE).removeprefix(PARAMETER)
        if name.startswith(NOISE):
            stored = network.get_submodule(plain).get_buffer("noise").float()
            state[f"{plain}.noise"] = leaf * float(noise_strength(stored.numpy()))
        elif name.startswith(PARAMETER):
            state[plain] = leaf * factor(plain)
    offset = leaves.get("feature_offset", torch.zeros(()))
    layer = network.get_submodule(mobile_feature_layer(generator.config).name)
    hook = layer.register_forward_hook(lambda _module, _inputs, output: output + offset)
    try:
        picture: Tensor = torch.func.functional_call(network, state, (latents, kernels))
    finally:
        hook.remove()
    return picture
