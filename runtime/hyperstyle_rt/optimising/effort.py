"""How much is done for a picture: whether gradient steps follow a method, and when they end.

A bundle may say which steps bring a picture closer than its method, and how well pictures of its
own kind fit: after the method, and after these steps. A picture that fits after the method as well
as its kind needs none; with another one they go on until it fits as its kind does after them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import HyperStyleError
from ..formats.fit import Closeness
from ..formats.manifest import Manifest
from ..imaging.pictures import to_input
from ..types import Array, Picture
from .names import AUTO, BEST, EFFORT_LINES, FAST, REFINE
from .objective import LossResult, pooled

NEEDS_NONE = 0.9
"""Quantile of its kind as well as which a picture must fit after the method to need no steps."""

ENOUGH = 0.5
"""Quantile of its kind after all steps as well as which a picture must fit to need no more."""


@dataclass(frozen=True)
class Plan:
    """The gradient steps that follow a method.

    Attributes
    ----------
    effort:
        What they follow from.
    preset:
        Which.
    none, enough:
        So close, none is taken, or no more; None for whatever it is.
    """

    effort: str
    preset: str
    none: Closeness | None = None
    enough: Closeness | None = None


def plan_of(
    manifest: Manifest, effort: str, iterations: int | None = None, method: str | None = None
) -> Plan | None:
    """What follows a method; None for nothing.

    Parameters
    ----------
    iterations:
        How many were done; None for the method's own number.
    method:
        By name; None for the default, the only one whose fit a manifest says.

    Raises
    ------
    HyperStyleError
        If there is no such effort.
    """
    if effort not in EFFORT_LINES:
        raise HyperStyleError(f"effort must be {', '.join(EFFORT_LINES)}, not {effort!r}")
    if effort == FAST or (effort == AUTO and manifest.then is None):
        return None
    preset = manifest.then or REFINE
    fit = manifest.fit
    if effort == BEST or fit is None or method not in (None, manifest.default_method):
        return Plan(effort, preset)
    count = manifest.method().iterations if iterations is None else iterations
    none = fit.after_iterations(count, NEEDS_NONE)
    return Plan(effort, preset, none, fit.after_steps(ENOUGH))


def effort_of(effort: str | None, *asked: Any) -> str:
    """The effort of a caller: whoever asks for a method or a number of iterations gets just these.

    Parameters
    ----------
    effort:
        As named; None where it was not.
    asked:
        What else could have been; None where it was not.
    """
    if effort is not None:
        return effort
    return AUTO if all(value is None for value in asked) else FAST


class Follower:
    """Watches how close gradient steps have come, and says when that is enough.

    Parameters
    ----------
    plan:
        What they follow.
    manifest:
        Of the bundle.
    picture:
        uint8 [H,W,3], what is inverted.

    Attributes
    ----------
    before, now:
        How close it was before the first step, and is; None where the bundle does not say what its
        objectives compare with.
    needs_none:
        Whether no step was needed.
    steps:
        How many were taken.
    """

    def __init__(self, plan: Plan, manifest: Manifest, picture: Picture) -> None:
        self.plan = plan
        self.before: Closeness | None = None
        self.now: Closeness | None = None
        self.needs_none = False
        self.steps = 0
        self._weight = None if manifest.objective is None else manifest.objective.weight
        self._size = manifest.input_size
        self._target = to_input(picture, manifest.input_size)[0]

    def watch(self, otherwise: Callable[[LossResult], bool] | None) -> Callable[[LossResult], bool]:
        """What stops a stage: `otherwise`, or that it is close enough."""
        evaluations = 0

        def enough(result: LossResult) -> bool:
            nonlocal evaluations
            self.steps += 1 if evaluations else 0
            evaluations += 1
            return self._is_enough(result) or (otherwise is not None and otherwise(result))

        return enough

    def to_json(self) -> dict[str, Any]:
        """What an inversion says of it."""
        said: dict[str, Any] = {"name": self.plan.effort, "steps": self.steps}
        levels = {"before": self.before, "after": self.now, "fits_from": self.plan.none}
        said |= {name: level.to_json() for name, level in levels.items() if level is not None}
        return said

    def _is_enough(self, result: LossResult) -> bool:
        if self._weight is None:
            return False
        self.now = Closeness(self._l2(result.rendering()), self._perceptual(result.terms()))
        if self.before is None:
            self.before = self.now
            self.needs_none = _reaches(self.now, self.plan.none)
            return self.needs_none
        return _reaches(self.now, self.plan.enough)

    def _perceptual(self, terms: Array) -> float:
        assert self._weight is not None
        return float(terms[2]) / self._weight

    def _l2(self, rendering: Array) -> float:
        """Of the reconstruction."""
        return float(np.square(pooled(rendering, self._size) - self._target).mean())


def _reaches(now: Closeness, level: Closeness | None) -> bool:
    return level is not None and now.as_good_as(level)
