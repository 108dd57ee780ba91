"""Gradient descent on the offsets of an inversion: Adam, its schedule, and when to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import HyperStyleError
from ..types import Array
from .losses import Loss
from .variables import Variable

DEFAULT_STEPS = 60
MAX_STEPS = 100_000

WARM_UP = 5  # steps
MOMENTS = (0.9, 0.99)
TINY = 1e-12

PENALTY = 1e-4  # on the mean square of what was added, in units of the rates squared

SETTLED_OVER = 10  # steps over which an improvement is looked for

OnStep = Callable[[int, float, Array], Any]
"""Called with (steps done, loss, rendering float32 [3,H,W]) of the state after so many steps."""


@dataclass(frozen=True)
class Limits:
    """When to stop: whichever comes first.

    Attributes
    ----------
    steps:
        At most so many gradient steps.
    seconds:
        No step is begun after so long; None for any time.
    until:
        Stop when the loss has fallen by less than this fraction of itself over the last
        :data:`SETTLED_OVER` steps; None for never.

    Raises
    ------
    HyperStyleError
        On construction, if one of them is out of range.
    """

    steps: int = DEFAULT_STEPS
    seconds: float | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.steps <= MAX_STEPS:
            raise HyperStyleError(f"steps must be from 0 to {MAX_STEPS}, not {self.steps}")
        if self.seconds is not None and not self.seconds >= 0:
            raise HyperStyleError(f"seconds must be a number of at least 0, not {self.seconds}")
        if self.until is not None and not self.until >= 0:
            raise HyperStyleError(f"until must be a number of at least 0, not {self.until}")

    def progress(self, steps: int, seconds: float) -> float:
        """Share of the limits that is used up: 0 at the start, 1 at the end."""
        used = steps / self.steps if self.steps else 1.0
        if self.seconds is not None:
            used = max(used, seconds / self.seconds if self.seconds else 1.0)
        return min(used, 1.0)

    def settled(self, losses: list[float]) -> bool:
        """Whether the loss no longer falls enough."""
        if self.until is None or len(losses) <= SETTLED_OVER:
            return False
        before, now = losses[-1 - SETTLED_OVER], losses[-1]
        return before - now < self.until * before


Schedule = Callable[[int, float], float]
"""(steps done, progress 0 to 1) -> what the rates of the next step are multiplied by."""


def warm_cosine(done: int, progress: float) -> float:
    """Rise over the first steps, then fall to zero along half a cosine."""
    return min(1.0, (done + 1) / WARM_UP) * (1 + math.cos(math.pi * progress)) / 2


class Adam:
    """Adam (Kingma and Ba 2015) on one array.

    Parameters
    ----------
    rates:
        float32, broadcast to the array: how far a step moves each of its numbers at most.
    """

    def __init__(self, rates: Array) -> None:
        self._rates = rates
        self._mean: Array | float = 0.0
        self._square: Array | float = 0.0
        self._count = 0

    def step(self, gradient: Array, factor: float) -> Array:
        """What to add to the array: for its gradient, with all rates times `factor`."""
        first, second = MOMENTS
        self._count += 1
        self._mean = first * self._mean + (1 - first) * gradient
        self._square = second * self._square + (1 - second) * gradient * gradient
        mean = self._mean / (1 - first**self._count)
        square = self._square / (1 - second**self._count)
        return np.asarray(-factor * self._rates * mean / (np.sqrt(square) + TINY), np.float32)


def descend(
    variable: Variable,
    loss: Loss,
    limits: Limits,
    schedule: Schedule = warm_cosine,
    on_step: OnStep | None = None,
) -> Array:
    """Change a variable so that the loss falls.

    Returns
    -------
    Its value after the last step.
    """
    adam = Adam(variable.rates)
    value, losses = variable.start.copy(), []
    began = time.monotonic()
    for done in range(limits.steps + 1):
        result = loss(variable.forward(value))
        losses.append(result.loss)
        if on_step is not None:
            on_step(done, result.loss, result.rendering())
        progress = limits.progress(done, time.monotonic() - began)
        if progress >= 1 or limits.settled(losses):
            break
        gradient = variable.backward(result.gradients) + penalty_gradient(variable, value)
        value = value + adam.step(gradient, schedule(done, progress))
    return value


def penalty_gradient(variable: Variable, value: Array) -> Array:
    """Derivative of the penalty on what was added to a variable."""
    added = value - variable.start  # zero where the rate is zero
    scale = np.maximum(variable.rates, np.float32(TINY))
    return np.asarray(2 * PENALTY / value.size * added / np.square(scale), np.float32)
