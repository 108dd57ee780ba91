"""LPIPS: the perceptual distance of Zhang et al. 2018, version 0.1 (docs/spec.md, section 7).

The networks' weights are not part of this project: `lpips_files` reads those a user has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..readers.torch_files import CheckpointError

# Of a [-1,1] picture: ImageNet's mean and deviation, rescaled.
MEAN = (-0.030, -0.088, -0.188)
STD = (0.458, 0.448, 0.450)
NORM_EPS = 1e-10
POOL_STRIDE = 2

Convolution = tuple[Tensor, Tensor]  # kernel [O,I,k,k], bias [O]


@dataclass(frozen=True)
class BackboneLayer:
    """A convolution with its ReLU.

    Attributes
    ----------
    stride, padding:
        Of the convolution.
    pool:
        Window of a max-pool of stride 2 before it; 0 for none.
    is_feature:
        Whether its output is compared.
    size:
        Side of its kernels.
    """

    stride: int
    padding: int
    pool: int = 0
    is_feature: bool = True
    size: int = 3


ALEXNET = (
    BackboneLayer(4, 2, size=11),
    BackboneLayer(1, 2, pool=3, size=5),
    BackboneLayer(1, 1, pool=3),
    BackboneLayer(1, 1),
    BackboneLayer(1, 1),
)
# Runs of convolutions between 2x2 max-pools; features are taken at the end of each run.
VGG16 = tuple(
    BackboneLayer(1, 1, pool=2 if run and not at else 0, is_feature=at == count - 1)
    for run, count in enumerate((2, 2, 3, 3, 3))
    for at in range(count)
)


class Lpips(nn.Module):
    """Distance between pictures in the features of AlexNet or VGG16.

    Parameters
    ----------
    convolutions:
        The backbone's, in order: 5 make AlexNet, 13 VGG16.
    heads:
        Five non-negative weights over channels, each [1,C,1,1].

    Raises
    ------
    CheckpointError
        If the numbers or shapes fit neither network.
    """

    def __init__(self, convolutions: Sequence[Convolution], heads: Sequence[Tensor]) -> None:
        super().__init__()
        if len(convolutions) not in (len(ALEXNET), len(VGG16)):
            raise CheckpointError(
                f"the LPIPS backbone has {len(convolutions)} convolutions; give AlexNet's (5) or "
                "VGG16's (13)"
            )
        self.layers = ALEXNET if len(convolutions) == len(ALEXNET) else VGG16
        before = 3
        for number, (layer, (kernel, bias)) in enumerate(
            zip(self.layers, convolutions, strict=True)
        ):
            wanted = before, layer.size, layer.size
            if kernel.shape[1:] != wanted or bias.shape != kernel.shape[:1]:
                raise CheckpointError(
                    f"convolution {number} of the LPIPS backbone has a kernel of shape "
                    f"{tuple(kernel.shape)} and a bias of {tuple(bias.shape)}, where {wanted} "
                    "for each bias are wanted; give AlexNet or VGG16"
                )
            before = kernel.shape[0]
            kernel = kernel.contiguous(memory_format=torch.channels_last)
            self.register_buffer(f"kernel_{number}", kernel, persistent=False)
            self.register_buffer(f"bias_{number}", bias, persistent=False)
        ends = (n for n, layer in enumerate(self.layers) if layer.is_feature)
        widths = [convolutions[end][0].shape[0] for end in ends]
        if [tuple(head.shape) for head in heads] != [(1, width, 1, 1) for width in widths]:
            raise CheckpointError(
                f"the LPIPS heads have shapes {[tuple(h.shape) for h in heads]}, but the "
                f"backbone's features have widths {widths}: give the heads of the same network"
            )
        for number, head in enumerate(heads):
            self.register_buffer(f"head_{number}", head, persistent=False)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances of pictures [B,3,h,w] in [-1,1], [B] float32."""
        return self.distance(self.features(a), self.features(b))

    def features(self, x: Tensor) -> list[Tensor]:
        """Features after five ReLUs of pictures [B,3,h,w] in [-1,1]."""
        x = (x - self.get_buffer("mean")) / self.get_buffer("std")
        features = []
        for number, layer in enumerate(self.layers):
            if layer.pool:
                x = F.max_pool2d(x, layer.pool, POOL_STRIDE)
            kernel, bias = self.convolution(number)
            x = F.relu(F.conv2d(x, kernel, bias, layer.stride, layer.padding))
            if layer.is_feature:
                features.append(x)
        return features

    def distance(
        self, a: Sequence[Tensor], b: Sequence[Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """Distances of two sets of features, [B] float32.

        Parameters
        ----------
        mask:
            [B or 1,1,h,w] of any size: averaged to that of each feature, what the differences are
            multiplied by.
        """
        total = torch.zeros((), device=a[0].device)
        for number, (one, two) in enumerate(zip(a, b, strict=True)):
            difference = masked(_unit(one) - _unit(two), mask)  # [B,C,h,w]
            weighted = F.conv2d(difference.square(), self.head(number))
            total = total + weighted.mean((1, 2, 3))
        return total

    def convolution(self, number: int) -> Convolution:
        """One of the backbone's."""
        return self.get_buffer(f"kernel_{number}"), self.get_buffer(f"bias_{number}")

    def head(self, number: int) -> Tensor:
        """Weights [1,C,1,1] of one of the five features."""
        return self.get_buffer(f"head_{number}")


def masked(difference: Tensor, mask: Tensor | None) -> Tensor:
    """[B,C,h,w] times a mask [B or 1,1,H,W], averaged to that size; without one, as it is."""
    if mask is None:
        return difference
    _, _, height, width = difference.shape
    return difference * F.adaptive_avg_pool2d(mask, (height, width))


def _unit(features: Tensor) -> Tensor:
    """Channels divided by their norm, float32."""
    features = features.float()
    return features / (features.norm(dim=1, keepdim=True) + NORM_EPS)
