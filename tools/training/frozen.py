"""The networks a stage builds on: read from official-layout files, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from hyperstyle_export.networks.encoder import WEncoder
from hyperstyle_export.networks.generator import Generator
from hyperstyle_export.networks.hyperstyle import crop_rows
from hyperstyle_export.readers.layouts import infer_encoder
from hyperstyle_export.readers.official import average_latent, read_generator, read_w_encoder
from torch import Tensor, nn

from .checkpoint import load_state
from .errors import TrainingError
from .factors import read_factors
from .synthesis import FastSynthesis

CARS_CROP = 8  # an eighth of the rows is cut above and below (docs/spec.md, section 2)


class FrozenGenerator(nn.Module):
    """Latents to the picture the networks read: generated, cropped, pooled.

    Attributes
    ----------
    synthesis:
        The generator; nothing of it learns.
    average:
        Average latent, [W].
    factors:
        The factors it was trained on, if it was supervised.
    """

    def __init__(
        self,
        path: Path,
        input_size: tuple[int, int],
        dataset_type: str,
        dtype: torch.dtype,
    ) -> None:
        """Read a generator.

        Raises
        ------
        TrainingError, CheckpointError
            If the file is no generator, or its pictures cannot be pooled to the input size.
        """
        super().__init__()
        generator, average = read_generator(path)
        self.synthesis = FastSynthesis(generator, dtype).requires_grad_(False)
        self.average: Tensor
        self.register_buffer("average", average_latent(generator) if average is None else average)
        self.factors = read_factors(path)
        side = generator.config.resolution
        cut = side // CARS_CROP if "cars" in dataset_type else 0
        self._rows = (cut, side - cut) if cut else None
        self._input_size = input_size
        height = side - 2 * cut
        if any(a % b and b % a for a, b in zip((height, side), input_size, strict=True)):
            raise TrainingError(
                f"{path} makes pictures of {height} x {side}, which cannot be pooled to the "
                f"input_size {input_size[0]} x {input_size[1]} in whole ratios"
            )

    @property
    def generator(self) -> Generator:
        """The reference module."""
        return self.synthesis.generator

    def forward(self, latents: Tensor, offsets: Mapping[int, Tensor] | None = None) -> Tensor:
        """Latents [B,W], offsets [B,O,I,k,k] a layer -> reconstruction [B,3,h,w]."""
        picture = crop_rows(self.synthesis(latents, offsets), self._rows)
        if picture.shape[2:] == self._input_size:
            return picture
        return F.adaptive_avg_pool2d(picture, self._input_size)

    def latents_of(self, factors: Tensor) -> Tensor:
        """Known factors [B,F] -> w [B,W]."""
        assert self.factors is not None
        z = self.factors.to_z(factors, self.generator.config.style_width)
        return self.generator.map(z.to(self.average.device))


def read_encoder(path: Path) -> WEncoder:
    """Read a W-encoder in eval mode, frozen."""
    state = read_w_encoder(path)
    encoder = WEncoder(infer_encoder(state))
    own = encoder.state_dict()
    counters = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")}
    load_state(encoder, {**state, **counters}, str(path))
    return encoder.eval().requires_grad_(False)
