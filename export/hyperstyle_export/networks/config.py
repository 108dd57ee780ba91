"""Frozen descriptions of the three networks.

The official 256, 512 and 1024 models, the car models and the small embedded default are the same
classes under different configs. A config is never written by hand for a trained model: it is read
off the shapes in the checkpoint (see :mod:`hyperstyle_export.readers.official`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

# The 3x3 layers, i.e. all but toRGB: HyperStyle's default `layers_to_tune`, docs/spec.md, section 1
DEFAULT_TUNED_LAYERS = (0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 23, 24)

# Layers whose offsets come from the one shared hypernetwork: the 512x512x3x3 ones; docs/spec.md,
# section 5.2.
OFFICIAL_SHARED_LAYERS = (0, 2, 3, 5, 6, 8, 9, 11, 12)


@dataclass(frozen=True)
class LayerSpec:
    """One modulated convolution of the generator.

    Attributes
    ----------
    index:
        The official offset index, counting toRGB layers (docs/spec.md, section 4).
    name:
        Key prefix in the checkpoint: ``conv1``, ``to_rgb1``, ``convs.3``, ``to_rgbs.0``.
    latent_row:
        Row of the w+ latents that modulates the layer.
    resolution:
        Side of the square feature map the layer produces.
    noise:
        Index of its stored noise buffer; None for toRGB.
    """

    index: int
    name: str
    in_channels: int
    out_channels: int
    kernel_size: int
    upsample: bool
    latent_row: int
    resolution: int
    noise: int | None

    @property
    def is_to_rgb(self) -> bool:
        return self.noise is None

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(O, I, k, k), also the shape of the layer's weight offsets."""
        return (self.out_channels, self.in_channels, self.kernel_size, self.kernel_size)


@dataclass(frozen=True)
class GeneratorConfig:
    """StyleGAN2 in rosinality's layout (docs/spec.md, section 4).

    Attributes
    ----------
    channels:
        ``channels[r]`` is the width at resolution ``4 * 2**r``; its length fixes the resolution.
    activation_limit:
        Largest magnitude of an activation and of what toRGB adds: ``conv_clamp`` of NVIDIA's
        generators (docs/spec-methods.md, section 4.2). rosinality's have none.
    """

    channels: tuple[int, ...]
    style_width: int = 512
    mapping_depth: int = 8
    activation_limit: float | None = None

    @property
    def resolution(self) -> int:
        return 4 * 2 ** (len(self.channels) - 1)

    @property
    def num_latents(self) -> int:
        """Rows of a w+ latent: 2 log2(S) - 2."""
        return 2 * len(self.channels)

    @cached_property
    def layers(self) -> tuple[LayerSpec, ...]:
        """All modulated convolutions, in the order of their offset index."""
        first = self.channels[0]
        specs = [
            LayerSpec(0, "conv1", first, first, 3, False, 0, 4, 0),
            LayerSpec(1, "to_rgb1", first, 3, 1, False, 1, 4, None),
        ]
        for block, width in enumerate(self.channels[1:]):
            before, size, at = self.channels[block], 8 * 2**block, 3 * block + 2
            row = 2 * block + 1
            up, conv = f"convs.{2 * block}", f"convs.{2 * block + 1}"
            specs += [
                LayerSpec(at, up, before, width, 3, True, row, size, row),
                LayerSpec(at + 1, conv, width, width, 3, False, row + 1, size, row + 1),
                LayerSpec(at + 2, f"to_rgbs.{block}", width, 3, 1, False, row + 2, size, None),
            ]
        return tuple(specs)


@dataclass(frozen=True)
class TrunkConfig:
    """A residual trunk: ``groups`` of (width, number of blocks), widths strictly distinct."""

    stem_width: int = 64
    groups: tuple[tuple[int, int], ...] = ((64, 3), (128, 4), (256, 14), (512, 3))

    @property
    def out_width(self) -> int:
        return self.groups[-1][0]


