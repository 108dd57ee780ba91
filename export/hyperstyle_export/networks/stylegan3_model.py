"""StyleGAN3 with what inverts into its latents: the networks of one bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor

from .encoder_method import EncoderMethod
from .lpips import Lpips
from .stylegan3 import StyleGan3
from .stylegan3_config import StyleGan3Config


@dataclass(frozen=True)
class StyleGan3ModelConfig:
    """Sizes: of the generator, and (height, width) of what encoders look at."""

    generator: StyleGan3Config
    input_size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class StyleGan3Model:
    """The networks of a bundle.

    Attributes
    ----------
    decoder:
        The generator.
    latent_avg:
        [L,W].
    input_size:
        (height, width) of the reconstruction, which is what encoders look at.
    encoders:
        Method to encoder, of ReStyle, pSp and e4e; empty for a generator alone.
    lpips:
        The perceptual term of descent; None for a bundle that does not descend.
    """

    decoder: StyleGan3
    latent_avg: Tensor
    input_size: tuple[int, int]
    encoders: Mapping[str, EncoderMethod] = field(default_factory=dict)
    lpips: Lpips | None = None

    @property
    def config(self) -> StyleGan3ModelConfig:
        """Sizes."""
        return StyleGan3ModelConfig(self.decoder.config, self.input_size)

    def generate(self, latents: Tensor, transform: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latents [N,L,W] -> picture [N,3,S,S] and reconstruction [N,3,h,w].

        Parameters
        ----------
        transform:
            See `networks.stylegan3.FourierFeatures`.
        """
        picture = self.decoder.synthesis(latents, transform)
        return picture, F.adaptive_avg_pool2d(picture, self.input_size)
