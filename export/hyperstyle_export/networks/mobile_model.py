"""MobileStyleGAN with what inverts for it: the networks of one bundle."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from .draft_step import DraftStep
from .latent_encoder import LatentEncoder
from .lpips import Lpips
from .mobile_draft import Draft
from .mobilestylegan import Kernels, MobileStyleGan


@dataclass(frozen=True, eq=False, kw_only=True)
class DescentModel:
    """What gradients are taken through.

    Attributes
    ----------
    generator:
        Mapping and synthesis.
    input_size:
        (height, width) of the reconstruction, which is what encoder and perceptual term look at.
    lpips:
        The perceptual term of descent; None for a bundle that does not descend.
    draft:
        None for a bundle that descends on the whole generator only.
    """

    generator: MobileStyleGan
    input_size: tuple[int, int]
    lpips: Lpips | None = None
    draft: Draft | None = None

    def sketch(self, latents: Tensor, kernels: Kernels | None = None) -> Tensor:
        """The draft's picture, [N,3,h,w]."""
        assert self.draft is not None
        return self.draft.picture(self.generator, latents, kernels)


@dataclass(frozen=True, eq=False, kw_only=True)
class MobileModel(DescentModel):
    """The networks of a bundle.

    Attributes
    ----------
    latent_avg:
        Mean of w, [W].
    encoder:
        Picture -> w relative to the average.
    restyle:
        A learnt step of the latents, and the draft whose gradient it reads; None for none.
    """

    latent_avg: Tensor
    encoder: LatentEncoder
    restyle: tuple[DraftStep, Draft] | None = None

    def encode(self, target: Tensor) -> Tensor:
        """Target [N,3,h,w] in [-1,1] -> latents [N,L,W], with equal rows."""
        w = self.encoder(target) + self.latent_avg
        return w[:, None].expand(-1, self.generator.config.num_latents, -1)

    def reconstruct(self, latents: Tensor, kernels: Kernels | None = None) -> Tensor:
        """The whole generator's picture averaged to the input's size, [N,3,h,w]."""
        picture = self.generator.synthesis(latents, kernels)
        return F.avg_pool2d(picture, picture.shape[-1] // self.input_size[1])
