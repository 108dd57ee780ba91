"""The goldens' LPIPS networks: weights by formula (tests/golden/README.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import fakeweights
import fakeweights_methods
import numpy as np
import torch
from hyperstyle_export.networks.lpips import Lpips

# Number of a convolution in its file -> (out, in, kernel).
ALEXNET = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
VGG16 = {
    0: (64, 3),
    2: (64, 64),
    5: (128, 64),
    7: (128, 128),
    10: (256, 128),
    12: (256, 256),
    14: (256, 256),
    17: (512, 256),
    19: (512, 512),
    21: (512, 512),
    24: (512, 512),
    26: (512, 512),
    28: (512, 512),
}
VGG16_HEADS = (64, 128, 256, 512, 512)


def fake_alexnet() -> Lpips:
    """LPIPS-Alex of misc.npz, optimisation.npz."""
    shapes = {number: (out, before, k, k) for number, (out, before, k) in ALEXNET.items()}
    keys = {f"alexnet.features.{n}.{kind}" for n in shapes for kind in ("weight", "bias")}
    convolutions = [
        _convolution(f"alexnet.features.{n}", shape, lambda k, s: fakeweights.value(k, s, keys))
        for n, shape in shapes.items()
    ]
    return Lpips(convolutions, _heads("lpips", [shape[0] for shape in shapes.values()]))


def fake_vgg16() -> Lpips:
    """LPIPS-VGG of optimisation.npz."""
    convolutions = [
        _convolution(
            f"layer{n}",
            (out, before, 3, 3),
            lambda key, shape: fakeweights_methods.value("vgg16.", key, shape),
        )
        for n, (out, before) in VGG16.items()
    ]
    return Lpips(convolutions, _heads("lpips_vgg", VGG16_HEADS))


def _convolution(
    name: str, shape: tuple[int, ...], value: Callable[[str, tuple[int, ...]], Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    kernel, bias = value(f"{name}.weight", shape), value(f"{name}.bias", shape[:1])
    return torch.from_numpy(np.float32(kernel)), torch.from_numpy(np.float32(bias))


def _heads(prefix: str, widths: Sequence[int]) -> list[torch.Tensor]:
    keys = [f"{prefix}.lin{n}.model.1.weight" for n in range(len(widths))]
    return [
        torch.from_numpy(np.abs(fakeweights.normal(key, (1, width, 1, 1))))
        for key, width in zip(keys, widths, strict=True)
    ]
