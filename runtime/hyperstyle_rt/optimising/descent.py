"""Gradient descent on variables of an inversion."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..backends.protocol import Buffers
from ..errors import InversionError
from ..types import Array
from .adam import BRISK, Adam, AdamSettings
from .limits import Limits
from .objective import LossResult, Objective, Target
from .point import Point
from .schedules import Schedule, warm_cosine
from .terms import Term
from .variables import Gradients, Variable

TINY = 1e-12

SLOWER = 0.5
"""Times the rates, after a descent that went astray was taken back."""

OnStep = Callable[[int, float, Array], Any]
"""Called with (steps done, loss, rendering float32 [3,H,W]) of the state after so many steps.

The loss is that of the picture, without what keeps variables in bounds. The last state told is the
one that is returned.
"""


@dataclass(frozen=True)
class Pace:
    """How a variable is stepped.

    Attributes
    ----------
    rate:
        Adam's rate; None for the variable's own.
    schedule:
        What it is multiplied by from step to step.
    adam:
        Its decay and epsilon.
    penalty:
        On the mean square of what was added, in units of the rates squared.
    settle:
        What is done to the value after a step, of noise to each map; None for nothing.
    """

    rate: float | None = None
    schedule: Schedule = warm_cosine
    adam: AdamSettings = BRISK
    penalty: float = 0.0
    settle: Callable[[Array], Array] | None = None


class Moving:
    """A variable on its way: its value, and Adam's state."""

    def __init__(self, variable: Variable, pace: Pace) -> None:
        self.variable = variable
        self.pace = pace
        self.rates = variable.rates if pace.rate is None else np.float32(pace.rate) * _ONE
        self.value = variable.start.copy()
        self._adam = Adam(self.rates, pace.adam)
        self._slowed = 1.0

    def step(self, gradients: Gradients, done: int, progress: float) -> None:
        """Follow the gradient for one step."""
        gradient = self.variable.gradient(gradients)
        if self.pace.penalty:
            gradient = gradient + self._penalty_gradient()
        factor = self.pace.schedule(done, progress)
        self.value = self._adam.moved(self.value, gradient, factor * self._slowed)
        if self.pace.settle is not None:
            self.value = self.variable.settled(self.value, self.pace.settle)

    def go_back(self, value: Array) -> None:
        """Go on from a value it had, with smaller steps and from a standstill."""
        self.value = value
        self._adam.stand_still()
        self._slowed *= SLOWER

    def _penalty_gradient(self) -> Array:
        """Derivative of the penalty on what was added."""
        added = self.value - self.variable.start  # zero where the rate is zero
        scale = np.maximum(self.rates, np.float32(TINY))
        weight = 2 * self.pace.penalty / self.value.size
        return np.asarray(weight * added / np.square(scale), np.float32)


_ONE = np.ones((), np.float32)

Disturb = Callable[[Point, float], None]
"""Shakes the latents of a point, at a progress from 0 to 1; the variable itself stays."""


@dataclass
class Problem:
    """What a descent changes, and what of it should fall.

    Attributes
    ----------
    start:
        Where it begins; what does not change stays as it is there.
    moving:
        What changes.
    objective, target, settings:
        The loss of the picture.
    terms:
        What is added to it.
    disturb:
        Noise on the latents while they are evaluated; None for none.
    enough:
        Stops the descent before the next step; None for no such condition. It sees every state but
        those that are taken back.
    astray:
        Times the loss at the start above which the descent is taken back to the best it had; None
        for never.
    """

    start: Point
    moving: Sequence[Moving]
    objective: Objective
    target: Target
    settings: Buffers
    terms: Sequence[Term] = ()
    disturb: Disturb | None = None
    enough: Callable[[LossResult], bool] | None = None
    astray: float | None = None

    def point(self) -> Point:
        """Where it is now."""
        point = replace(self.start)
        for moving in self.moving:
            moving.variable.place(point, moving.value)
        return point


def descend(problem: Problem, limits: Limits, on_step: OnStep | None = None) -> Point:
    """Change the variables of a problem so that the loss falls.

    A state that is taken back counts as a step. After the last step it has no successor, so that
    the state it is taken back to is looked at under the same number.

    Returns
    -------
    Where it is after the last step.

    Raises
    ------
    InversionError
        If the loss at the start is not finite.
    """
    losses: list[float] = []
    best = _Best(problem)
    began, progress = time.monotonic(), 0.0
    for turn in range(limits.steps + 2):
        done = min(turn, limits.steps)
        result, gradients = _evaluate(problem, max(progress, limits.progress(done, 0.0)))
        losses.append(result.loss)
        _check_start(losses[0])
        if on_step is not None:
            on_step(done, result.loss, result.rendering())
        if best.went_astray(losses):  # asked first: nothing ends a descent where it went astray
            best.restore()
            continue
        enough = problem.enough is not None and problem.enough(result)
        progress = limits.progress(done, time.monotonic() - began)
        if enough or progress >= 1 or limits.settled(losses):
            break
        for moving in problem.moving:
            moving.step(gradients, done, progress)
    return problem.point()


def _check_start(loss: float) -> None:
    """Refuse a start from which no gradient leads anywhere."""
    if not math.isfinite(loss):
        raise InversionError(
            "the inversion's rendering is not finite, so that gradient steps lead nowhere; invert "
            "the picture again"
        )


class _Best:
    """The state of a descent that had the least loss, where the problem says when to go back.

    Steps of a fixed size may overshoot so far that nothing of the picture is left, and gradients
    there lead nowhere: a rare picture in bfloat16, of which gradients are rounded.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._loss = math.inf
        self._values: list[Array] = []

    def went_astray(self, losses: Sequence[float]) -> bool:
        """Whether the last of these losses is too large to go on from; else it is considered."""
        factor, loss = self._problem.astray, losses[-1]
        if factor is None:
            return False
        if not loss <= factor * losses[0]:  # nor is what is no number
            return True
        if loss < self._loss:
            self._loss, self._values = loss, [each.value for each in self._problem.moving]
        return False

    def restore(self) -> None:
        """Take the problem back there, to go on with smaller steps."""
        for moving, value in zip(self._problem.moving, self._values, strict=True):
            moving.go_back(value)
        self._problem.objective.forget()


def _evaluate(problem: Problem, progress: float) -> tuple[LossResult, Gradients]:
    """The loss of the picture, and the derivatives of all terms."""
    point = problem.point()
    if problem.disturb is not None:
        problem.disturb(point, progress)
    added: dict[str, Array] = {}
    pull: Array | None = None
    for term in problem.terms:
        result = term(point)
        for name, gradient in result.gradients.items():
            added[name] = added[name] + gradient if name in added else gradient
        if result.pull is not None:
            pull = result.pull if pull is None else pull + result.pull
    loss = problem.objective(point, problem.target, problem.settings, pull)
    return loss, Gradients(problem.objective, loss.gradients, added)
