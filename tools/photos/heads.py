"""Fitting RGB heads to the features of a generator that was published without them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hyperstyle_export.networks.mobilestylegan import BANDS, RGB, MobileStyleGan, PictureHead
from torch import Tensor

from .small import picture_side

RIDGE = 1e-3  # of the features' mean square
PEAK = 2.0  # of pictures in [-1,1]
MARGIN = 2  # places that two 3x3 convolutions look beyond
BATCH = 8
# Peak rates of Adam. All of w moves a style at once, so its rate is the smallest.
STYLE_RATE, PATH_RATE, DIRECT_RATE = 4e-5, 1e-3, 2e-4
STYLE_DECAY = 3e-3


@dataclass(frozen=True)
class HeadSamples:
    """Squares of the features of renders, and the picture there.

    Attributes
    ----------
    w:
        Latents, [N,W].
    features:
        After each number of blocks: [N,C,c,c], float16.
    bands:
        The wavelet bands that make the picture of twice the side there: [N,12,c,c].
    inside:
        Where a head sees all that it would see of the whole features: bool [N,c,c].
    """

    w: Tensor
    features: dict[int, Tensor]
    bands: dict[int, Tensor]
    inside: dict[int, Tensor]

    @staticmethod
    def joined(parts: Sequence[HeadSamples]) -> HeadSamples:
        """All samples as one."""
        blocks = parts[0].features
        return HeadSamples(
            torch.cat([part.w for part in parts]),
            {n: torch.cat([part.features[n] for part in parts]) for n in blocks},
            {n: torch.cat([part.bands[n] for part in parts]) for n in blocks},
            {n: torch.cat([part.inside[n] for part in parts]) for n in blocks},
        )


@dataclass(frozen=True)
class HeadFit:
    """A fitted head, and its error in dB on the samples held out of the fit.

    Attributes
    ----------
    least_squares_db:
        Of the start: a linear map of the features, one for all latents.
    """

    head: PictureHead
    least_squares_db: float
    held_out_db: float


def sample_heads(
    model: MobileStyleGan,
    latents: Iterator[Tensor],
    blocks: Sequence[int],
    crop: int,
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
    crop:
        Side of the square that is kept of a picture's features, at a place drawn for each batch.
    """
    with torch.inference_mode():
        for w in latents:
            features = {n: model.synthesis.features(w, blocks=n) for n in blocks}
            picture = model.synthesis(w)
            kept, bands, inside = {}, {}, {}
            for n, x in features.items():
                side = x.shape[-1]
                size = min(crop, side)
                top, left = torch.randint(side - size + 1, (2,), generator=random).tolist()
                square = (
                    slice(None),
                    slice(None),
                    slice(top, top + size),
                    slice(left, left + size),
                )
                small = F.avg_pool2d(picture, picture.shape[-1] // picture_side(n))
                kept[n] = x[square].half()
                bands[n] = haar_bands(small)[square]
                rows, columns = (_inside(first, size, side) for first in (top, left))
                inside[n] = (rows[:, None] & columns).expand(len(w), -1, -1)
            yield HeadSamples(w, kept, bands, inside)


def _inside(first: int, size: int, side: int) -> Tensor:
    """Which of `size` places from `first` on are no nearer to a cut than a head looks."""
    place = torch.arange(size)
    low, high = (0 if first == 0 else MARGIN), (size if first + size == side else size - MARGIN)
    return (place >= low) & (place < high)


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
    width: int = 64,
) -> HeadFit:
    """Fit a head: a linear map by least squares, then all of it with Adam.

    Parameters
    ----------
    samples:
        Of all renders.
    blocks:
        Which of their features.
    average:
        Of w: there the styles begin as ones.
    held_out:
        Renders at the beginning that measure the fit and are not used for it.
    steps:
        Of Adam, `BATCH` renders each.
    width:
        Of the head's path of 3x3 convolutions.
    """
    features, bands = samples.features[blocks], samples.bands[blocks]
    scale = _deviations(features[held_out:])
    deviation = (samples.w[held_out:] - average).std()
    w = (samples.w - average) / deviation

    def error(chosen: Tensor) -> Tensor:
        x = features[chosen].float() / scale[:, None, None]
        seen = samples.inside[blocks][chosen][:, None]
        square = (head.bands(x, w[chosen]) - bands[chosen]).square() * seen
        return square.sum() / (seen.sum() * BANDS * RGB)

    head = PictureHead(len(scale), w.shape[1], width)
    _begin(head, *_least_squares(features[held_out:], scale, bands[held_out:]))
    start = _decibels(error, held_out)
    optimiser = _optimiser(head)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        chosen = torch.randint(held_out, len(w), (BATCH,), generator=random)
        optimiser.zero_grad()
        torch.autograd.backward(error(chosen))
        optimiser.step()
        schedule.step()
    reached = _decibels(error, held_out)
    _fold(head, scale, average, deviation)
    return HeadFit(head.eval().requires_grad_(False), start, reached)


