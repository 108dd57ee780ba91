"""A tiny MobileStyleGAN with what inverts for it."""

from __future__ import annotations

from typing import TypeVar

import fakeweights
import numpy as np
import torch
from hyperstyle_export.networks.latent_encoder import LatentEncoder, LatentEncoderConfig
from hyperstyle_export.networks.lpips import ALEXNET
from hyperstyle_export.networks.mobile_model import Draft, MobileModel
from hyperstyle_export.networks.mobilestylegan import PictureHead
from mobilestylegan_files import TINY, tiny_model
from models import narrow_lpips
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

SIDE = 32  # of what the networks look at, and of the draft's pictures
ENCODER = LatentEncoderConfig(
    side=SIDE, widths=(4, 6, 5, 7, 3), pixel_cell=8, coarse_cell=3, style_width=TINY.style_width
)
BLOCKS = 2


def tiny_mobile_model() -> MobileModel:
    """All networks with reproducible weights."""
    width = TINY.style_width
    average = torch.from_numpy(np.float32(fakeweights.normal("latent_avg", (width,)) * 0.1))
    return MobileModel(
        generator=tiny_model(),
        latent_avg=average,
        encoder=filled(LatentEncoder(ENCODER), "encoder"),
        input_size=(SIDE, SIDE),
        lpips=narrow_lpips(ALEXNET),
        draft=Draft(filled(PictureHead(TINY.channels[BLOCKS], width, 6), "head"), BLOCKS),
    )


def filled(network: Network, name: str) -> Network:
    """Give a network reproducible weights of sizes that training would give; frozen."""
    for key, value in network.state_dict().items():
        scale = value[0].numel() ** -0.5 if value.ndim > 1 else 0.1
        value.copy_(
            torch.from_numpy(np.float32(fakeweights.normal(f"{name}.{key}", value.shape)) * scale)
        )
    network.eval().requires_grad_(False)
    return network
