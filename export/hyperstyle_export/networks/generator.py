"""The StyleGAN2 generator with run-time weight offsets, as published; docs/spec.md, section 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .config import GeneratorConfig, LayerSpec
from .layers import Blur, EqualLinear, ModulatedConv2d, PixelNorm, fused_leaky_relu, limited

MAPPING_LR_MUL = 0.01

Offsets = Mapping[int, Tensor]
"""Offset index -> multiplicative weight offsets, [B or 1, O, I, k, k]."""


class NoiseStrength(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class ActivationBias(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class StyledConv(nn.Module):
    """Modulated convolution, stored noise, bias and leaky ReLU."""

    def __init__(self, spec: LayerSpec, style_width: int, limit: float | None = None) -> None:
        super().__init__()
        self.limit = limit
        self.conv = ModulatedConv2d(
            spec.in_channels, spec.out_channels, 3, style_width, upsample=spec.upsample
        )
        self.noise = NoiseStrength()
        self.activate = ActivationBias(spec.out_channels)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor, offsets: Tensor | None) -> Tensor:
        """X [B,I,H,W], style [B,I], noise [1 or B,1,H',W'] -> [B,O,H',W']."""
        x = self.conv(x, style, offsets)
        x = fused_leaky_relu(x + self.noise.weight * noise, self.activate.bias)
        return limited(x, self.limit)


class ToRGB(nn.Module):
    """1x1 modulated convolution to RGB, added to the up-sampled image of the resolution below."""

    def __init__(self, spec: LayerSpec, style_width: int, limit: float | None = None) -> None:
        super().__init__()
        self.limit = limit
        self.conv = ModulatedConv2d(spec.in_channels, 3, 1, style_width, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        if spec.resolution > 4:
            self.upsample = Blur(pad=(2, 1), up=2)

    def forward(
        self, x: Tensor, style: Tensor, offsets: Tensor | None, skip: Tensor | None
    ) -> Tensor:
        """X [B,I,H,W], skip [B,3,H/2,W/2] or None -> [B,3,H,W]."""
        rgb = limited(self.conv(x, style, offsets) + self.bias, self.limit)
        return rgb if skip is None else rgb + self.upsample(skip)


class LearnedConstant(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))


class StoredNoise(nn.Module):
    """The fixed noise images ``noise_0 ...``: one of 4x4, then two of each resolution."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        for layer in config.layers:
            if layer.noise is not None:
                noise = torch.randn(1, 1, layer.resolution, layer.resolution)
                self.register_buffer(f"noise_{layer.noise}", noise)


class Generator(nn.Module):
    """Synthesis and mapping network; its state dict has exactly the official keys."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        width, limit = config.style_width, config.activation_limit
        self.style = nn.Sequential(
            PixelNorm(),
            *(
                EqualLinear(width, width, lr_mul=MAPPING_LR_MUL, activation=True)
                for _ in range(config.mapping_depth)
            ),
        )
        self.input = LearnedConstant(config.channels[0])
        self.conv1 = StyledConv(config.layers[0], width, limit)
        self.to_rgb1 = ToRGB(config.layers[1], width, limit)
        rest = config.layers[2:]
        self.convs = nn.ModuleList(StyledConv(s, width, limit) for s in rest if not s.is_to_rgb)
        self.to_rgbs = nn.ModuleList(ToRGB(s, width, limit) for s in rest if s.is_to_rgb)
        self.noises = StoredNoise(config)

    def map(self, z: Tensor) -> Tensor:
        """Mapping network: z [B,style_width] -> w [B,style_width]."""
        return self.style(z)

    def stored_noise(self, spec: LayerSpec) -> Tensor:
        """The layer's noise buffer, [1,1,H,W]."""
        return getattr(self.noises, f"noise_{spec.noise}")

    def styles(self, latents: Tensor) -> list[Tensor]:
        """Latents [B,L,W] -> style vectors [B,I] of all layers, in the order of the index."""
        layers = self.config.layers
        return [
            self.get_submodule(s.name).conv.style(latents[:, s.latent_row])  # type: ignore[operator, union-attr]
            for s in layers
        ]

    def forward(self, latents: Tensor, offsets: Offsets | None = None) -> Tensor:
        """Synthesise with stored noise, no truncation: latents [B,L,W] -> image [B,3,S,S]."""
        return self.synthesise(self.styles(latents), offsets)

    def synthesise(self, styles: Sequence[Tensor], offsets: Offsets | None = None) -> Tensor:
        """From style vectors [B,I], one per layer (StyleSpace edits enter here)."""
        offsets = offsets or {}
        x = self.input.input.expand(styles[0].shape[0], -1, -1, -1)  # [B,C,4,4]
        rgb = None
        for spec, style in zip(self.config.layers, styles, strict=True):
            layer = self.get_submodule(spec.name)
            if spec.is_to_rgb:
                rgb = layer(x, style, offsets.get(spec.index), rgb)
            else:
                x = layer(x, style, self.stored_noise(spec), offsets.get(spec.index))
        assert rgb is not None
        return rgb


def truncate(w: Tensor, average: Tensor, psi: float) -> Tensor:
    """Pull w towards the average: psi 1 keeps it, 0 gives the average (docs/spec.md, section 4)."""
    return average + psi * (w - average)
