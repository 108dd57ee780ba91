"""Known factors of pictures as the input z of a generator's mapping network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hyperstyle_export.readers import network_pickles
from hyperstyle_export.readers.torch_files import read_torch_file
from numpy.typing import NDArray
from torch import Tensor

from .errors import TrainingError

CLAMP = 4.0  # standard deviations
# The mapping network normalises z to unit mean square, which would lose the length of the factors
# were it not for one more, constant component that is large beside them, in units of sqrt(width).
CONSTANT = 1.25


@dataclass(frozen=True)
class Factors:
    """Names of the factors and how they are standardised.

    Attributes
    ----------
    names:
        F names.
    mean, std:
        [F] float32, over the training pictures the run began with.
    """

    names: tuple[str, ...]
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, names: tuple[str, ...], values: NDArray[np.float32], width: int) -> Factors:
        """Standardisation of a table [N,F]; F must be less than the width of z.

        Raises
        ------
        TrainingError
            If there are no factors or more than fit.
        """
        if not names:
            raise TrainingError(
                "the training pictures have no known factors: supervised training of a generator "
                "wants a factors.npz beside them"
            )
        if len(names) >= width:
            raise TrainingError(
                f"{len(names)} factors do not fit a mapping network of width {width}; "
                f"set network.style_width to more than {len(names)}"
            )
        table = torch.from_numpy(values)
        return cls(names, table.mean(0), table.std(0, correction=0) + 1e-3)

    def check(self, names: tuple[str, ...], folder: Path) -> None:
        """Refuse pictures whose factors are others.

        Raises
        ------
        TrainingError
            If they are; the folder is named.
        """
        if names != self.names:
            raise TrainingError(
                f"the factors in {folder} are not those the generator is trained on; give pictures "
                "of the same renderer"
            )

    def standardise(self, values: Tensor) -> Tensor:
        """Factors [B,F] in standard deviations, clamped."""
        return ((values - self.mean) / self.std).clamp(-CLAMP, CLAMP)

    def to_z(self, values: Tensor, width: int) -> Tensor:
        """Factors [B,F] -> z [B,width]: standardised, the constant, zeros."""
        z = values.new_zeros(len(values), width)
        count = len(self.names)
        z[:, :count] = self.standardise(values)
        z[:, count] = CONSTANT * width**0.5
        return z

    def to_entry(self) -> dict[str, Any]:
        """As an entry of a checkpoint: tensors and plain values."""
        return {"names": list(self.names), "mean": self.mean, "std": self.std}

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> Factors:
        """The inverse of `to_entry`."""
        return cls(tuple(entry["names"]), entry["mean"], entry["std"])


def read_factors(generator: Path) -> Factors | None:
    """What a generator's file says of the factors it was trained on; None if it was on none.

    NVIDIA's pickles say nothing of any.
    """
    if generator.suffix.lower() == network_pickles.SUFFIX:
        return None
    entry = read_torch_file(generator).get("factors")
    return Factors.from_entry(entry) if isinstance(entry, Mapping) else None
