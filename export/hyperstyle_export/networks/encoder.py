"""The W-encoder: IR-SE trunk, global mean, one vector in W (docs/spec.md, section 5.1)."""

from __future__ import annotations

from torch import Tensor, nn

from .config import EncoderConfig, TrunkConfig
from .layers import EqualLinear


class SqueezeExcite(nn.Module):
    """Rescales each channel by a gate computed from the global means."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc2(self.relu(self.fc1(self.avg_pool(x))))  # [B,C,1,1]
        return x * self.sigmoid(gate)


class IRSEUnit(nn.Module):
    """Improved residual unit with squeeze-and-excitation; nothing after the sum."""

    def __init__(self, in_channels: int, width: int, stride: int, reduction: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module
        if in_channels == width:
            self.shortcut_layer = nn.MaxPool2d(1, stride)  # plain sub-sampling
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, width, 3, 1, 1, bias=False),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            SqueezeExcite(width, reduction),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut_layer(x) + self.res_layer(x)


def ir_se_body(trunk: TrunkConfig, reduction: int) -> nn.Sequential:
    """The units; the first of every group halves the resolution."""
    units, width_before = [], trunk.stem_width
    for width, count in trunk.groups:
        for unit in range(count):
            units.append(IRSEUnit(width_before, width, 2 if unit == 0 else 1, reduction))
            width_before = width
    return nn.Sequential(*units)


class WEncoder(nn.Module):
    """Image -> one w vector relative to the average latent."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        stem = config.trunk.stem_width
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.PReLU(stem)
        )
        self.body = ir_se_body(config.trunk, config.se_reduction)
        self.linear = EqualLinear(config.trunk.out_width, config.style_width)

    def forward(self, image: Tensor) -> Tensor:
        """Image [B,3,h,w] in [-1,1] -> w - average [B,style_width]."""
        features = self.body(self.input_layer(image))  # [B,C,h/16,w/16]
        return self.linear(features.mean(dim=(2, 3)))
