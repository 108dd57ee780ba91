"""StyleGAN3 (Karras et al. 2021, arXiv:2106.12423), configurations T and R, as published.

docs/spec-methods.md, 4.3. The input is a map of Fourier features, sines of places that a transform
has moved; so a transform of the input moves and turns the whole picture. Every layer is a modulated
convolution whose leaky ReLU is taken at a higher sampling rate, between two low-pass filters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .generator import MAPPING_LR_MUL
from .layers import (
    ACTIVATION_GAIN,
    ACTIVATION_SLOPE,
    DEMODULATION_EPS,
    EqualLinear,
    PixelNorm,
)
from .stylegan3_config import StyleGan3Config, SynthesisLayerSpec, down_filter, up_filter


class MappingNetwork(nn.Module):
    """Random vectors to latents: z [N,style_width] -> w [N,style_width]."""

    def __init__(self, config: StyleGan3Config) -> None:
        super().__init__()
        width = config.style_width
        self.normalise = PixelNorm()
        self.depth = config.mapping_depth
        for number in range(config.mapping_depth):
            layer = EqualLinear(width, width, lr_mul=MAPPING_LR_MUL, activation=True)
            self.add_module(f"fc{number}", layer)
        self.w_avg: Tensor
        self.register_buffer("w_avg", torch.zeros(width))

    def forward(self, z: Tensor) -> Tensor:
        x: Tensor = self.normalise(z)
        for number in range(self.depth):
            x = self.get_submodule(f"fc{number}")(x)
        return x


class FourierFeatures(nn.Module):
    """Sines of moved places, mixed across channels."""

    def __init__(self, config: StyleGan3Config) -> None:
        super().__init__()
        self.rate, channels = config.rates[0], config.channels[0]
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.affine = EqualLinear(config.style_width, 4)
        self.transform: Tensor
        self.freqs: Tensor
        self.phases: Tensor
        self.register_buffer("transform", torch.eye(3))
        self.register_buffer("freqs", torch.randn(channels, 2))
        self.register_buffer("phases", torch.rand(channels) - 0.5)

    def forward(self, w: Tensor, transform: Tensor | None = None) -> Tensor:
        """W [N,style_width] -> features [N,C,h,h].

        Parameters
        ----------
        w:
            Row 0 of the latents, of which the learnt motion is an affine function.
        transform:
            [3,3] or [N,3,3], from places of the picture that is made to places of the picture
            without a motion, both in units of the side from the centre; None for the identity.
        """
        motion = learnt_motion(self.affine(w))  # [N,3,3]
        if transform is not None:
            motion = motion @ transform
        phases = self.phases + (self.freqs @ motion[:, :2, 2:]).squeeze(2)  # [N,C]
        freqs = self.freqs @ motion[:, :2, :2]  # [N,C,2]
        x = torch.sin(2 * math.pi * (freqs @ self.places() + phases[:, :, None]))
        x = self.weight / math.sqrt(len(self.weight)) @ (x * self.amplitudes(freqs)[:, :, None])
        return x.reshape(len(w), -1, self.rate.side, self.rate.side)

    def places(self) -> Tensor:
        """Centres of pixels, (x, y) in units of the picture's side: [2,h*h]."""
        side = self.rate.side
        line = (torch.arange(side) + 0.5 - side / 2) / self.rate.sampling
        return torch.stack([line.repeat(side), line.repeat_interleave(side)])

    def amplitudes(self, freqs: Tensor) -> Tensor:
        """Of frequencies [N,C,2]: 1 within the band, falling to 0 at half the rate; [N,C]."""
        cutoff, highest = self.rate.cutoff, self.rate.sampling / 2
        return (1 - (freqs.norm(dim=2) - cutoff) / (highest - cutoff)).clamp(0, 1)


def learnt_motion(motion: Tensor) -> Tensor:
    """Cosine, sine and translation [N,4], not normalised -> inverse of the motion, [N,3,3]."""
    cosine, sine, x, y = (motion / motion[:, :2].norm(dim=1, keepdim=True)).unbind(1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rotation = torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one], dim=1)
    translation = torch.stack([one, zero, -x, zero, one, -y, zero, zero, one], dim=1)
    return rotation.reshape(-1, 3, 3) @ translation.reshape(-1, 3, 3)


