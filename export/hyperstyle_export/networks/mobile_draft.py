"""The draft of a generator: its first blocks, and a head fitted to their features."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from .mobilestylegan import START_SIDE, KernelLayer, Kernels, MobileStyleGan, PictureHead


@dataclass(frozen=True, eq=False)
class Draft:
    """A small stand-in for a generator: its first blocks, and a head fitted to their features.

    Its pictures follow the generator's closely enough for most steps of a descent, at a fraction of
    the arithmetic.

    Attributes
    ----------
    head:
        Of the features after `blocks` blocks.
    """

    head: PictureHead
    blocks: int

    @property
    def side(self) -> int:
        """Of its pictures."""
        return START_SIDE * 2 ** (self.blocks + 1)

    @property
    def row(self) -> int:
        """Of the latents that the head's styles are affine maps of: the last convolution's."""
        return 3 * self.blocks

    def kernels(self, generator: MobileStyleGan) -> tuple[KernelLayer, ...]:
        """The convolutions of the generator that it has."""
        return generator.config.kernels[: 2 * self.blocks + 1]

    def picture(
        self, generator: MobileStyleGan, latents: Tensor, kernels: Kernels | None = None
    ) -> Tensor:
        """Latents [N,L,W] -> picture [N,3,side,side]."""
        features = generator.synthesis.features(latents, kernels, self.blocks)
        head: nn.Module = self.head
        picture: Tensor = head(features, latents[:, self.row])
        return picture
