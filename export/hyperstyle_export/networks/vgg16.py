"""The features of VGG16 that IDInvert compares pictures by: those after conv4_3's ReLU.

The weights are not part of this project: `readers.idinvert` reads those a user has, of the file
that IDInvert's authors publish. It expects pictures as Caffe does: BGR from 0 to 255 minus means.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .lpips import POOL_STRIDE, VGG16, Convolution, masked

LAYERS = VGG16[:10]
"""Those up to conv4_3."""

FILE_LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Numbers of the convolutions in the file's keys, ``layer21.weight``."""

MEANS_BGR = (103.939, 116.779, 123.68)
HALF_RANGE = 127.5  # of 0 to 255

FEATURE_WEIGHT = 5e-5
"""Of the mean square of the features' difference, beside the pixels', as published."""


class Vgg16Features(nn.Module):
    """Pictures -> features after the tenth convolution.

    Parameters
    ----------
    convolutions:
        The first ten, in order.
    """

    def __init__(self, convolutions: Sequence[Convolution]) -> None:
        super().__init__()
        for number, (kernel, bias) in enumerate(convolutions):
            self.register_buffer(f"kernel_{number}", kernel, persistent=False)
            self.register_buffer(f"bias_{number}", bias, persistent=False)

    @property
    def means(self) -> Tensor:
        """Of BGR from 0 to 255, [1,3,1,1]."""
        return torch.tensor(MEANS_BGR).view(1, 3, 1, 1)

    def forward(self, picture: Tensor) -> Tensor:
        """Pictures [N,3,h,w], RGB in [-1,1] -> [N,C,h/8,w/8]."""
        x = (picture.flip(1) + 1) * HALF_RANGE - self.means
        for number, layer in enumerate(LAYERS):
            if layer.pool:
                x = F.max_pool2d(x, layer.pool, POOL_STRIDE)
            x = F.relu(F.conv2d(x, *self.convolution(number), padding=layer.padding))
        return x

    def convolution(self, number: int) -> Convolution:
        """Kernel [O,I,3,3] and bias [O] of one of them."""
        return self.get_buffer(f"kernel_{number}"), self.get_buffer(f"bias_{number}")


class Vgg16Term:
    """The perceptual term of descent, see `networks.refinement.PerceptualTerm`."""

    def __init__(self, vgg16: Vgg16Features) -> None:
        self._vgg16 = vgg16

    def features(self, picture: Tensor) -> list[Tensor]:
        """One tensor of features."""
        return [self._vgg16(picture)]

    def loss(
        self, seen: Sequence[Tensor], wanted: Sequence[Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """The weighted mean square."""
        (one,), (aim,) = seen, wanted
        return FEATURE_WEIGHT * masked(one - aim, mask).square().mean()
