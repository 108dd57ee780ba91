"""Building blocks of StyleGAN2, in the published form (docs/spec.md, section 4)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATION_SLOPE = 0.2
ACTIVATION_GAIN = math.sqrt(2)  # keeps the variance of a leaky ReLU's output at about one
DEMODULATION_EPS = 1e-8


def fir_kernel() -> Tensor:
    """Low-pass filter [1, 3, 3, 1] of x2 up-sampling as checkpoints store it: [4, 4], sum 4."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(taps, taps)
    return kernel / kernel.sum() * 4


def limited(x: Tensor, limit: float | None) -> Tensor:
    """Clamp to [-limit,limit]; None leaves x as it is."""
    return x if limit is None else x.clamp(-limit, limit)


def fused_leaky_relu(x: Tensor, bias: Tensor) -> Tensor:
    """lrelu(x + bias) * sqrt(2), bias along axis 1."""
    bias = bias.view(1, -1, *[1] * (x.ndim - 2))
    return F.leaky_relu(x + bias, ACTIVATION_SLOPE) * ACTIVATION_GAIN


def upfirdn2d(x: Tensor, kernel: Tensor, up: int, pad: tuple[int, int]) -> Tensor:
    """Zero-insert by `up`, pad both axes by `pad`, filter. x [B,C,H,W], kernel [kh,kw]."""
    batch, channels, height, width = x.shape
    x = x.reshape(batch * channels, 1, height, 1, width, 1)  # every plane alone
    x = F.pad(x, [0, up - 1, 0, 0, 0, up - 1])  # the value first, then zeros
    x = x.reshape(-1, 1, height * up, width * up)
    x = F.pad(x, [pad[0], pad[1], pad[0], pad[1]])
    x = F.conv2d(x, kernel.flip(0, 1)[None, None])
    return x.reshape(batch, channels, *x.shape[2:])


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate: stored weights have unit variance."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        lr_mul: float = 1.0,
        bias_init: float = 0.0,
        activation: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_mul)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init))
        self.scale = lr_mul / math.sqrt(in_features)
        self.lr_mul = lr_mul
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """X [..., in_features] -> [..., out_features]."""
        if self.activation:
            return fused_leaky_relu(F.linear(x, self.weight * self.scale), self.bias * self.lr_mul)
        return F.linear(x, self.weight * self.scale, self.bias * self.lr_mul)


class PixelNorm(nn.Module):
    """z / rms(z), the entry of the mapping network."""

    def forward(self, z: Tensor) -> Tensor:
        return z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)


class Blur(nn.Module):
    """FIR low-pass over [B,C,H,W]; holds the kernel as the checkpoint does."""

    def __init__(self, pad: tuple[int, int], up: int = 1) -> None:
        super().__init__()
        self.kernel: Tensor
        self.register_buffer("kernel", fir_kernel())
        self.pad, self.up = pad, up

    def forward(self, x: Tensor) -> Tensor:
        return upfirdn2d(x, self.kernel, self.up, self.pad)


class ModulatedConv2d(nn.Module):
    """Modulated convolution with multiplicative weight offsets, one grouped convolution a batch."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        style_width: int,
        demodulate: bool = True,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(1, out_channels, in_channels, kernel_size, kernel_size)
        )
        self.modulation = EqualLinear(style_width, in_channels, bias_init=1.0)
        self.scale = 1 / math.sqrt(in_channels * kernel_size**2)
        self.demodulate = demodulate
        self.upsample = upsample
        if upsample:
            self.blur = Blur(pad=(1, 1))

    def style(self, latent: Tensor) -> Tensor:
        """Style vectors s of a latent row: [B,style_width] -> [B,I]."""
        return self.modulation(latent)

    def forward(self, x: Tensor, style: Tensor, offsets: Tensor | None = None) -> Tensor:
        """X [B,I,H,W], style [B,I], offsets [B or 1,O,I,k,k] or None -> [B,O,H',W']."""
        batch, in_channels, height, width = x.shape
        kernel = self.weight if offsets is None else self.weight * (1 + offsets)  # [B|1,O,I,k,k]
        kernel = self.scale * kernel * style[:, None, :, None, None]  # [B,O,I,k,k]
        if self.demodulate:
            norm = torch.rsqrt(kernel.square().sum(dim=(2, 3, 4), keepdim=True) + DEMODULATION_EPS)
            kernel = kernel * norm  # unit variance of each output channel
        x = x.reshape(1, batch * in_channels, height, width)  # samples become groups
        if self.upsample:
            kernel = kernel.transpose(1, 2).flatten(0, 1)  # [B*I,O,k,k]
            x = F.conv_transpose2d(x, kernel, stride=2, groups=batch)  # 2H + 1
            x = x.reshape(batch, -1, *x.shape[2:])
            return self.blur(x)
        padding = kernel.shape[-1] // 2
        x = F.conv2d(x, kernel.flatten(0, 1), padding=padding, groups=batch)
        return x.reshape(batch, -1, *x.shape[2:])
