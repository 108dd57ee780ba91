"""MobileStyleGAN with what inverts for it: the networks of one bundle."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from .latent_encoder import LatentEncoder
from .lpips import Lpips
from .mobilestylegan import START_SIDE, KernelLayer, Kernels, MobileStyleGan, PictureHead


@dataclass(frozen=True, eq=False)
class Draft:
    """A small stand-in for a generator: its first blocks, and a head fitted to their features.

    Its pictures follow the generator's closely enough for most steps of a descent, at a fraction of
    the arithmetic.

    Attributes
    ----------
    head:
        Of the features after `blocks` blocks.
    """

    head: PictureHead
    blocks: int

    @property
    def side(self) -> int:
        """Of its pictures."""
        return START_SIDE * 2 ** (self.blocks + 1)

    @property
    def row(self) -> int:
        """Of the latents that the head's styles are affine maps of: the last convolution's."""
        return 3 * self.blocks

    def kernels(self, generator: MobileStyleGan) -> tuple[KernelLayer, ...]:
        """The convolutions of the generator that it has."""
        return generator.config.kernels[: 2 * self.blocks + 1]


@dataclass(frozen=True, eq=False)
class MobileModel:
    """The networks of a bundle.

    Attributes
    ----------
    generator:
        Mapping and synthesis.
    latent_avg:
        Mean of w, [W].
    encoder:
        Picture -> w relative to the average.
    input_size:
        (height, width) of the reconstruction, which is what encoder and perceptual term look at.
    lpips:
        The perceptual term of descent; None for a bundle that does not descend.
    draft:
        None for a bundle that descends on the whole generator only.
    """

    generator: MobileStyleGan
    latent_avg: Tensor
    encoder: LatentEncoder
    input_size: tuple[int, int]
    lpips: Lpips | None = None
    draft: Draft | None = None

    def encode(self, target: Tensor) -> Tensor:
        """Target [N,3,h,w] in [-1,1] -> latents [N,L,W], with equal rows."""
        w = self.encoder(target) + self.latent_avg
        return w[:, None].expand(-1, self.generator.config.num_latents, -1)

    def reconstruct(self, latents: Tensor, kernels: Kernels | None = None) -> Tensor:
        """The whole generator's picture averaged to the input's size, [N,3,h,w]."""
        picture = self.generator.synthesis(latents, kernels)
        return F.avg_pool2d(picture, picture.shape[-1] // self.input_size[1])

    def sketch(self, latents: Tensor, kernels: Kernels | None = None) -> Tensor:
        """The draft's picture, [N,3,h,w]."""
        assert self.draft is not None
        features = self.generator.synthesis.features(latents, kernels, self.draft.blocks)
        head: nn.Module = self.draft.head
        picture: Tensor = head(features, latents[:, self.draft.row])
        return picture
