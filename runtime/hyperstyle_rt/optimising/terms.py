"""Terms of a loss beside the objective graph's, with their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from ..backends.protocol import Backend, Buffers
from ..formats.optional_inputs import NoiseLayer
from ..rendering import RECONSTRUCTION
from ..types import Array
from . import noise_maps
from .latent_statistics import Whitening, prior
from .objective import Objective, Target
from .point import Point

ENCODER_TERM = "encoder_term"

LOCALITY_STEP = 30.0  # how far from the pivot, over all its numbers
LOCALITY_TRUNCATION = 0.5
LOCALITY_WEIGHT = 0.1


@dataclass(frozen=True)
class TermResult:
    """A term at a point.

    Attributes
    ----------
    loss:
        Its value, weighed.
    gradients:
        ``gradient.<name>`` as the objective graphs name theirs, in the shapes of their inputs.
    pull:
        float32 [1,3,h,w], its gradient by the reconstruction, which the objective's graph takes
        further back; None for none.
    """

    loss: float
    gradients: Mapping[str, Array] = field(default_factory=dict)
    pull: Array | None = None


class Term(Protocol):
    """A term of the loss."""

    def __call__(self, point: Point) -> TermResult:
        """Evaluate it."""
        ...


@dataclass(frozen=True)
class NoiseRegulariser:
    """Keeps noise maps free of patterns."""

    layers: Sequence[NoiseLayer]
    weight: float = noise_maps.REGULARISER_WEIGHT

    def __call__(self, point: Point) -> TermResult:
        """See :class:`Term`."""
        assert point.noise is not None  # it is among what changes
        maps = noise_maps.split(point.noise, [layer.side for layer in self.layers])
        loss, gradients = 0.0, {}
        for layer, noise in zip(self.layers, maps, strict=True):
            value, gradient = noise_maps.regulariser(noise)
            loss += value
            gradients[f"gradient.noise.{layer.name}"] = self.weight * gradient[None, None]
        return TermResult(self.weight * loss, gradients)


@dataclass(frozen=True)
class LatentPrior:
    """Keeps latents where the mapping network puts them: II2S's P_N."""

    whitening: Whitening
    weight: float

    def __call__(self, point: Point) -> TermResult:
        """See :class:`Term`."""
        loss, gradient = prior(point.latents, self.whitening)
        weight = np.float32(self.weight)
        return TermResult(self.weight * loss, {"gradient.latents": weight * gradient[None]})


@dataclass(frozen=True)
class EncoderTerm:
    """IDInvert's: latents stay what the encoder finds in their own reconstruction.

    The graph gives the mean square of latents minus encoder(reconstruction), and its gradients by
    both. The reconstruction is rendered here once more, of the same point.

    Attributes
    ----------
    render:
        Point -> ``rendering`` and ``reconstruction``.
    """

    backend: Backend
    render: Callable[[Point], Buffers]
    weight: float

    def __call__(self, point: Point) -> TermResult:
        """See :class:`Term`."""
        inputs = {
            "target_latents": self.backend.upload(point.latents[None]),
            RECONSTRUCTION: self.render(point)[RECONSTRUCTION],
        }
        outputs = self.backend.run(ENCODER_TERM, inputs)
        loss, by_latents, by_reconstruction = (
            np.float32(self.weight) * self.backend.download(outputs[name])
            for name in ("loss", "gradient.target_latents", "gradient.reconstruction")
        )
        gradients = {"gradient.latents": by_latents}
        return TermResult(float(loss.ravel()[0]), gradients, by_reconstruction)


@dataclass(frozen=True)
class Locality:
    """Pivotal tuning's: away from the pivot, the tuned generator renders what the old one did.

    Attributes
    ----------
    objective, settings:
        Run a second time, on another latent, with its own weights of the terms.
    target_of:
        Point -> what the old generator renders of its latents, as a target.
    draw:
        Gives a latent [W] of the mapping network, drawn towards the mean.
    silence:
        Noise of zeros [N], as published; None for a generator without noise.
    """

    objective: Objective
    settings: Buffers
    target_of: Callable[[Point], Target]
    draw: Callable[[], Array]
    silence: Array | None

    def __call__(self, point: Point) -> TermResult:
        """See :class:`Term`."""
        latents = beside(point.latents, self.draw())
        there = replace(point, latents=latents, noise=self.silence)
        result = self.objective(there, self.target_of(there), self.settings)
        download = self.objective.backend.download
        gradients = {name: download(buffer) for name, buffer in result.gradients.items()}
        gradients.pop("gradient.latents", None)  # the pivot stays where it is
        return TermResult(result.loss, gradients)


def beside(pivot: Array, latent: Array) -> Array:
    """The point :data:`LOCALITY_STEP` away from a pivot [L,W], towards a latent [W]."""
    way = latent - pivot
    return np.asarray(pivot + LOCALITY_STEP * way / np.linalg.norm(way), np.float32)
