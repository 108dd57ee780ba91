"""A tiny MobileStyleGAN with what inverts for it."""

from __future__ import annotations

from typing import TypeVar

import fakeweights
import numpy as np
import torch
from hyperstyle_export.networks.draft_step import DraftStep, DraftStepConfig
from hyperstyle_export.networks.latent_encoder import FeaturesConfig, LatentEncoder
from hyperstyle_export.networks.lpips import ALEXNET
from hyperstyle_export.networks.mobile_draft import Draft
from hyperstyle_export.networks.mobile_model import MobileModel
from hyperstyle_export.networks.mobilestylegan import PictureHead
from mobilestylegan_files import TINY, tiny_model
from models import narrow_lpips
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

SIDE = 32  # of what the networks look at, and of the draft's pictures
FEATURES = FeaturesConfig(SIDE, (4, 6), pixel_cell=8, face_widths=(3, 4), face_blocks=(1, 1))
BLOCKS = 2


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