IR_SE50_TRUNK = TrunkConfig()
RESNET34_TRUNK = TrunkConfig(groups=((64, 3), (128, 4), (256, 6), (512, 3)))


@dataclass(frozen=True)
class EncoderConfig:
    """W-encoder: IR-SE trunk, global mean, an equalised linear layer; docs/spec.md, section 5.1."""

    trunk: TrunkConfig = IR_SE50_TRUNK
    se_reduction: int = 16
    style_width: int = 512


COARSE_ROWS, MIDDLE_ROWS = 3, 7  # rows of the latents below which a pyramid's level is read

Body = Literal["ir_se", "resnet"]
Head = Literal["pyramid", "last", "mean"]


@dataclass(frozen=True)
class StyleEncoderConfig:
    """An encoder of pSp, e4e or ReStyle (docs/spec.md, sections 5.3 to 5.5).

    Attributes
    ----------
    body:
        Kind of the trunk: IR-SE units, or ResNet basic blocks after a strided stem.
    head:
        What the rows of the latents are read from: ``pyramid``, three feature maps; ``last``, the
        last one; ``mean``, its mean, which gives one vector for all rows.
    in_channels:
        Of the input: 3 or another number for one picture, 6 for a picture and its reconstruction.
    num_latents, style_width:
        L and W.
    block_depths:
        Convolutions of each row's style block, each of which halves the feature map; empty with the
        head ``mean``.
    is_progressive:
        Whether the rows after the first are offsets from it, as in e4e.
    """

    body: Body
    head: Head
    trunk: TrunkConfig
    in_channels: int
    num_latents: int
    style_width: int = 512
    block_depths: tuple[int, ...] = ()
    is_progressive: bool = False
    se_reduction: int = 16

    @property
    def row_levels(self) -> tuple[int, ...]:
        """Which feature map each row reads, 0 the coarsest."""
        if self.head != "pyramid":
            return (0,) * self.num_latents
        return tuple(
            0 if row < COARSE_ROWS else 1 if row < MIDDLE_ROWS else 2
            for row in range(self.num_latents)
        )

    def level_size(self, level: int, input_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of a level's feature map for pictures of a size."""
        height, width = input_size
        for _ in range(len(self.trunk.groups) - level):
            height, width = -(-height // 2), -(-width // 2)
        return height, width


@dataclass(frozen=True)
class HypernetworkConfig:
    """HyperStyle's hypernetwork (docs/spec.md, section 5.2).

    Attributes
    ----------
    tuned_layers:
        Offset indices that get offsets, ascending; none beyond the generator.
    shared_layers:
        Those of them whose offsets come from the shared hypernetwork.
    code_width:
        K: length of the vector per layer that the offsets are an affine function of.
    shared_inner, ordinary_inner:
        Inner widths of the two kinds of refinement block.
    """

    tuned_layers: tuple[int, ...]
    shared_layers: tuple[int, ...]
    trunk: TrunkConfig = RESNET34_TRUNK
    code_width: int = 512
    shared_inner: int = 128
    ordinary_inner: int = 256


@dataclass(frozen=True)
class HyperStyleConfig:
    """Everything that fixes the shapes of one inversion model.

    Attributes
    ----------
    input_size:
        (height, width) of the pictures the encoder and the hypernetwork read.
    crop_rows:
        (top, bottom) rows of the generated image that are kept, or None; docs/spec.md, section 2.
    """

    generator: GeneratorConfig
    encoder: EncoderConfig
    hypernetwork: HypernetworkConfig
    input_size: tuple[int, int] = (256, 256)
    crop_rows: tuple[int, int] | None = None

    @property
    def tuned(self) -> tuple[LayerSpec, ...]:
        """The tuned layers' specs, one per row of the offset codes."""
        return tuple(self.generator.layers[i] for i in self.hypernetwork.tuned_layers)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of a generated image after the crop."""
        side = self.generator.resolution
        top, bottom = self.crop_rows or (0, side)
        return bottom - top, side
