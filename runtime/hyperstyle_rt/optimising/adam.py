"""Adam (Kingma and Ba 2015), with rates of its own for every number."""

from __future__ import annotations

import math
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


BLOCK = 1 << 15
"""Numbers that are worked on at a time: with all that a step needs they fit a processor's cache."""


class Adam:
    """The state of one array.

    Parameters
    ----------
    rates:
        float32, a single number or of the array's shape: how far a step moves each of its numbers
        at most.
    """

    def __init__(self, rates: Array, settings: AdamSettings = PUBLISHED) -> None:
        self._rates = rates.ravel()
        self._settings = settings
        self._mean: Array | None = None
        self._square: Array | None = None
        self._count = 0

    def moved(self, value: Array, gradient: Array, factor: float) -> Array:
        """The array after a step along its gradient, with all rates times `factor`.

        A new array. Worked out block by block: of all weights of a generator, every intermediate
        result is 100 MB and more, and writing it to memory takes longer than working it out.

        Parameters
        ----------
        value, gradient:
            float32, of one shape.
        """
        if self._mean is None or self._square is None:
            self._mean, self._square = (np.zeros(value.size, np.float32) for _ in range(2))
        self._count += 1
        moved = np.empty_like(value, order="C")
        flat = [array.reshape(-1) for array in (moved, value, gradient)]
        scratch = np.empty(min(BLOCK, value.size), np.float32)
        for start in range(0, value.size, BLOCK):
            part = slice(start, start + BLOCK)
            after, before, slope = (array[part] for array in flat)
            rates = self._rates if self._rates.size == 1 else self._rates[part]
            step = scratch[: before.size]
            self._divided(self._mean[part], self._square[part], slope, step)
            step *= -factor / (1 - self._settings.decay[0] ** self._count) * rates
            np.add(before, step, out=after)
        return moved

    def stand_still(self) -> None:
        """Forget where the steps were going, but not how large the gradients are."""
        if self._mean is not None:
            self._mean[:] = 0

    def _divided(self, mean: Array, square: Array, gradient: Array, out: Array) -> None:
        """Update both means in place, and write their ratio.

        It is that of the gradient, with its bias, over the root of that of the square, without its
        own, and epsilon.
        """
        first, second = self._settings.decay
        np.multiply(gradient, 1 - first, out=out)
        mean *= first
        mean += out
        np.multiply(gradient, 1 - second, out=out)
        out *= gradient
        square *= second
        square += out
        np.sqrt(square, out=out)
        out *= 1 / math.sqrt(1 - second**self._count)
        out += self._settings.epsilon
        np.divide(mean, out, out=out)
