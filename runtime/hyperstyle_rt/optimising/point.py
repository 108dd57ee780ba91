"""A point of descent: everything that a rendering is made of, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats.inversion_file import HALVES, InversionData
from ..free_inputs import Free
from ..types import Array


@dataclass
class Point:
    """What a rendering is made of; None for what is as the generator has it.

    Attributes
    ----------
    latents:
        float32 [L,W].
    codes:
        float32 [M,K+1].
    channel_offsets:
        float32 [P].
    noise, weights, features:
        As in :class:`~hyperstyle_rt.free_inputs.Free`.
    """

    latents: Array
    codes: Array | None = None
    channel_offsets: Array | None = None
    noise: Array | None = None
    weights: Array | None = None
    features: Array | None = None

    @classmethod
    def of(cls, data: InversionData) -> Point:
        """The point an inversion is at."""
        free = Free.of(data)
        offsets = data.channel_offsets
        return cls(
            data.latents,
            data.codes,
            None if offsets is None else offsets.astype(np.float32),
            free.noise,
            free.weights,
            free.features,
        )

    @property
    def free(self) -> Free:
        """What is changed beside latents and kernels."""
        return Free(self.noise, self.weights, self.features)

    def write(self, data: InversionData, names: set[str]) -> InversionData:
        """The inversion with those attributes of this point that are named."""
        arrays: dict[str, Any] = {}
        for name in names:
            array = getattr(self, name)
            is_half = name in HALVES and array is not None
            arrays[name] = _to_half(array) if is_half else array
        return replace(data, **arrays)


def _to_half(value: Array) -> NDArray[np.float16]:
    """As an inversion file holds it: finite, so clipped to the range of float16."""
    largest = np.finfo(np.float16).max
    return np.clip(value, -largest, largest).astype(np.float16)
