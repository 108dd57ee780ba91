"""Array types that the whole package shares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
"""float32 of any shape: latents, codes, pictures on the scale of the networks."""

Doubles = NDArray[np.float64]
"""float64 of any shape: geometry and colour, where pixels are computed exactly."""

Floats = NDArray[np.floating[Any]]
"""Any floating type, of any shape: what callers may bring where float32 is computed with."""

Picture = NDArray[np.uint8]
"""uint8 [H,W,3], RGB."""
