"""HyperStyle's hypernetwork: image and reconstruction -> weight offsets.

Paper 3.2; docs/spec.md, section 5.2.

Every refinement block is split where the design's offset codes need it: `code` gives the short
vector the offsets are an affine function of, `expand` is that affine function.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import GeneratorConfig, HypernetworkConfig, LayerSpec, TrunkConfig
from .layers import EqualLinear

REFINEMENT_SLOPE = 0.01


class BasicBlock(nn.Module):
    """ResNet basic block."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


def resnet_body(trunk: TrunkConfig) -> nn.Sequential:
    """The blocks; the first of every group but the first halves the resolution."""
    blocks, width_before = [], trunk.stem_width
    for group, (width, count) in enumerate(trunk.groups):
        for block in range(count):
            blocks.append(BasicBlock(width_before, width, 2 if group and block == 0 else 1))
            width_before = width
    return nn.Sequential(*blocks)


def refinement_convs(layer: LayerSpec, config: HypernetworkConfig, inner: int) -> nn.Sequential:
    """3x3 convolutions from the trunk's features to a code, each with a leaky ReLU."""
    strides = refinement_strides(layer, config)
    widths = [config.trunk.out_width, *[inner] * (len(strides) - 1), config.code_width]
    convs: list[nn.Module] = []
    for n, stride in enumerate(strides):
        convs.append(nn.Conv2d(widths[n], widths[n + 1], 3, stride, 1))
        convs.append(nn.LeakyReLU(REFINEMENT_SLOPE))
    return nn.Sequential(*convs)


def refinement_strides(layer: LayerSpec, config: HypernetworkConfig) -> tuple[int, ...]:
    """Strides of a refinement block's convolutions (docs/spec.md, section 5.2)."""
    if layer.index in config.shared_layers:
        return (1, 2, 2, 2, 2)
    return (2, 2, 2, 2) if layer.is_to_rgb else (2, 2, 2)


class SharedHypernetwork(nn.Module):
    """Two linear maps from a code to the offsets of one [C,C,3,3] layer; one instance for all."""

    def __init__(self, channels: int, code_width: int) -> None:
        super().__init__()
        self.channels = channels
        self.w1 = nn.Parameter(torch.randn(code_width, channels * 9) / code_width**0.5)
        self.b1 = nn.Parameter(torch.zeros(channels * 9))
        self.w2 = nn.Parameter(torch.randn(code_width, channels * code_width) / code_width**0.5)
        self.b2 = nn.Parameter(torch.zeros(channels * code_width))

    def expand(self, code: Tensor, count: Tensor) -> Tensor:
        """Sum of `count` offsets from the sum of their codes: [B,K], [B,1] -> [B,C,C,3,3].

        Row o of the hidden matrix is an *output* channel, whatever the original calls it.
        """
        hidden = (code @ self.w2 + count * self.b2).view(
            code.shape[0], self.channels, -1
        )  # [B,O,K]
        kernel = hidden @ self.w1 + count[:, None] * self.b1  # [B,O,I*9]
        return kernel.view(code.shape[0], self.channels, -1, 3, 3)


class SharedRefinementBlock(nn.Module):
    """Refinement block of a layer served by the shared hypernetwork ("HyperRefinementBlock")."""

    def __init__(
        self, config: HypernetworkConfig, layer: LayerSpec, hypernet: SharedHypernetwork
    ) -> None:
        super().__init__()
        self.convs = refinement_convs(layer, config, config.shared_inner)
        self.linear = EqualLinear(config.code_width, config.code_width)
        self.hypernet = hypernet

    def code(self, features: Tensor) -> Tensor:
        """[B,C,h,w] -> [B,K]; the convolutions must have reduced the features to one pixel."""
        x = self.convs(features)
        assert x.shape[2:] == (1, 1), f"shared refinement block ends at {tuple(x.shape[2:])}"
        return self.linear(x.flatten(1))

    def expand(self, code: Tensor, count: Tensor) -> Tensor:
        return self.hypernet.expand(code, count)


