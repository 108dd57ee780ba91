"""Fitting RGB heads to the features of a generator that was published without them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hyperstyle_export.networks.mobilestylegan import BANDS, RGB, MobileStyleGan, ToImage
from torch import Tensor

from .small import picture_side

RIDGE = 1e-3  # of the features' mean square
PEAK = 2.0  # of pictures in [-1,1]


@dataclass(frozen=True)
class HeadSamples:
    """Features at some places of renders, and the picture there.

    Attributes
    ----------
    w:
        Latents, [N,W].
    features:
        After each number of blocks: [N,C,P], float16.
    bands:
        The wavelet bands that make the picture of twice the side there: [N,12,P].
    """

    w: Tensor
    features: dict[int, Tensor]
    bands: dict[int, Tensor]

    @staticmethod
    def joined(parts: Sequence[HeadSamples]) -> HeadSamples:
        """All samples as one."""
        blocks = parts[0].features
        return HeadSamples(
            torch.cat([part.w for part in parts]),
            {n: torch.cat([part.features[n] for part in parts]) for n in blocks},
            {n: torch.cat([part.bands[n] for part in parts]) for n in blocks},
        )


@dataclass(frozen=True)
class HeadFit:
    """A fitted head, and its error in dB on the samples held out of the fit."""

    head: ToImage
    least_squares_db: float
    held_out_db: float


def sample_heads(
    model: MobileStyleGan,
    latents: Iterator[Tensor],
    blocks: Sequence[int],
    places: int,
    random: torch.Generator,
) -> Iterator[HeadSamples]:
    """Render whole pictures and keep what a head of fewer blocks would see and should say.

    Parameters
    ----------
    model:
        The generator.
    latents:
        Batches of w, [N,W].
    blocks:
        Numbers of blocks after which a head may follow.
    places:
        Drawn from every picture.
    """
    with torch.inference_mode():
        for w in latents:
            features = {n: model.synthesis.features(w, blocks=n) for n in blocks}
            picture = model.synthesis(w)
            kept, bands = {}, {}
            for n, x in features.items():
                chosen = torch.randint(x.shape[-1] ** 2, (places,), generator=random)
                small = F.avg_pool2d(picture, picture.shape[-1] // picture_side(n))
                kept[n] = x.flatten(2)[:, :, chosen].half()
                bands[n] = haar_bands(small).flatten(2)[:, :, chosen]
            yield HeadSamples(w, kept, bands)


def haar_bands(picture: Tensor) -> Tensor:
    """The inverse of `inverse_haar`: [N,C,2h,2w] -> [N,4C,h,w], low bands first."""
    a, b = picture[..., ::2, ::2], picture[..., ::2, 1::2]
    c, d = picture[..., 1::2, ::2], picture[..., 1::2, 1::2]
    low, vertical = (a + b + c + d) / 2, (a + b - c - d) / 2
    horizontal, diagonal = (a - b + c - d) / 2, (a - b - c + d) / 2
    details = torch.stack((vertical, horizontal, diagonal), dim=2).flatten(1, 2)
    return torch.cat((low, details), dim=1)


def fit_head(
    samples: HeadSamples,
    blocks: int,
    average: Tensor,
    held_out: int,
    steps: int,
    random: torch.Generator,
) -> HeadFit:
    """Fit a head by least squares, then let its style vary with w.

    Parameters
    ----------
    samples:
        Of all renders.
    blocks:
        Which of their features.
    average:
        Of w: there the style is the one that least squares assumes.
    held_out:
        Renders at the beginning that measure the fit and are not used for it.
    steps:
        Of Adam, 12 renders each.
    """
    features, bands = samples.features[blocks].float(), samples.bands[blocks]
    scale = features[held_out:].std((0, 2)).clamp(min=1e-6)  # of every channel
    x = features / scale[:, None]
    kernel, bias = _least_squares(x[held_out:], bands[held_out:])
    deviation = (samples.w[held_out:] - average).std()
    w = (samples.w - average) / deviation
    slope = torch.zeros(x.shape[1], w.shape[1], requires_grad=True)
    learnt = [torch.ones(x.shape[1]), kernel, bias]
    start = _decibels(_predicted(x[:held_out], w[:held_out], slope, learnt), bands[:held_out])
    learnt = [t.clone().requires_grad_() for t in learnt]
    optimiser = torch.optim.Adam([{"params": [slope], "lr": 1e-3}, {"params": learnt, "lr": 3e-3}])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        chosen = torch.randint(held_out, len(w), (12,), generator=random)
        error = (_predicted(x[chosen], w[chosen], slope, learnt) - bands[chosen]).square().mean()
        loss = error + 1e-5 * slope.square().sum() / len(slope)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        made = _predicted(x[:held_out], w[:held_out], slope, learnt)
        head = _as_head(slope / deviation, learnt, scale, average)
    return HeadFit(head, start, _decibels(made, bands[:held_out]))


def _predicted(x: Tensor, w: Tensor, slope: Tensor, learnt: Sequence[Tensor]) -> Tensor:
    offset, kernel, bias = learnt
    style = offset + w @ slope.T  # [N,C]
    return torch.einsum("oc,ncp->nop", kernel, x * style[:, :, None]) + bias[:, None]


def _least_squares(x: Tensor, bands: Tensor) -> tuple[Tensor, Tensor]:
    """Kernel [12,C] and bias [12] of one style for all."""
    flat = x.transpose(0, 1).flatten(1)
    flat = torch.cat([flat, torch.ones(1, flat.shape[1])])
    gram = flat @ flat.T
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    solution = torch.linalg.solve(gram, flat @ bands.transpose(0, 1).flatten(1).T).T
    return solution[:, :-1].contiguous(), solution[:, -1].contiguous()


def _decibels(made: Tensor, truth: Tensor) -> float:
    """Of pictures, from their bands: the wavelet is orthonormal."""
    return 10 * math.log10(PEAK**2 / float((made - truth).square().mean().detach()))


def _as_head(slope: Tensor, learnt: Sequence[Tensor], scale: Tensor, average: Tensor) -> ToImage:
    offset, kernel, bias = learnt
    head = ToImage(slope.shape[0], slope.shape[1])
    head.style.weight.copy_(slope)
    head.style.bias.copy_(offset - slope @ average)
    head.weight.copy_((kernel / scale).reshape(BANDS * RGB, -1, 1, 1))
    head.bias.copy_(bias)
    return head.eval().requires_grad_(False)
