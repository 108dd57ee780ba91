"""The golden run of IDInvert; tolerances are those of tests/golden/README.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakeweights
import numpy as np
from numpy.typing import NDArray

GOLDEN: Any = np.load(Path(__file__).parent / "golden" / "idinvert.npz")
CODES = np.float32(0.5) * fakeweights.normal("idinvert.codes", (2, 14, 512))
Z = fakeweights.normal("idinvert.z", (2, 512))
PICTURES = [fakeweights.image_u8(seed) for seed in (1, 2)]

LATENTS_TOLERANCE, IMAGE_TOLERANCE = 2e-5, 1e-4


def target(number: int) -> NDArray[np.float32]:
    """A picture as the encoder reads it, [1,3,256,256]."""
    return np.asarray(fakeweights.to_input(PICTURES[number]), np.float32)


def area(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of 4 x 4 pixels: [...,256,256] -> [...,64,64]."""
    return np.asarray(image.reshape(*image.shape[:-2], 64, 4, 64, 4).mean((-3, -1)), np.float32)


def check_latents(latents: NDArray[np.float32], number: int) -> None:
    """What the encoder finds in a picture, [L,W]."""
    close(latents, GOLDEN["encoder/codes"][number], LATENTS_TOLERANCE)


def check_rendering(image: NDArray[np.float32], number: int) -> None:
    """What the generator makes of one of `CODES`, [3,256,256]."""
    close(area(image), GOLDEN["gen/area64"][number], IMAGE_TOLERANCE)
    close(image[:, 104:152, 104:152], GOLDEN["gen/crop_centre48"][number], IMAGE_TOLERANCE)
    close(image[:, :32, :32], GOLDEN["gen/crop_topleft32"][number], IMAGE_TOLERANCE)


def check_reconstruction(image: NDArray[np.float32]) -> None:
    """What the generator makes of the first picture's latents, [3,256,256]."""
    close(area(image), GOLDEN["encoder/recon_area64"][0], IMAGE_TOLERANCE)


def close(actual: NDArray[Any], expected: NDArray[Any], tolerance: float) -> None:
    """Nowhere further apart than the tolerance; `pytest -rA` shows how far."""
    assert actual.shape == expected.shape
    error = np.abs(actual.astype(np.float64) - expected).max()
    print(f"error {error:.1e}, tolerance {tolerance:.0e}")
    assert error <= tolerance
