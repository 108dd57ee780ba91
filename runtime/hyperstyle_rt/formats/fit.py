"""How well pictures of a bundle's own kind fit after each iteration, as a manifest says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .fields import MAX_INTEGER, Fields, invalid, optional, shown

MAX_QUANTILES = 32
MAX_ROWS = 128


@dataclass(frozen=True)
class Closeness:
    """How close a reconstruction is to its picture.

    Attributes
    ----------
    l2:
        Mean square of the difference on [-1,1], in the size of the bundle's reconstructions.
    perceptual:
        The perceptual distance of the bundle's objectives, unweighted: of most bundles LPIPS.
    """

    l2: float
    perceptual: float

    def as_good_as(self, other: Closeness) -> bool:
        """Whether neither measure is above the other's."""
        return self.l2 <= other.l2 and self.perceptual <= other.perceptual

    def to_json(self) -> dict[str, float]:
        """Both numbers by name."""
        return {"l2": self.l2, "perceptual": self.perceptual}


@dataclass(frozen=True)
class Quantiles:
    """Of both measures over the pictures, a number for every quantile of :class:`Fit`."""

    l2: tuple[float, ...]
    perceptual: tuple[float, ...]


@dataclass(frozen=True)
class Fit:
    """How well pictures of the bundle's own kind, which its networks have not seen, fit.

    Attributes
    ----------
    pictures:
        How many were measured.
    quantiles:
        Ascending, each between 0 and 1.
    iterations:
        Of the default method after its first phases, and after every iteration.
    then:
        After the gradient steps that the manifest's ``then`` names; None where it was not measured.
    """

    pictures: int
    quantiles: tuple[float, ...]
    iterations: tuple[Quantiles, ...]
    then: Quantiles | None = None

    def after_iterations(self, count: int, quantile: float) -> Closeness:
        """A quantile after so many iterations; after more than were measured, of the last."""
        return self._at(self.iterations[min(count, len(self.iterations) - 1)], quantile)

    def after_steps(self, quantile: float) -> Closeness | None:
        """A quantile after the gradient steps; None where it was not measured."""
        return None if self.then is None else self._at(self.then, quantile)

    def _at(self, measured: Quantiles, quantile: float) -> Closeness:
        import numpy as np  # what only looks a bundle up does without

        l2, perceptual = (
            float(np.interp(quantile, self.quantiles, values))
            for values in (measured.l2, measured.perceptual)
        )
        return Closeness(l2, perceptual)

    @classmethod
    def from_fields(cls, fields: Fields) -> Fit:
        """Read the object of a manifest; the inverse of :meth:`to_json`.

        Raises
        ------
        BundleError
            If a field is missing or has another type or range.
        """
        quantiles = fields.numbers("quantiles", 1, MAX_QUANTILES, 1)
        if list(quantiles) != sorted(set(quantiles)):
            raise invalid(
                f"field {fields.path('quantiles')} must ascend, not {shown(list(quantiles))}"
            )
        rows = fields.children("iterations")
        if not 1 <= len(rows) <= MAX_ROWS:
            raise invalid(
                f"field {fields.path('iterations')} must have 1 to {MAX_ROWS} entries, not "
                f"{len(rows)}"
            )
        return cls(
            pictures=fields.integer("pictures", 1, MAX_INTEGER),
            quantiles=quantiles,
            iterations=tuple(_quantiles(row, len(quantiles)) for row in rows),
            then=optional(fields, "then", lambda row: _quantiles(row, len(quantiles))),
        )

    def to_json(self) -> dict[str, Any]:
        """Make the object of a manifest."""
        document = {
            "pictures": self.pictures,
            "quantiles": list(self.quantiles),
            "iterations": [_to_json(row) for row in self.iterations],
        }
        return document if self.then is None else document | {"then": _to_json(self.then)}


def _quantiles(fields: Fields, count: int) -> Quantiles:
    return Quantiles(*(fields.numbers(name, count, count, 1e6) for name in ("l2", "perceptual")))


def _to_json(measured: Quantiles) -> Mapping[str, list[float]]:
    return {"l2": list(measured.l2), "perceptual": list(measured.perceptual)}