def _deviations(features: Tensor) -> Tensor:
    """Root mean square of every channel, [C]."""
    powers = torch.stack([x.float().square().mean((1, 2)) for x in features])
    return powers.mean(0).sqrt().clamp(min=1e-6)


def _least_squares(features: Tensor, scale: Tensor, bands: Tensor) -> tuple[Tensor, Tensor]:
    """Kernel [12,C] and bias [12] of one style for all."""
    size = len(scale) + 1
    gram, moment = torch.zeros(size, size), torch.zeros(size, bands.shape[1])
    for x, y in zip(features, bands, strict=True):
        flat = (x.float() / scale[:, None, None]).flatten(1)
        flat = torch.cat([flat, torch.ones(1, flat.shape[1])])
        gram += flat @ flat.T
        moment += flat @ y.flatten(1).T
    gram += RIDGE * gram.diagonal().mean() * torch.eye(size)
    solution = torch.linalg.solve(gram, moment).T
    return solution[:, :-1], solution[:, -1]


def _begin(head: PictureHead, kernel: Tensor, bias: Tensor) -> None:
    """Styles of ones, the linear map, and a path that adds nothing yet."""
    with torch.no_grad():
        for style in (head.style, head.detail_style):
            style.weight.zero_()
            style.bias.fill_(1)
        head.direct.weight.copy_(kernel[:, :, None, None])
        assert head.direct.bias is not None
        assert head.detail.bias is not None
        head.direct.bias.copy_(bias)
        head.detail.weight.zero_()
        head.detail.bias.zero_()


def _optimiser(head: PictureHead) -> torch.optim.Optimizer:
    modules = {
        STYLE_RATE: (head.style, head.detail_style),
        PATH_RATE: (head.squeeze, head.hidden, head.detail),
        DIRECT_RATE: (head.direct,),
    }
    groups = [
        {
            "params": [p for module in group for p in module.parameters()],
            "lr": rate,
            "weight_decay": STYLE_DECAY if rate == STYLE_RATE else 0.0,
        }
        for rate, group in modules.items()
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.99))


def _decibels(error: Callable[[Tensor], Tensor], count: int) -> float:
    """Of the first pictures, from their bands: the wavelet is orthonormal."""
    with torch.no_grad():
        errors = [float(error(torch.tensor([number]))) for number in range(count)]
    return 10 * math.log10(PEAK**2 / (sum(errors) / count))


def _fold(head: PictureHead, scale: Tensor, average: Tensor, deviation: Tensor) -> None:
    """Make a head of scaled features and latents one of features and latents."""
    with torch.no_grad():
        for style in (head.style, head.detail_style):
            style.weight.div_(deviation)
            style.bias.sub_(style.weight @ average)
        head.style.weight.div_(scale[:, None])
        head.style.bias.div_(scale)
