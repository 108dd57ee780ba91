"""Descent on a draft: a small stand-in of the generator that a bundle may have.

A draft has the generator's first blocks and a head that was fitted to their features. Its pictures
have the reconstruction's size and cost a fraction of a rendering, but differ from reconstructions.
What is lacking is worked out from time to time, at the point where the descent is, and added to the
draft's picture as a constant: there the loss is that of the whole generator, and its gradients are
nearly those (output space mapping: Bandler et al. 1994).
"""

from __future__ import annotations

import numpy as np

from ..backends.protocol import Backend, Buffers
from ..formats.manifest import Manifest
from ..rendering import LATENTS, RECONSTRUCTION, Renderer
from ..types import Array
from .objective import FEATURES, KERNELS, NOISE, WEIGHTS, LossResult, Objective, Target
from .point import Point

DRAFT_OBJECTIVE = "draft_objective"
CORRECTION = "correction"

GRADIENTS = frozenset({LATENTS, KERNELS})
"""What the graph gives gradients of."""


def serves(manifest: Manifest, gradients: set[str], point: Point) -> bool:
    """Whether a bundle has a draft that gives some gradients at a point.

    A draft has the stored noise and weights.
    """
    free = (getattr(point, name) for name in (NOISE, WEIGHTS, FEATURES))
    has_draft = DRAFT_OBJECTIVE in manifest.graphs
    return has_draft and gradients <= GRADIENTS and all(part is None for part in free)


class DraftObjective(Objective):
    """The draft's objective, corrected so that its pictures are the generator's.

    Parameters
    ----------
    renew:
        After how many evaluations the correction is worked out anew; that costs a rendering.
    """

    def __init__(
        self, manifest: Manifest, renderer: Renderer, backend: Backend, renew: int
    ) -> None:
        super().__init__(DRAFT_OBJECTIVE, manifest, renderer, backend)
        self._renew = max(1, renew)
        self._evaluations = 0
        self._correction: Array = np.zeros(
            (1, *(int(n or 1) for n in self.inputs[CORRECTION].shape[1:])), np.float32
        )

    def __call__(
        self, point: Point, target: Target, settings: Buffers, pull: Array | None = None
    ) -> LossResult:
        """See :class:`Objective`; the rendering is of the reconstruction's size."""
        outputs = self._corrected(point, target, settings, pull)
        if self._evaluations % self._renew == 0:
            download = self.backend.download
            whole = self._renderer.render(
                self.backend.upload(point.latents[None]), self.kernels(point)
            )
            lacking = download(whole[RECONSTRUCTION]) - download(outputs[RECONSTRUCTION])
            self._correction = self._correction + lacking
            outputs = self._corrected(point, target, settings, pull)
        self._evaluations += 1
        return self.result(outputs)

    def forget(self) -> None:
        """See :class:`Objective`."""
        self._evaluations = 0
        self._correction = np.zeros_like(self._correction)

    def _corrected(
        self, point: Point, target: Target, settings: Buffers, pull: Array | None
    ) -> Buffers:
        more = {CORRECTION: self.backend.upload(self._correction)}
        return self.evaluate(point, target, settings, pull, more)
