"""A step that brings latents nearer to a picture: a learned map of a gradient through the draft.

ReStyle's network sees the picture and its reconstruction and says how the latents should change. To
learn that from pictures alone takes far more of them than a linear map of the gradient does: the
gradient is the generator's own answer at this face, and what is left to learn is by how much each
direction of W is to be followed (iterative amortised inference, Marino et al. 2018). The gradient
is that of the whole generator's reconstruction, carried back through the draft.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .lpips import Lpips
from .mobile_draft import Draft
from .mobilestylegan import MobileStyleGan

TINY = 1e-20


@dataclass(frozen=True)
class DraftStepConfig:
    """What is not learnt.

    Attributes
    ----------
    style_width:
        Of w.
    rows:
        Of the latents that the draft reads; later rows go with the last of them.
    perceptual:
        Weight of LPIPS beside the mean square of pixels.
    limit:
        Largest root mean square of a step, where latents have deviations of 1.
    share:
        Of the loss: more than that a step is not to promise. One that promises more, by the
        gradient along it, is that much shorter: there the loss curves more than elsewhere.
    """

    style_width: int
    rows: int
    perceptual: float = 0.25
    limit: float = 0.35
    share: float = 0.4


class DraftStep(nn.Module):
    """Gradient and latents to the next latents.

    Attributes
    ----------
    deviations:
        [W,W], lower triangular: times its transpose the covariance of w. A gradient times it is one
        by latents of unit deviations.
    shared:
        [W,W]: of the sum of all rows' gradients, to what all rows are changed by.
    own:
        [R,W,W]: of a row's gradient to that row's change.
    """

    def __init__(self, config: DraftStepConfig) -> None:
        super().__init__()
        self.config = config
        width = config.style_width
        self.deviations = nn.Parameter(torch.eye(width))
        self.shared = nn.Parameter(torch.zeros(width, width))
        self.own = nn.Parameter(torch.zeros(config.rows, width, width))

    def forward(self, latents: Tensor, gradient: Tensor, loss: Tensor) -> Tensor:
        """Latents [N,L,W], loss [N], its gradient by the rows that are read [N,R,W] -> [N,L,W]."""
        units = gradient @ self.deviations
        change = units.sum(1, keepdim=True) @ self.shared.T
        change = change + torch.einsum("nri,roi->nro", units, self.own)
        size = change.square().mean((1, 2), keepdim=True).sqrt()
        change = change * (self.config.limit / size.clamp(min=self.config.limit))
        promised = (change * units).sum((1, 2), keepdim=True)
        most = self.config.share * loss[:, None, None]
        change = change * (most / torch.maximum(promised, most).clamp(min=TINY))
        change = change @ self.deviations.T
        return latents - change[:, self.sources(latents.shape[1])]

    def sources(self, rows: int) -> list[int]:
        """The row whose change every row of the latents takes."""
        return [min(row, self.config.rows - 1) for row in range(rows)]


@dataclass(frozen=True, eq=False)
class DraftGradient:
    """The gradient that a step reads.

    Attributes
    ----------
    draft:
        Stands for the generator.
    """

    generator: MobileStyleGan
    draft: Draft
    lpips: Lpips
    perceptual: float

    def __call__(
        self, target: Tensor, reconstruction: Tensor, latents: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Pictures [N,3,h,w] in [-1,1], latents [N,L,W] -> gradient [N,R,W], loss [N].

        R are the rows that are read. Both pictures are averaged to the draft's size. What the
        loss's derivative by the reconstruction is, the draft's picture is pulled back with.
        """
        wanted, made = (
            F.avg_pool2d(x, x.shape[-1] // self.draft.side) for x in (target, reconstruction)
        )
        made = made.detach().requires_grad_(True)
        loss = self.loss(made, wanted)
        (pull,) = torch.autograd.grad(loss.sum(), made)
        rows = latents.detach().requires_grad_(True)
        picture = self.draft.picture(self.generator, rows)
        (gradient,) = torch.autograd.grad(picture, rows, pull)
        return gradient[:, : self.draft.row + 1], loss.detach()

    def loss(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Of every picture, [N]."""
        square = (made - wanted).square().mean((1, 2, 3))
        return square + self.perceptual * self.lpips(made, wanted)
