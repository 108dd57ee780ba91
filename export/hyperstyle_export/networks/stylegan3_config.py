"""Sizes, rates and filters of StyleGAN3 (docs/spec-methods.md, 4.3).

Everything follows from the resolution, the number of layers and the widths. From the first layer to
the last the cutoff rises in a geometric progression from 2 to half the resolution; where it needs a
higher sampling rate, a layer enlarges its feature map. All but the last layers keep ten pixels more
than the picture has at either side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

RGB = 3
FIRST_CUTOFF = 2.0
FIRST_STOPBAND = 2**2.1
LAST_STOPBAND = 2**0.3  # relative to the last cutoff
CRITICAL_LAYERS = 2  # sampled at twice their cutoff, before ToRGB, which is too
MARGIN = 10
FILTER_TAPS = 6  # per factor of up- or down-sampling
ACTIVATION_RATE = 2  # of the leaky ReLU, relative to the higher rate of input and output
PUBLISHED_LAYERS = 14


@dataclass(frozen=True)
class Rate:
    """What one layer samples: (cutoff, half width of the transition band, samples a unit, side)."""

    cutoff: float
    half_width: float
    sampling: int
    side: int


@dataclass(frozen=True)
class SynthesisLayerSpec:
    """A layer: convolution, then up-sampling, leaky ReLU and down-sampling.

    Attributes
    ----------
    index:
        From 0; its row of the latents is one more.
    before, after:
        Sampling of its input and output.
    in_channels, out_channels, kernel_size:
        Of its convolution.
    is_to_rgb:
        Whether it is the last, without demodulation, filters and activation.
    is_radial:
        Whether its down-sampling filter is two-dimensional.
    """

    index: int
    before: Rate
    after: Rate
    in_channels: int
    out_channels: int
    kernel_size: int
    is_to_rgb: bool
    is_radial: bool

    @property
    def name(self) -> str:
        """As in the file, e.g. ``L4_52_512``."""
        return f"L{self.index}_{self.after.side}_{self.out_channels}"

    @property
    def row(self) -> int:
        """Of the latents; row 0 is the input's."""
        return self.index + 1

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(O, I, k, k)."""
        return self.out_channels, self.in_channels, self.kernel_size, self.kernel_size

    @property
    def activation_rate(self) -> int:
        """Samples a unit at which the leaky ReLU is taken."""
        highest = max(self.before.sampling, self.after.sampling)
        return highest if self.is_to_rgb else ACTIVATION_RATE * highest

    @property
    def up(self) -> int:
        """Factor of up-sampling."""
        return self.activation_rate // self.before.sampling

    @property
    def down(self) -> int:
        """Factor of down-sampling."""
        return self.activation_rate // self.after.sampling

    @property
    def up_taps(self) -> int:
        """Length of the up-sampling filter; 1 for none."""
        return _taps(self.up, self.is_to_rgb)

    @property
    def down_taps(self) -> int:
        """Length of the down-sampling filter; 1 for none."""
        return _taps(self.down, self.is_to_rgb)

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after, at the rate of the activation; negative ones are cropped."""
        wanted = (self.after.side - 1) * self.down + 1
        given = (self.before.side + self.kernel_size - 1) * self.up
        total = wanted - given + self.up_taps + self.down_taps - 2
        before = (total + self.up) // 2
        return before, total - before


