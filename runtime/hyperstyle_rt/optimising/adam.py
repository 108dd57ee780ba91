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
        for start in range(0, value.size, BLOCK):
            part = slice(start, start + BLOCK)
            rates = self._rates if self._rates.size == 1 else self._rates[part]
            step = self._step(self._mean[part], self._square[part], flat[2][part])
            step *= -factor * rates
            step /= self._root(self._square[part])
            np.add(flat[1][part], step, out=flat[0][part])
        return moved

    def _step(self, mean: Array, square: Array, gradient: Array) -> Array:
        """Update both means in place; gives that of the gradient without its bias."""
        first, second = self._settings.decay
        mean *= first
        mean += (1 - first) * gradient
        square *= second
        square += (1 - second) * gradient * gradient
        unbiased: Array = mean / (1 - first**self._count)
        return unbiased

    def _root(self, square: Array) -> Array:
        """The root of the mean square without its bias, and epsilon."""
        root = square / (1 - self._settings.decay[1] ** self._count)
        np.sqrt(root, out=root)
        root += self._settings.epsilon
        return root
