"""Published ways to optimise an inversion, as data: stages of variables, a loss and schedules.

Sources and traps: ``docs/spec-methods.md``, sections 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import HyperStyleError
from ..formats.parametric_inputs import ObjectiveFacts
from ..types import Array
from .adam import BRISK, PUBLISHED
from .descent import Pace
from .names import REFINE
from .noise_maps import normalised
from .objective import LossResult
from .schedules import constant, cosine, gently, projector_rate

PENALTY = 1e-4
"""Of `refine`: on the mean square of what was added, in units of the rates squared."""

AS_BUILT = None
"""Weight of the perceptual term as the bundle's exporter has weighed it, beside the structure."""

LPIPS_WEIGHT = 0.3
"""Weight of LPIPS in bundles that are built with it; what an encoder in its place stands for."""

LPIPS_ALEXNET = "lpips_alexnet"
VGG16 = "vgg16"

# What the mask is to a stage.
INSIDE, OUTSIDE = "inside", "outside"


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of the objective graph.

    Attributes
    ----------
    pixels:
        Mean square of pixels in [-1,1].
    structure:
        Mean squares of means over windows and of differences of neighbours.
    perceptual:
        LPIPS. A bundle built with its own encoder in LPIPS' place takes it at the rate at which
        `refine` takes either. None for the weight it was built with.
    vgg16:
        The same for a bundle whose network is VGG16's features; None for as many times the weight
        it was built with as LPIPS would have.
    """

    pixels: float = 1.0
    structure: float = 0.0
    perceptual: float | None = 1.0
    vgg16: float | None = None

    def of_terms(self, facts: ObjectiveFacts | None) -> Array:
        """What an objective graph multiplies its terms by, float32 [3].

        Parameters
        ----------
        facts:
            What the graph was built with; None for the bundle's own encoder.
        """
        return np.array([self.pixels, self.structure, self._of_perceptual(facts)], np.float32)

    def _of_perceptual(self, facts: ObjectiveFacts | None) -> float:
        if self.perceptual is None:
            return 1.0
        if facts is not None and facts.perceptual == VGG16:  # mean squares of thousands
            return self.perceptual if self.vgg16 is None else self.vgg16 / facts.weight
        built = facts.weight if facts and facts.perceptual != "encoder" else LPIPS_WEIGHT
        return self.perceptual / built


@dataclass(frozen=True)
class Stage:
    """One descent.

    Attributes
    ----------
    variables:
        What changes, by the names of :data:`~.variables.VARIABLES`, and how it is stepped.
    steps:
        Published number.
    weights:
        Of the terms of the objective.
    optional:
        Variables that are left out where the generator has none of them.
    finds_latents:
        Whether the stage is for latents alone, and left out where an inversion has some.
    from_mean:
        Number of latents of the mapping network whose mean is the start; 0 for the bundle's average
        latent.
    disturbed:
        Whether latents are shaken as the projector does.
    noise_regulariser:
        Whether noise maps are kept free of patterns.
    fresh_noise:
        Whether noise starts from normal random numbers instead of the stored maps.
    drops_noise:
        Whether what was found for the noise is forgotten.
    prior, encoder_term:
        Weights of II2S's prior and IDInvert's encoder term.
    locality:
        Whether pivotal tuning's locality term is added.
    enough:
        LPIPS-Alex at which it stops; None for none. Other networks have no such number.
    mask:
        Part of the picture that counts if there is a mask: :data:`INSIDE` or :data:`OUTSIDE` it.
    astray:
        Times the loss at its start above which it is taken back to the best it had, to go on with
        smaller steps; None for never.
    draft, renew:
        Whether the bundle's draft objective is used where it has one, and after how many steps
        what it lacks is worked out anew.
    """

    variables: Mapping[str, Pace]
    steps: int
    weights: Weights = field(default_factory=Weights)
    optional: frozenset[str] = frozenset()
    finds_latents: bool = False
    from_mean: int = 0
    disturbed: bool = False
    noise_regulariser: bool = False
    fresh_noise: bool = False
    drops_noise: bool = False
    prior: float = 0.0
    encoder_term: float = 0.0
    locality: bool = False
    enough: float | None = None
    mask: str = INSIDE
    astray: float | None = None
    draft: bool = False
    renew: int = 0

    def published_end(self, facts: ObjectiveFacts | None) -> Callable[[LossResult], bool] | None:
        """What of the terms of the objective ends it early; None for nothing."""
        if self.enough is None or facts is None or facts.perceptual != LPIPS_ALEXNET:
            return None
        below = self.enough * facts.weight

        def enough(result: LossResult) -> bool:
            return bool(result.terms()[2] <= below)

        return enough


@dataclass(frozen=True)
class Preset:
    """A way to optimise.

    Attributes
    ----------
    stages:
        One after the other.
    needs_inversion:
        Whether it starts from an inversion, by the bundle's default method where none is given.
    """

    stages: tuple[Stage, ...]
    needs_inversion: bool = False

    @property
    def steps(self) -> int:
        """Published number of steps of all stages."""
        return sum(stage.steps for stage in self.stages)


_AS_REFINED = Weights(1.0, 1.0, AS_BUILT)


def refining_stage(names: tuple[str, ...], steps: int) -> Stage:
    """The stage of `refine` on other variables, each with its own rates."""
    pace = Pace(penalty=PENALTY)
    return Stage(dict.fromkeys(names, pace), steps, _AS_REFINED)


def _published(rate: float, projecting: bool = False) -> Pace:
    return Pace(rate, projector_rate if projecting else constant, PUBLISHED)


def _noise(rate: float) -> Pace:
    return Pace(rate, projector_rate, PUBLISHED, settle=normalised)


def _projecting(rate: float, steps: int, samples: int, drops_noise: bool) -> Stage:
    """StyleGAN2's projector into W, with noise maps."""
    return Stage(
        {"w": _published(rate, projecting=True), "noise": _noise(rate)},
        steps,
        Weights(pixels=0.0),
        optional=frozenset({"noise"}),
        finds_latents=drops_noise,
        from_mean=samples,
        disturbed=True,
        noise_regulariser=True,
        fresh_noise=True,
        drops_noise=drops_noise,
    )