@dataclass(frozen=True)
class StyleGan3Config:
    """Sizes of the networks.

    Attributes
    ----------
    resolution:
        Side of the picture.
    channels:
        Output width of every layer but ToRGB; that of the first one is the input's, too.
    kernel_size:
        3 in the configuration T, 1 in R.
    has_radial_filters:
        Whether layers that are not critically sampled have radial filters, as in R.
    style_width:
        Of z and w.
    mapping_depth:
        Linear layers of the mapping network.
    clamp:
        Largest magnitude of a layer's activations; None for no limit.
    output_scale:
        Factor of the picture.
    """

    resolution: int
    channels: tuple[int, ...]
    kernel_size: int = 3
    has_radial_filters: bool = False
    style_width: int = 512
    mapping_depth: int = 2
    clamp: float | None = 256.0
    output_scale: float = 0.25

    @property
    def num_latents(self) -> int:
        """Rows of W+ latents: the input's, the layers' and that of ToRGB."""
        return len(self.channels) + 2

    @cached_property
    def rates(self) -> tuple[Rate, ...]:
        """Sampling of every layer's output, ToRGB's last."""
        number, last = len(self.channels), self.resolution / 2
        rates = []
        for index in range(number + 1):
            step = min(index / (number - CRITICAL_LAYERS), 1.0)
            cutoff = FIRST_CUTOFF * (last / FIRST_CUTOFF) ** step
            stopband = FIRST_STOPBAND * (last * LAST_STOPBAND / FIRST_STOPBAND) ** step
            sampling = 2 ** math.ceil(math.log2(min(2 * stopband, self.resolution)))
            side = self.resolution if index >= number - 1 else sampling + 2 * MARGIN
            rates.append(Rate(cutoff, max(stopband, sampling / 2) - cutoff, sampling, side))
        return tuple(rates)

    @cached_property
    def layers(self) -> tuple[SynthesisLayerSpec, ...]:
        """All layers, ToRGB last."""
        number, widths = len(self.channels), (*self.channels, RGB)
        specs = []
        for index in range(number + 1):
            before, is_to_rgb = max(index - 1, 0), index == number
            specs.append(
                SynthesisLayerSpec(
                    index,
                    self.rates[before],
                    self.rates[index],
                    widths[before],
                    widths[index],
                    1 if is_to_rgb else self.kernel_size,
                    is_to_rgb,
                    self.has_radial_filters and index < number - CRITICAL_LAYERS,
                )
            )
        return tuple(specs)


def channel_widths(
    resolution: int, base: int, largest: int, layers: int = PUBLISHED_LAYERS
) -> tuple[int, ...]:
    """Widths of a training's options `channel_base` and `channel_max`."""
    rates = StyleGan3Config(resolution, (1,) * layers).rates[:-1]
    return tuple(round(min(base / 2 / rate.cutoff, largest)) for rate in rates)


def up_filter(spec: SynthesisLayerSpec) -> Tensor:
    """Low-pass filter [taps] of a layer's up-sampling, with sum 1."""
    return _separable(spec.up_taps, spec.before, spec.activation_rate)


def down_filter(spec: SynthesisLayerSpec) -> Tensor:
    """Low-pass filter of a layer's down-sampling, [taps] or [taps,taps], with sum 1."""
    if not spec.is_radial:
        return _separable(spec.down_taps, spec.after, spec.activation_rate)
    rate, taps = spec.activation_rate, spec.down_taps
    places = _places(taps) / rate
    radius = torch.hypot(places[:, None], places[None]) * math.pi
    response = torch.special.bessel_j1(2 * spec.after.cutoff * radius) / radius
    window = _window(taps, spec.after, rate)
    return _of_sum_one(response * torch.outer(window, window))


def _separable(taps: int, band: Rate, rate: int) -> Tensor:
    if taps == 1:
        return torch.ones(1)
    response = torch.sinc(2 * band.cutoff / rate * _places(taps))
    return _of_sum_one(response * _window(taps, band, rate))


def _window(taps: int, band: Rate, rate: int) -> Tensor:
    """Kaiser's window for the attenuation that a transition band of this width allows."""
    attenuation = 2.285 * (taps - 1) * math.pi * (4 * band.half_width / rate) + 7.95
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation > 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    else:
        beta = 0.0
    return torch.kaiser_window(taps, periodic=False, beta=beta, dtype=torch.float64)


def _places(taps: int) -> Tensor:
    return torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2


def _of_sum_one(response: Tensor) -> Tensor:
    return (response / response.sum()).float()


def _taps(factor: int, is_to_rgb: bool) -> int:
    return FILTER_TAPS * factor if factor > 1 and not is_to_rgb else 1
