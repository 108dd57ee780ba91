"""Points that are found frame by frame tremble; over time they are smoothed and filled in.

The filter is a local linear regression with Gaussian weights (Loader, Local Regression and
Likelihood, 1999): at every frame a line is fitted to the points around it in time, weighted by how
near they are, and read there. It has no lag, unlike a filter that sees the past alone; and a face
that moves evenly is left where it is, up to the first and the last frame, unlike with an average.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..types import Doubles

_REACH = 4.0  # deviations beyond which weights are zero


def fill_in(seconds: Doubles, values: Doubles) -> Doubles:
    """Put what lies between in the place of values that are not known.

    Parameters
    ----------
    seconds:
        [N], rising.
    values:
        [N,K]; rows of NaN are not known, the first and the last are.

    Returns
    -------
    float64 [N,K], linear in time between the nearest that are known.
    """
    known = ~np.isnan(values).any(axis=1)
    columns = [np.interp(seconds, seconds[known], column[known]) for column in values.T]
    return np.stack(columns, axis=1)


def smooth(seconds: Doubles, values: Doubles, deviation: float) -> Doubles:
    """Smooth values over time.

    Parameters
    ----------
    seconds:
        [N], rising; at any distances.
    values:
        [N,K], all known.
    deviation:
        Of the Gaussian, in seconds; 0 leaves the values as they are.

    Returns
    -------
    float64 [N,K].
    """
    if deviation <= 0:
        return values.copy()
    starts = np.searchsorted(seconds, seconds - _REACH * deviation, side="left")
    stops = np.searchsorted(seconds, seconds + _REACH * deviation, side="right")
    return np.stack(
        [
            _line_at(seconds[start:stop] - now, values[start:stop], deviation)
            for now, start, stop in zip(seconds, starts, stops, strict=True)
        ]
    )


def _line_at(distances: Doubles, values: Doubles, deviation: float) -> NDArray[np.float64]:
    """The weighted line through values [N,K] at distance 0: [K]."""
    weights = np.exp(-0.5 * np.square(distances / deviation))
    total, first, second = (float((weights * distances**n).sum()) for n in range(3))
    spread = total * second - first * first  # zero where there is no other frame near
    if spread <= 1e-9 * total * total * deviation * deviation:
        mean: NDArray[np.float64] = weights @ values / total
        return mean
    line: NDArray[np.float64] = ((second - first * distances) * weights) @ values / spread
    return line
