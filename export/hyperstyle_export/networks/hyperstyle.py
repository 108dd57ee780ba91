"""The published inversion loop, the twin of the exported graphs.

Paper 3.3; docs/spec.md, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import EncoderConfig, HypernetworkConfig, HyperStyleConfig
from .encoder import WEncoder
from .generator import Generator, Offsets
from .hypernetwork import Hypernetwork


@dataclass(frozen=True)
class Step:
    """What the loop has after some iterations (0: the encoder's own reconstruction)."""

    iteration: int
    image: Tensor  # [B,3,H,W], cropped, not clamped
    reconstruction: Tensor  # [B,3,h,w], what the next iteration sees
    offsets: dict[int, Tensor]  # accumulated, per layer [B,O,I,k,k]; empty before iteration 1


class HyperStyle(nn.Module):
    """Encoder, hypernetwork and generator with the average latent."""

    def __init__(self, config: HyperStyleConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = WEncoder(config.encoder)
        self.hypernet = Hypernetwork(config.hypernetwork, config.generator)
        self.decoder = Generator(config.generator)
        self.latent_avg: Tensor
        self.register_buffer(
            "latent_avg", torch.zeros(config.generator.num_latents, config.generator.style_width)
        )

    @classmethod
    def of_generator(
        cls,
        decoder: Generator,
        tuned_layers: tuple[int, ...] = (),
        input_size: tuple[int, int] = (256, 256),
        crop_rows: tuple[int, int] | None = None,
    ) -> HyperStyle:
        """A model of which only the generator has values: it renders and cannot invert.

        Parameters
        ----------
        tuned_layers:
            Offset indices of the layers whose kernels are to be inputs of the generator's graph.
        """
        with torch.device("meta"):
            model = cls(
                HyperStyleConfig(
                    generator=decoder.config,
                    encoder=EncoderConfig(),
                    hypernetwork=HypernetworkConfig(tuned_layers, ()),
                    input_size=input_size,
                    crop_rows=crop_rows,
                )
            )
        model.decoder = decoder
        return model.eval().requires_grad_(False)

    @property
    def has_hypernetwork(self) -> bool:
        """Whether encoder and hypernetwork have values."""
        return not self.hypernet.conv1.weight.is_meta

    def encode(self, image: Tensor) -> Tensor:
        """Image [B,3,h,w] in [-1,1] -> latents [B,L,W], the average added."""
        return self.encoder(image)[:, None] + self.latent_avg

    def generate(self, latents: Tensor, offsets: Offsets | None = None) -> tuple[Tensor, Tensor]:
        """Latents [B,L,W] -> image [B,3,H,W] (cropped) and reconstruction [B,3,h,w] (pooled)."""
        image = crop_rows(self.decoder(latents, offsets), self.config.crop_rows)
        return image, F.adaptive_avg_pool2d(image, self.config.input_size)

    def iterate(self, image: Tensor, iterations: int = 5) -> Iterator[Step]:
        """Yields iterations + 1 steps; offsets are summed and applied to the original weights."""
        yield from self.iterate_from(self.encode(image), image, iterations)

    def iterate_from(self, latents: Tensor, image: Tensor, iterations: int) -> Iterator[Step]:
        """The same from latents [B,L,W] of whatever encoder."""
        output, reconstruction = self.generate(latents)
        total: dict[int, Tensor] = {}
        yield Step(0, output, reconstruction, total)
        for iteration in range(1, iterations + 1):
            new = self.hypernet(image, reconstruction)
            total = {i: total[i] + d for i, d in new.items()} if total else new
            output, reconstruction = self.generate(latents, total)
            yield Step(iteration, output, reconstruction, total)


def crop_rows(image: Tensor, rows: tuple[int, int] | None) -> Tensor:
    """Keep rows top..bottom of [B,3,S,S]; None keeps all."""
    return image if rows is None else image[:, :, rows[0] : rows[1]]