_BOTH = {"latents": Pace(0.1, gently, BRISK), "channel_offsets": Pace(None, gently, BRISK)}
_BOTH_FINISHING = {**_BOTH, "latents": Pace(0.04, gently, BRISK)}

_TUNING = Stage({"weights": _published(3e-4)}, 350, enough=0.06)

PRESETS: Mapping[str, Preset] = {
    REFINE: Preset(
        (refining_stage(("channel_offsets",), 60),),
        needs_inversion=True,
    ),
    "photo": Preset(
        (
            Stage(_BOTH, 60, Weights(1.0, 0.3, 0.8), astray=2.5, draft=True, renew=10),
            Stage(_BOTH_FINISHING, 24, Weights(1.0, 0.3, 0.8), astray=8.0),
        ),
        needs_inversion=True,
    ),
    "projector": Preset(
        (_projecting(0.1, 1000, 10_000, drops_noise=False),),
    ),
    "image2stylegan": Preset(
        (Stage({"latents": _published(0.01)}, 5000, from_mean=10_000),),
    ),
    "ii2s": Preset(
        (Stage({"latents": _published(0.01)}, 1300, prior=0.001),),
    ),
    "idinvert": Preset(
        (
            Stage(
                {"latents": _published(0.01)},
                100,
                Weights(1.0, 0.0, 1.0, vgg16=5e-5),
                encoder_term=2.0,
            ),
        ),
        needs_inversion=True,
    ),
    "pti": Preset(
        (_projecting(0.01, 450, 600, drops_noise=True), _TUNING),
    ),
    "pti_locality": Preset(
        (_projecting(0.01, 450, 600, drops_noise=True), replace(_TUNING, locality=True)),
    ),
    "hybrid": Preset(
        (
            Stage({"weights": Pace(3e-4, cosine, PUBLISHED)}, 100, _AS_REFINED),
            Stage({"features": Pace(None, cosine, PUBLISHED)}, 100, _AS_REFINED, mask=OUTSIDE),
        ),
        needs_inversion=True,
    ),
}
"""Those there are, by the names of :data:`~.names.PRESET_LINES`."""

DEFAULT_PRESET = REFINE


def find_preset(name: str) -> Preset:
    """Give a preset by its name.

    Raises
    ------
    HyperStyleError
        If there is none of this name; the text names those there are.
    """
    if name not in PRESETS:
        raise HyperStyleError(f"there is no preset {name!r}; choose of {', '.join(PRESETS)}")
    return PRESETS[name]
