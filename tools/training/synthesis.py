"""A fast form of the reference generator, for training.

The parameters live in the reference module, whose published form is the twin this is tested
against. Styles go on the activations and demodulation on the outputs, so that a batch shares one
convolution; convolutions run in the dtype asked for, everything delicate in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from hyperstyle_export.networks.generator import Generator, StyledConv, ToRGB
from hyperstyle_export.networks.layers import (
    ACTIVATION_GAIN,
    ACTIVATION_SLOPE,
    DEMODULATION_EPS,
    fir_kernel,
    limited,
)
from torch import Tensor, nn


class FastSynthesis(nn.Module):
    """Latents to pictures through a reference generator's parameters.

    Parameters
    ----------
    generator:
        Owner of the parameters.
    dtype:
        Of the convolutions.
    """

    def __init__(self, generator: Generator, dtype: torch.dtype) -> None:
        super().__init__()
        self.generator = generator
        self.dtype = dtype
        layers = [generator.conv1, *generator.convs]
        # Asked once: a branch on a tensor's value would stop the compiler at every layer.
        self.noisy = any(float(layer.noise.weight.detach()) != 0 for layer in layers)
        self.fir: Tensor
        self.register_buffer("fir", fir_kernel(), persistent=False)

    def forward(
        self,
        latents: Tensor,
        offsets: Mapping[int, Tensor] | None = None,
        resolution: int | None = None,
    ) -> Tensor:
        """Synthesise with stored noise.

        Parameters
        ----------
        latents:
            float32 [B,W], or [B,L,W].
        offsets:
            Offset index -> [B,O,I,k,k], or [B,O,I,1,1] where all taps share one.
        resolution:
            Stop there; default: the generator's.

        Returns
        -------
        Tensor, float32 [B,3,resolution,resolution].
        """
        with torch.autocast(latents.device.type, enabled=False):
            return self._synthesise(latents, offsets or {}, resolution)

    def _synthesise(
        self, latents: Tensor, offsets: Mapping[int, Tensor], resolution: int | None
    ) -> Tensor:
        generator = self.generator
        x = generator.input.input.to(self.dtype).expand(len(latents), -1, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)  # [B,C,4,4]
        rgb: Tensor | None = None
        for spec in generator.config.layers:
            if spec.resolution > (resolution or generator.config.resolution):
                break
            layer: Any = generator.get_submodule(spec.name)
            latent = latents if latents.ndim == 2 else latents[:, spec.latent_row]
            style = layer.conv.style(latent)  # [B,I]
            if spec.is_to_rgb:
                rgb = self._to_rgb(layer, x, style, offsets.get(spec.index), rgb)
            else:
                noise = generator.stored_noise(spec) if self.noisy else None
                x = self._styled(layer, x, style, offsets.get(spec.index), noise)
        assert rgb is not None
        return rgb

    def _styled(
        self, layer: StyledConv, x: Tensor, style: Tensor, offsets: Tensor | None, noise: Any
    ) -> Tensor:
        """Modulated 3x3 convolution, noise, bias, leaky ReLU: [B,I,h,w] -> [B,O,h',w']."""
        conv = layer.conv
        kernel = conv.weight[0] * conv.scale  # [O,I,3,3]
        x = x * style[:, :, None, None].to(self.dtype)
        if offsets is None:
            energy = style.square() @ kernel.square().sum((2, 3)).T  # [B,O]
            x = _convolve(x, kernel.to(self.dtype), conv.upsample)
        else:
            kernels = kernel * (1 + offsets)  # [B,O,I,3,3]
            energy = torch.einsum("bi,boi->bo", style.square(), kernels.square().sum((3, 4)))
            x = per_sample_conv(x, kernels.to(self.dtype), conv.upsample)
        if conv.upsample:
            width = x.shape[1]
            fir = self.fir.to(self.dtype).expand(width, 1, 4, 4)
            x = F.conv2d(x, fir, padding=1, groups=width)
        gain = torch.rsqrt(energy + DEMODULATION_EPS) * ACTIVATION_GAIN
        shift = (layer.activate.bias * ACTIVATION_GAIN).view(1, -1, 1, 1)
        if noise is not None:
            shift = shift + ACTIVATION_GAIN * layer.noise.weight * noise
        x = torch.addcmul(shift.to(self.dtype), x, gain[:, :, None, None].to(self.dtype))
        return limited(F.leaky_relu(x, ACTIVATION_SLOPE), layer.limit)

    def _to_rgb(
        self, layer: ToRGB, x: Tensor, style: Tensor, offsets: Tensor | None, skip: Tensor | None
    ) -> Tensor:
        """1x1 modulated convolution added to the up-sampled sum below, float32 [B,3,h,w]."""
        kernel = layer.conv.weight[0] * layer.conv.scale  # [3,I,1,1]
        x = x * style[:, :, None, None].to(self.dtype)
        if offsets is None:
            rgb = F.conv2d(x, kernel.to(self.dtype)).float()
        else:
            kernels = (kernel * (1 + offsets))[..., 0, 0].to(self.dtype)  # [B,3,I]
            rgb = torch.einsum("boi,bihw->bohw", kernels, x).float()
        rgb = limited(rgb + layer.bias, layer.limit)
        if skip is None:
            return rgb
        fir = self.fir.expand(3, 1, 4, 4)
        return rgb + F.conv_transpose2d(skip, fir, stride=2, padding=1, groups=3)


def per_sample_conv(x: Tensor, kernels: Tensor, upsample: bool) -> Tensor:
    """X [B,I,h,w], kernels [B,O,I,3,3] -> [B,O,h,w], or [B,O,2h+1,2w+1] if up-sampling."""
    convolved: Tensor = PerSampleConv.apply(x, kernels, upsample)  # type: ignore[no-untyped-call]
    return convolved


def _convolve(x: Tensor, kernel: Tensor, upsample: bool) -> Tensor:
    if upsample:
        return F.conv_transpose2d(x, kernel.transpose(0, 1), stride=2)  # 2h + 1
    return F.conv2d(x, kernel, padding=1)


class PerSampleConv(torch.autograd.Function):
    """A convolution whose kernel differs from sample to sample, without a grouped convolution.

    Grouped convolutions are slow on CPUs, and autograd pads the gradient of every slice of a batch
    to the whole batch; this writes each sample's gradient once.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Tensor, upsample: bool) -> Tensor:
        """As `per_sample_conv`."""
        ctx.upsample = upsample
        ctx.save_for_backward(x, kernels)
        return torch.cat([_convolve(x[i : i + 1], k, upsample) for i, k in enumerate(kernels)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        """Gradients of `forward`'s inputs."""
        x, kernels = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        stride, padding = ([2, 2], [0, 0]) if ctx.upsample else ([1, 1], [1, 1])
        of_x, of_kernels = [], []
        for i, kernel in enumerate(kernels):
            one, two, _ = torch.ops.aten.convolution_backward(
                gradient[i : i + 1],
                x[i : i + 1],
                kernel.transpose(0, 1) if ctx.upsample else kernel,
                None,
                stride,
                padding,
                [1, 1],
                ctx.upsample,
                [0, 0],
                1,
                [ctx.needs_input_grad[0], True, False],
            )
            of_x.append(one)
            of_kernels.append(two.transpose(0, 1) if ctx.upsample else two)
        whole = torch.cat(of_x) if ctx.needs_input_grad[0] else None
        return whole, torch.stack(of_kernels), None
