"""What an encoder knows of the generator that it inverts into, of whatever family."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class LatentLayout(Protocol):
    """Sizes of a generator."""

    @property
    def resolution(self) -> int:
        """Side of the picture."""
        ...

    @property
    def num_latents(self) -> int:
        """Rows of W+ latents."""
        ...

    @property
    def style_width(self) -> int:
        """Of w."""
        ...


class MappedGenerator(Protocol):
    """A generator with a mapping network."""

    @property
    def config(self) -> LatentLayout:
        """Its sizes."""
        ...

    def map(self, z: Tensor) -> Tensor:
        """Z [N,W] -> w [N,W]."""
        ...


class ModelLayout(Protocol):
    """Sizes of a model."""

    @property
    def generator(self) -> LatentLayout:
        """Of its generator."""
        ...

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the pictures that its encoders read."""
        ...


class InvertibleModel(Protocol):
    """A generator, its average latent and what its encoders look at."""

    @property
    def config(self) -> ModelLayout:
        """Its sizes."""
        ...

    @property
    def decoder(self) -> MappedGenerator:
        """The generator."""
        ...

    @property
    def latent_avg(self) -> Tensor:
        """[L,W]."""
        ...

    def generate(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [N,L,W] -> picture [N,3,H,W], reconstruction [N,3,h,w]."""
        ...
