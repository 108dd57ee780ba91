"""Methods that are one encoder: run once, or on its own reconstructions as ReStyle does."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .encoder_kinds import EncoderKind, role_of
from .latent_layout import InvertibleModel
from .style_encoder import StyleEncoder

LIGHTNESS = (0.299, 0.587, 0.114)  # of RGB, as Pillow makes grey pictures
LARGEST_LABEL = 255
RESTYLE_ITERATIONS = 5  # as published


class EncoderMethod(nn.Module):
    """An encoder, and the average latents that its own are relative to.

    Attributes
    ----------
    latent_avg:
        [L,W]; zeros where the file adds none.
    """

    def __init__(self, kind: EncoderKind, encoder: StyleEncoder) -> None:
        super().__init__()
        self.kind = kind
        self.encoder = encoder
        self.latent_avg: Tensor
        shape = encoder.config.num_latents, encoder.config.style_width
        self.register_buffer("latent_avg", torch.zeros(shape))

    @property
    def role(self) -> str:
        """Role of its graph."""
        return role_of(self.kind.method)

    @property
    def reads_pictures(self) -> bool:
        """Whether what it reads is the picture itself, not a sketch or a map of labels."""
        return self.kind.is_iterative or self.encoder.config.in_channels == 3

    def encode(self, target: Tensor) -> Tensor:
        """Target [B,3,h,w] in [-1,1] -> latents [B,L,W], the average added."""
        return self.encoder(encoder_input(target, self.encoder.config.in_channels)) + (
            self.latent_avg
        )

    def refine(self, target: Tensor, reconstruction: Tensor, latents: Tensor) -> Tensor:
        """One iteration of ReStyle: latents [B,L,W] -> latents closer to the target."""
        return self.encoder(torch.cat([target, reconstruction], dim=1)) + latents

    def invert(self, model: InvertibleModel, target: Tensor, iterations: int) -> Iterator[Tensor]:
        """Yield latents [B,L,W]: once, or after every iteration."""
        if not self.kind.is_iterative:
            yield self.encode(target)
            return
        latents = self.latent_avg.expand(len(target), -1, -1)
        for _ in range(iterations):
            _, reconstruction = model.generate(latents)
            latents = self.refine(target, reconstruction, latents)
            yield latents


def encoder_input(target: Tensor, channels: int) -> Tensor:
    """What an encoder of one picture reads of a target [B,3,h,w] in [-1,1]: [B,channels,h,w].

    Three channels are the picture. One is a sketch: its lightness in [0,1]. Any other number are
    labels: the lightness of a pixel is its label, and each channel is 1 where its label stands.
    """
    if channels == 3:
        return target
    weights = torch.tensor(LIGHTNESS).view(1, 3, 1, 1)
    lightness = ((target * weights).sum(dim=1, keepdim=True) + 1) / 2  # [B,1,h,w]
    if channels == 1:
        return lightness
    labels = torch.round(lightness * LARGEST_LABEL)
    channel = torch.arange(channels, dtype=torch.float32).view(1, -1, 1, 1)
    return torch.relu(1 - (labels - channel).abs())  # labels are whole numbers
