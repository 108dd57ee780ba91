"""Gradient descent on variables of an inversion."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..backends.protocol import Buffers
from ..types import Array
from .adam import BRISK, Adam, AdamSettings
from .limits import Limits
from .objective import LossResult, Objective, Target
from .point import Point
from .schedules import Schedule, warm_cosine
from .terms import Term
from .variables import Gradients, Variable

TINY = 1e-12

OnStep = Callable[[int, float, Array], Any]
"""Called with (steps done, loss, rendering float32 [3,H,W]) of the state after so many steps.

The loss is that of the picture, without what keeps variables in bounds.
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

    def step(self, gradients: Gradients, done: int, progress: float) -> None:
        """Follow the gradient for one step."""
        gradient = self.variable.gradient(gradients)
        if self.pace.penalty:
            gradient = gradient + self._penalty_gradient()
        factor = self.pace.schedule(done, progress)
        self.value = self._adam.moved(self.value, gradient, factor)
        if self.pace.settle is not None:
            self.value = self.variable.settled(self.value, self.pace.settle)

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
        Stops the descent before the next step; None for no such condition.
    """

    start: Point
    moving: Sequence[Moving]
    objective: Objective
    target: Target
    settings: Buffers
    terms: Sequence[Term] = ()
    disturb: Disturb | None = None
    enough: Callable[[LossResult], bool] | None = None

    def point(self) -> Point:
        """Where it is now."""
        point = replace(self.start)
        for moving in self.moving:
            moving.variable.place(point, moving.value)
        return point


def descend(problem: Problem, limits: Limits, on_step: OnStep | None = None) -> Point:
    """Change the variables of a problem so that the loss falls.

    Returns
    -------
    Where it is after the last step.
    """
    losses: list[float] = []
    began, progress = time.monotonic(), 0.0
    for done in range(limits.steps + 1):
        result, gradients = _evaluate(problem, max(progress, limits.progress(done, 0.0)))
        losses.append(result.loss)
        if on_step is not None:
            on_step(done, result.loss, result.rendering())
        enough = problem.enough is not None and problem.enough(result)  # it sees every state
        progress = limits.progress(done, time.monotonic() - began)
        if enough or progress >= 1 or limits.settled(losses):
            break
        for moving in problem.moving:
            moving.step(gradients, done, progress)
    return problem.point()


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
