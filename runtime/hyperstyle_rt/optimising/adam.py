"""Adam (Kingma and Ba 2015), with rates of its own for every number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..types import Array


@dataclass(frozen=True)
class AdamSettings:
    """Decay of the means of gradient and square, and what is added to the root of the latter."""

    decay: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8


PUBLISHED = AdamSettings()
"""Those of Adam's authors and of all published methods here."""

BRISK = AdamSettings((0.9, 0.99), 1e-12)
"""For few steps: the square follows sooner, and gradients of any size count."""


class Adam:
    """The state of one array.

    Parameters
    ----------
    rates:
        float32, broadcast to the array: how far a step moves each of its numbers at most.
    """

    def __init__(self, rates: Array, settings: AdamSettings = PUBLISHED) -> None:
        self._rates = rates
        self._settings = settings
        self._mean: Array | None = None
        self._square: Array | None = None
        self._count = 0

    def step(self, gradient: Array, factor: float) -> Array:
        """What to add to the array: for its gradient, with all rates times `factor`.

        Worked out in place: of all weights of a generator, every copy is 100 MB and more.
        """
        first, second = self._settings.decay
        if self._mean is None or self._square is None:
            self._mean, self._square = np.zeros_like(gradient), np.zeros_like(gradient)
        self._count += 1
        self._mean *= first
        self._mean += (1 - first) * gradient
        self._square *= second
        self._square += (1 - second) * gradient * gradient
        root = np.sqrt(self._square / (1 - second**self._count))
        root += self._settings.epsilon
        step = self._mean / (1 - first**self._count)
        step *= -factor * self._rates
        step /= root
        return step.astype(np.float32, copy=False)
