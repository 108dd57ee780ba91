"""What a refinement is measured beside, in eager PyTorch: the same steps, and pivotal tuning."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hyperstyle_export.networks.hyperstyle import HyperStyle
from hyperstyle_export.networks.lpips import Lpips
from hyperstyle_export.networks.refinement import (
    EncoderTerm,
    add_channel_offsets,
    channel_offset_count,
    loss_terms,
)
from hyperstyle_rt.optimising.adam import BRISK
from hyperstyle_rt.optimising.variables import CHANNEL_OFFSETS_RATE
from torch import Tensor

OnImage = Callable[[int, Tensor], None]
"""Called with (steps done, image [1,3,H,W])."""

# Roich et al. 2022, section 3.2 and their code: Adam on all of the generator's weights.
PTI_RATE = 3e-4
PTI_LPIPS = 1.0
PTI_L2 = 1.0


def torch_steps(
    model: HyperStyle, latents: Tensor, codes: Tensor, target: Tensor, small: Tensor, steps: int
) -> Tensor:
    """The steps of `Model.optimise` on channel offsets, with torch's autograd and Adam.

    Parameters
    ----------
    latents, codes:
        [1,L,W] and [1,M,K+1] of the inversion.
    target, small:
        The picture in the generator's size and in the encoder's, [1,3,H,W] and [1,3,h,w].

    Returns
    -------
    The channel offsets [P] after constant rates: for the time and for gradients, not for quality.
    """
    with torch.no_grad():
        offsets = model.hypernet.expand(codes)
        term = EncoderTerm(model)
        wanted = term.features(small)
    added = torch.zeros(channel_offset_count(model.config), requires_grad=True)
    optimiser = torch.optim.Adam([added], CHANNEL_OFFSETS_RATE / 10, BRISK.decay, BRISK.epsilon)
    for _ in range(steps):
        optimiser.zero_grad()
        image, seen = model.generate(latents, add_channel_offsets(model.config, offsets, added))
        perceptual = term.loss(term.features(seen), wanted)
        loss_terms(image, target, perceptual).sum().backward()
        optimiser.step()
    return added.detach()


def pivotal_tuning(
    model: HyperStyle,
    latents: Tensor,
    target: Tensor,
    lpips: Lpips,
    steps: int,
    on_image: OnImage,
) -> None:
    """Tune all weights of the synthesis network to one picture, the encoder's latents as pivot.

    The model's generator is changed: give a copy.
    """
    tuned = [
        parameter
        for name, parameter in model.decoder.named_parameters()
        if not name.startswith("style.")
    ]
    for parameter in tuned:
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(tuned, PTI_RATE)
    wanted = lpips.features(target)
    for done in range(steps + 1):
        image, _ = model.generate(latents)
        on_image(done, image.detach())
        if done == steps:
            break
        optimiser.zero_grad()
        distance = lpips.distance(lpips.features(image), wanted).mean()
        (PTI_L2 * (image - target).square().mean() + PTI_LPIPS * distance).backward()
        optimiser.step()
