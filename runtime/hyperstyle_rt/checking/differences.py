"""How far a tensor is from the one it should be, and how far it may be."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..rendering import RECONSTRUCTION, RENDERING
from ..types import Array

PICTURE_PEAK = 2.0  # pictures are in [-1,1]


@dataclass(frozen=True)
class Bound:
    """How far a tensor may be from the reference's.

    Attributes
    ----------
    relative:
        Largest difference over the reference's largest magnitude.
    cosine:
        Smallest cosine of the angle between the two.
    psnr:
        Smallest peak signal-to-noise ratio in dB: peak 2 for pictures, else the reference's range.
    """

    relative: float
    cosine: float
    psnr: float


# One graph fed the reference's inputs, and whole inversions, which carry errors on. Measured on
# official-layout models with synthetic weights: fp32 within 1e-5, fp16 within 5e-3 and 59 dB. For
# bf16, which has 8 bits where fp16 has 11, every tensor of the graphs of `portraits` was rounded
# to it in ONNX Runtime: within 7e-2 and 57 dB per graph, 50 dB in the codes after 5 iterations.
BOUNDS = {
    ("fp32", "graph"): Bound(1e-4, 0.999999, 80.0),
    ("fp32", "inversion"): Bound(1e-3, 0.99999, 60.0),
    ("fp16", "graph"): Bound(8e-3, 0.9999, 50.0),
    ("fp16", "inversion"): Bound(5e-2, 0.999, 45.0),
    ("bf16", "graph"): Bound(1e-1, 0.9999, 50.0),
    ("bf16", "inversion"): Bound(1.5e-1, 0.999, 45.0),
}


@dataclass(frozen=True)
class Difference:
    """One tensor of the candidate against the reference's.

    Attributes
    ----------
    stage:
        Graph, or number of iterations of a whole inversion.
    tensor:
        Its name in the graphs.
    picture:
        Which picture, from 0.
    max_abs, mean_abs, relative, psnr, cosine:
        As in :class:`Bound`; the PSNR of equal tensors is infinite.
    within:
        Whether all are within the bounds; never for what is not finite.
    """

    stage: str
    tensor: str
    picture: int
    max_abs: float
    mean_abs: float
    relative: float
    psnr: float
    cosine: float
    within: bool


@dataclass(frozen=True)
class Comparison:
    """All differences between two contenders."""

    reference: str
    candidate: str
    differences: tuple[Difference, ...]

    def outside(self) -> list[Difference]:
        """List the differences out of bounds, the largest first."""
        failed = [d for d in self.differences if not d.within]
        return sorted(failed, key=lambda d: -d.relative if d.relative == d.relative else -math.inf)

    def worst(self) -> list[Difference]:
        """List the largest difference of every tensor at every stage, over all pictures."""
        return worst_of(self.differences)

    def to_json(self) -> dict[str, Any]:
        """Make a JSON document; numbers that are not finite become null."""
        rows = [
            {
                k: None if isinstance(v, float) and not math.isfinite(v) else v
                for k, v in row.items()
            }
            for row in map(asdict, self.differences)
        ]
        return {
            "reference": self.reference,
            "candidate": self.candidate,
            "ok": not self.outside(),
            "bounds": {" ".join(key): asdict(bound) for key, bound in BOUNDS.items()},
            "differences": rows,
        }


def worst_of(differences: Iterable[Difference]) -> list[Difference]:
    """The largest difference of every tensor at every stage, in the order they were first met."""
    found: dict[tuple[str, str], Difference] = {}
    for difference in differences:
        key = difference.stage, difference.tensor
        if key not in found or not difference.relative <= found[key].relative:
            found[key] = difference
    return list(found.values())


def measure(
    stage: str, tensor: str, picture: int, expected: Array, actual: Array, bound: Bound
) -> Difference:
    """Measure one tensor in double precision."""
    a, b = actual.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    with np.errstate(all="ignore"):  # whatever is not finite is out of bounds
        error = np.abs(a - b)
        relative = float(error.max() / max(np.abs(b).max(), 1e-30))
        squared = float(np.square(error).mean())
        peak = PICTURE_PEAK if tensor in (RENDERING, RECONSTRUCTION) else float(b.max() - b.min())
        psnr = math.inf if squared == 0 else float(10 * np.log10(peak**2 / squared))
        cosine = float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30))
    within = relative <= bound.relative and psnr >= bound.psnr and cosine >= bound.cosine
    return Difference(
        stage,
        tensor,
        picture,
        float(error.max()),
        float(error.mean()),
        relative,
        psnr,
        cosine,
        bool(within),
    )
