"""Steps that bring latents nearer to a picture: a learned map of gradients through the draft.

ReStyle's network sees the picture and its reconstruction and says how the latents should change. To
learn that from pictures alone takes far more of them than a linear map of the gradient does: the
gradient is the generator's own answer at this face, and what is left to learn is by how much each
direction of W is to be followed (iterative amortised inference, Marino et al. 2018). The gradient
is that of the whole generator's reconstruction, carried back through the draft.

The learned map is the inverse of the mean curvature. What a face's own curvature is, the gradients
of the steps before say: the map is the start of a limited-memory quasi-Newton direction (L-BFGS).
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

UPWARDS = 1e-3
"""Least cosine between a step and its change of the gradient; below it the pair says nothing."""


@dataclass(frozen=True, kw_only=True)
class StepRules:
    """What is not learnt of the step of latents.

    Attributes
    ----------
    perceptual:
        Weight of LPIPS beside the mean square of pixels.
    limit:
        Largest root mean square of a step, where latents have deviations of 1.
    share:
        Of the loss: more than that a step is not to promise. One that promises more, by the
        gradient along it, is that much shorter: there the loss curves more than elsewhere.
    spread:
        Weight of the sum of squares of what rows differ by, in units of deviation 1: where rows
        differ much, the generator paints less of a face, and the draft follows it less well.
    trust:
        In the draft: an iteration goes so much of the way that the steps on it have found.
    approach:
        Steps on the draft alone, from the encoder's latents, before the first iteration.
    steps:
        Of an iteration.
    memory:
        Steps whose curvature is remembered, of all iterations.
    """

    perceptual: float = 0.25
    limit: float = 0.35
    share: float = 0.4
    spread: float = 0.0
    trust: float = 0.7
    approach: int = 3
    steps: int = 2
    memory: int = 4


@dataclass(frozen=True)
class DraftStepConfig(StepRules):
    """The rules, and the latents they are for.

    Attributes
    ----------
    style_width:
        Of w.
    rows:
        Of the latents that the draft reads; later rows go with the last of them.
    """

    style_width: int
    rows: int


@dataclass(frozen=True)
class Curvature:
    """What the last steps have shown of the loss's curvature, the oldest first; zeros for none.

    Attributes
    ----------
    moved:
        [N,M,R,W]: steps of the latents, in units of deviation 1.
    turned:
        [N,M,R,W]: by how much the gradient by those units has changed along each.
    """

    moved: Tensor
    turned: Tensor

    @staticmethod
    def unknown(config: DraftStepConfig, count: int) -> Curvature:
        """Before the first step of `count` faces."""
        shape = (count, config.memory, config.rows, config.style_width)
        return Curvature(torch.zeros(shape), torch.zeros(shape))

    def followed_by(self, moved: Tensor, turned: Tensor) -> Curvature:
        """With one more step, [N,R,W] both, in the place of the oldest."""
        return Curvature(
            torch.cat([self.moved[:, 1:], moved[:, None]], 1),
            torch.cat([self.turned[:, 1:], turned[:, None]], 1),
        )


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
        """Make the first step, of which nothing but the mean curvature is known.

        Latents [N,L,W], loss [N], its gradient by the rows that are read [N,R,W] -> [N,L,W].
        """
        units = gradient @ self.deviations
        return self.moved(latents, self.limited(self.mapped(units), units, loss))

    def mapped(self, units: Tensor) -> Tensor:
        """By the mean curvature: gradient by units [N,R,W] -> what is to be taken from them."""
        change = units.sum(1, keepdim=True) @ self.shared.T
        return change + torch.einsum("nri,roi->nro", units, self.own)

    def direction(self, units: Tensor, known: Curvature) -> Tensor:
        """By the curvature that was seen, and the mean one elsewhere: [N,R,W] -> [N,R,W].

        The two loops of L-BFGS. A step along which the loss did not curve upwards counts for
        nothing.
        """
        pairs = [
            (moved, turned, curved(moved, turned))
            for moved, turned in zip(known.moved.unbind(1), known.turned.unbind(1), strict=True)
        ]
        change, parts = units, []
        for moved, turned, inverse in reversed(pairs):
            parts.append(inverse * dot(moved, change))
            change = change - parts[-1] * turned
        change = self.mapped(change)
        for (moved, turned, inverse), part in zip(pairs, reversed(parts), strict=True):
            change = change + (part - inverse * dot(turned, change)) * moved
        return change

    def limited(self, change: Tensor, units: Tensor, loss: Tensor) -> Tensor:
        """No larger than `limit`, and promising no more than `share` of the loss: [N,R,W]."""
        size = change.square().mean((1, 2), keepdim=True).sqrt()
        change = change * (self.config.limit / size.clamp(min=self.config.limit))
        most = self.config.share * loss[:, None, None]
        return change * (most / torch.maximum(dot(change, units), most).clamp(min=TINY))

    def apart(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """What rows that differ add to the loss, [N], and to its gradient by units, [N,R,W]."""
        rows = latents[:, : self.config.rows]
        inverse = torch.linalg.inv(self.deviations)
        differ = (rows - rows.mean(1, keepdim=True)) @ inverse.T
        return self.config.spread / 2 * dot(differ, differ).flatten(), self.config.spread * differ

    def moved(self, latents: Tensor, change: Tensor) -> Tensor:
        """Latents [N,L,W] less a change of units [N,R,W]."""
        change = change @ self.deviations.T
        return latents - change[:, self.sources(latents.shape[1])]

    def sources(self, rows: int) -> list[int]:
        """The row whose change every row of the latents takes."""
        return [min(row, self.config.rows - 1) for row in range(rows)]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Of every face: [N,R,W] twice -> [N,1,1]."""
    return (a * b).sum((1, 2), keepdim=True)