class RefinementBlock(nn.Module):
    """Refinement block of any other layer: one offset per (out, in) pair, same for all taps."""

    def __init__(self, config: HypernetworkConfig, layer: LayerSpec) -> None:
        super().__init__()
        self.layer = layer
        self.convs = refinement_convs(layer, config, config.ordinary_inner)
        # The original keeps a pooling layer at output.0, except in toRGB blocks.
        pool: list[nn.Module] = [] if layer.is_to_rgb else [nn.AdaptiveAvgPool2d(1)]
        head = nn.Conv2d(config.code_width, layer.out_channels * layer.in_channels, 1)
        self.output = nn.Sequential(*pool, head)

    def code(self, features: Tensor) -> Tensor:
        """[B,C,h,w] -> [B,K]."""
        return self.convs(features).mean(dim=(2, 3))

    def expand(self, code: Tensor, count: Tensor) -> Tensor:
        """Sum of `count` offsets from the sum of their codes: [B,K], [B,1] -> [B,O,I,k,k]."""
        out_channels, in_channels, k, _ = self.layer.weight_shape
        head: nn.Conv2d = self.output[-1]  # type: ignore[assignment]
        assert head.bias is not None
        offsets = code @ head.weight.flatten(1).T + count * head.bias
        offsets = offsets.view(-1, out_channels, in_channels, 1, 1)
        return offsets.expand(-1, -1, -1, k, k)


class Hypernetwork(nn.Module):
    """ResNet trunk and one refinement block per tuned layer; official state-dict keys.

    The shared hypernetwork's parameters appear under its own name and under every shared block
    (``refinement_blocks.N.hypernet.*``), as in the official file.
    """

    def __init__(self, config: HypernetworkConfig, generator: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        trunk = config.trunk
        self.conv1 = nn.Conv2d(6, trunk.stem_width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(trunk.stem_width)
        self.relu = nn.PReLU(trunk.stem_width)
        self.body = resnet_body(trunk)
        if config.shared_layers:
            channels = generator.layers[config.shared_layers[0]].out_channels
            self.shared_weight_hypernet = SharedHypernetwork(channels, config.code_width)
        self.refinement_blocks = nn.ModuleDict()
        for index in config.tuned_layers:
            self.refinement_blocks[str(index)] = (
                SharedRefinementBlock(config, generator.layers[index], self.shared_weight_hypernet)
                if index in config.shared_layers
                else RefinementBlock(config, generator.layers[index])
            )

    def codes(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        """Offset codes of one iteration, image and reconstruction [B,3,h,w] -> [B,M,K]."""
        x = torch.cat([image, reconstruction], dim=1)
        features = self.body(self.relu(self.bn1(self.conv1(x))))  # [B,C,h/16,w/16]
        return torch.stack([block.code(features) for block in self._blocks()], dim=1)

    def expand(self, codes: Tensor) -> dict[int, Tensor]:
        """Accumulated codes [B,M,K+1] -> accumulated offsets per layer [B,O,I,k,k].

        The last column counts the iterations that were summed (docs/architecture.md, section 1).
        """
        return {
            index: block.expand(codes[:, row, :-1], codes[:, row, -1:])
            for row, (index, block) in enumerate(
                zip(self.config.tuned_layers, self._blocks(), strict=True)
            )
        }

    def forward(self, image: Tensor, reconstruction: Tensor) -> dict[int, Tensor]:
        """The published form: the offsets of one iteration."""
        return self.expand(with_count(self.codes(image, reconstruction)))

    def _blocks(self) -> list[SharedRefinementBlock | RefinementBlock]:
        return list(self.refinement_blocks.values())  # type: ignore[arg-type]


def with_count(codes: Tensor) -> Tensor:
    """Append the column that counts iterations: [B,M,K] -> [B,M,K+1]."""
    return torch.cat([codes, torch.ones_like(codes[:, :, :1])], dim=2)