class SynthesisLayer(nn.Module):
    """Modulated convolution, bias, and a leaky ReLU at a higher sampling rate."""

    def __init__(self, spec: SynthesisLayerSpec, config: StyleGan3Config) -> None:
        super().__init__()
        self.spec, self.clamp = spec, config.clamp
        self.affine = EqualLinear(config.style_width, spec.in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(spec.weight_shape))
        self.bias = nn.Parameter(torch.zeros(spec.out_channels))
        self.magnitude_ema: Tensor
        self.register_buffer("magnitude_ema", torch.ones(()))
        self.up_filter: Tensor | None
        self.down_filter: Tensor | None
        self.register_buffer("up_filter", None if spec.is_to_rgb else up_filter(spec))
        self.register_buffer("down_filter", None if spec.is_to_rgb else down_filter(spec))

    def style(self, w: Tensor) -> Tensor:
        """W [N,style_width] -> style [N,I]."""
        style: Tensor = self.affine(w)
        return style / math.sqrt(self.spec.in_channels) if self.spec.is_to_rgb else style

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """X [N,I,h,h], style [N,I] -> [N,O,h',h']."""
        x = self.convolve(x, style) + self.bias[:, None, None]
        if self.spec.is_to_rgb:
            return self._clamped(x)
        assert self.up_filter is not None and self.down_filter is not None
        x = up_sample(x, self.up_filter, self.spec.up, self.spec.padding)
        x = F.leaky_relu(x, ACTIVATION_SLOPE) * ACTIVATION_GAIN
        return down_sample(self._clamped(x), self.down_filter, self.spec.down)

    def convolve(self, x: Tensor, style: Tensor) -> Tensor:
        """The modulated convolution, kernel by kernel as published: [N,O,h+k-1,h+k-1].

        Styles are normalised for each picture alone: a factor that demodulation takes out again,
        so that the company of others makes no difference.
        """
        weight: Tensor = self.weight
        demodulates = not self.spec.is_to_rgb
        if demodulates:
            weight = weight * weight.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()
            style = style * style.square().mean(dim=1, keepdim=True).rsqrt()
        kernels = weight * style[:, None, :, None, None]  # [N,O,I,k,k]
        if demodulates:
            power = kernels.square().sum(dim=(2, 3, 4), keepdim=True)
            kernels = kernels * (power + DEMODULATION_EPS).rsqrt()
        pictures = x.flatten(0, 1)[None]  # one group a picture
        kernels = (kernels * self.magnitude_ema.rsqrt()).flatten(0, 1)
        y = F.conv2d(pictures, kernels, padding=self.spec.kernel_size - 1, groups=len(x))
        return y.reshape(len(x), -1, *y.shape[2:])

    def _clamped(self, x: Tensor) -> Tensor:
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class SynthesisNetwork(nn.Module):
    """Latents to pictures."""

    def __init__(self, config: StyleGan3Config) -> None:
        super().__init__()
        self.config = config
        self.input = FourierFeatures(config)
        for spec in config.layers:
            self.add_module(spec.name, SynthesisLayer(spec, config))

    def forward(self, latents: Tensor, transform: Tensor | None = None) -> Tensor:
        """Latents [N,L,style_width] -> picture [N,3,S,S], about [-1,1].

        Parameters
        ----------
        transform:
            See `FourierFeatures`.
        """
        return self.synthesise(latents[:, 0], self.styles(latents), transform)

    def styles(self, latents: Tensor) -> list[Tensor]:
        """Styles [N,I] of all layers."""
        return [layer.style(latents[:, layer.spec.row]) for layer in self.layers()]

    def synthesise(
        self, w: Tensor, styles: Sequence[Tensor], transform: Tensor | None = None
    ) -> Tensor:
        """The same of row 0 of the latents, [N,style_width], and the styles [N,I] of all layers."""
        x = self.input(w, transform)
        for layer, style in zip(self.layers(), styles, strict=True):
            x = layer(x, style)
        return x * self.config.output_scale

    def layers(self) -> list[SynthesisLayer]:
        """All layers, ToRGB last."""
        found = [self.get_submodule(spec.name) for spec in self.config.layers]
        return [layer for layer in found if isinstance(layer, SynthesisLayer)]


class StyleGan3(nn.Module):
    """Mapping and synthesis network; the state dict has exactly the published keys."""

    def __init__(self, config: StyleGan3Config) -> None:
        super().__init__()
        self.config = config
        self.mapping = MappingNetwork(config)
        self.synthesis = SynthesisNetwork(config)

    def map(self, z: Tensor) -> Tensor:
        """Mapping network: z [N,style_width] -> w [N,style_width]."""
        w: Tensor = self.mapping(z)
        return w


def up_sample(x: Tensor, taps: Tensor, factor: int, padding: tuple[int, int]) -> Tensor:
    """Put zeros between pixels, pad, filter; x [N,C,h,h], filter [taps] with sum 1."""
    count, channels, height, width = x.shape
    x = x[:, :, :, None, :, None]
    x = F.pad(x, [0, factor - 1, 0, 0, 0, factor - 1])
    x = x.reshape(count, channels, height * factor, width * factor)
    return _filtered(F.pad(x, [*padding, *padding]), taps * factor)


def down_sample(x: Tensor, taps: Tensor, factor: int) -> Tensor:
    """Filter and keep one pixel of every `factor`; filter [taps] or [taps,taps] with sum 1."""
    return _filtered(x, taps)[:, :, ::factor, ::factor]


def _filtered(x: Tensor, taps: Tensor) -> Tensor:
    """Convolution of every channel where the filter lies inside; filter [k] or [k,k]."""
    kernels = [taps[None, :], taps[:, None]] if taps.ndim == 1 else [taps]
    channels = x.shape[1]
    for kernel in kernels:
        turned = kernel.flip(0, 1).expand(channels, 1, *kernel.shape)
        x = F.conv2d(x, turned, groups=channels)
    return x


def stylegan3_from_state(state: Mapping[str, Tensor], config: StyleGan3Config) -> StyleGan3:
    """Networks that hold the tensors of a state dict; frozen, in eval mode."""
    with torch.device("meta"):
        model = StyleGan3(config)
    model.load_state_dict(dict(state), assign=True)
    return model.eval().requires_grad_(False)