def curved(moved: Tensor, turned: Tensor) -> Tensor:
    """Inverse of the curvature along a step, [N,1,1]; 0 where the loss did not curve upwards."""
    along = dot(moved, turned)
    upwards = along > UPWARDS * (dot(moved, moved) * dot(turned, turned)).sqrt()
    return torch.where(upwards, 1 / torch.where(upwards, along, 1.0), 0.0)


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
        return self.at(self.small(target), self.small(reconstruction), latents)

    def at(self, wanted: Tensor, made: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Of pictures in the draft's size, [N,3,s,s], as `__call__`."""
        made = made.detach().requires_grad_(True)
        loss = self.loss(made, wanted)
        (pull,) = torch.autograd.grad(loss.sum(), made)
        rows = latents.detach().requires_grad_(True)
        picture = self.draft.picture(self.generator, rows)
        (gradient,) = torch.autograd.grad(picture, rows, pull)
        return gradient[:, : self.draft.row + 1], loss.detach()

    def small(self, picture: Tensor) -> Tensor:
        """A picture [N,3,h,w] averaged to the draft's side."""
        return F.avg_pool2d(picture, picture.shape[-1] // self.draft.side)

    @torch.no_grad()
    def sketch(self, latents: Tensor) -> Tensor:
        """The draft's picture, [N,3,s,s]."""
        return self.draft.picture(self.generator, latents)

    def loss(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Of every picture, [N]."""
        square = (made - wanted).square().mean((1, 2, 3))
        return square + self.perceptual * self.lpips(made, wanted)


@dataclass(frozen=True, eq=False)
class DraftSearch:
    """Several steps on the draft, none of which makes the loss larger.

    What comes out of a step is tried on the draft's picture, to which the difference between the
    generator's picture and the draft's at the first latents is added. A step that has made the loss
    larger is not kept: the next one starts where it did, and knows the curvature along it.
    """

    step: DraftStep
    gradient: DraftGradient

    def approach(self, target: Tensor, latents: Tensor) -> tuple[Tensor, Curvature]:
        """Begin with an encoder's latents and the draft's own picture.

        Target [N,3,h,w] in [-1,1], latents [N,L,W] -> latents [N,L,W] and what was seen.
        """
        config = self.step.config
        known = Curvature.unknown(config, len(target))
        sketch = self.gradient.sketch(latents)
        return self._steps(self.gradient.small(target), sketch, latents, known, config.approach)

    def iterate(
        self, target: Tensor, reconstruction: Tensor, latents: Tensor, known: Curvature
    ) -> tuple[Tensor, Curvature]:
        """One iteration: the same, knowing the generator's picture [N,3,h,w] of the latents."""
        wanted, made = self.gradient.small(target), self.gradient.small(reconstruction)
        found, known = self._steps(wanted, made, latents, known, self.step.config.steps)
        return latents + self.step.config.trust * (found - latents), known

    @torch.no_grad()
    def _steps(
        self, wanted: Tensor, made: Tensor, latents: Tensor, known: Curvature, count: int
    ) -> tuple[Tensor, Curvature]:
        step, kept = self.step, latents
        correction = made - self.gradient.sketch(latents)
        units, least = self._seen(wanted, made, latents)
        for number in range(count):
            change = step.limited(step.direction(units, known), units, least)
            tried = step.moved(kept, change)
            shown = self.gradient.sketch(tried) + correction
            if number + 1 == count:
                break
            there, loss = self._seen(wanted, shown, tried)
            known = known.followed_by(-change, there - units)
            lower = (loss < least)[:, None, None]
            kept, units = torch.where(lower, tried, kept), torch.where(lower, there, units)
            least = torch.minimum(loss, least)
        loss = self.gradient.loss(shown, wanted) + step.apart(tried)[0]
        lower = (loss < least)[:, None, None]
        return torch.where(lower, tried, kept), known

    @torch.enable_grad()
    def _seen(self, wanted: Tensor, made: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient by units of deviation 1, [N,R,W], and loss [N], with what rows apart cost."""
        gradient, loss = self.gradient.at(wanted, made, latents)
        more, steeper = self.step.apart(latents)
        return (gradient @ self.step.deviations + steeper).detach(), loss + more
