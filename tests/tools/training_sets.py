"""A training problem small enough for seconds: pictures of two colours, known factors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from hyperstyle_rt.imaging.pictures import write_picture
from numpy.typing import NDArray

SIDE = 16
FACTORS = ("red", "green", "blue", "height")


def picture(factors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A colour above, its complement below a horizon."""
    colour = np.broadcast_to(factors[:3], (SIDE, SIDE, 3))
    above = np.arange(SIDE)[:, None, None] < factors[3] * SIDE
    return np.round(np.where(above, colour, 1 - colour) * 255).astype(np.uint8)


def write_set(folder: Path, count: int, seed: int) -> Path:
    """Pictures and their factors.npz."""
    folder.mkdir()
    values = np.random.default_rng(seed).uniform(0.1, 0.9, (count, 4)).astype(np.float32)
    for number, factors in enumerate(values):
        write_picture(folder / f"{number:04d}.png", picture(factors))
    np.savez(folder / "factors.npz", names=np.array(FACTORS), values=values)
    return folder


def write_lpips(folder: Path) -> list[str]:
    """Weight files of a narrow AlexNet, as options."""
    source = torch.Generator().manual_seed(0)
    backbone, heads, before = {}, {}, 3
    for number, (at, k) in enumerate(zip((0, 3, 6, 8, 10), (11, 5, 3, 3, 3), strict=True)):
        fan_in = before * k * k
        kernel = torch.randn(4, before, k, k, generator=source) / fan_in**0.5
        backbone[f"features.{at}.weight"] = kernel
        backbone[f"features.{at}.bias"] = torch.zeros(4)
        heads[f"lin{number}.model.1.weight"] = torch.full((1, 4, 1, 1), 0.1)
        before = 4
    torch.save(backbone, folder / "alexnet.pth")
    torch.save(heads, folder / "alex.pth")
    return [
        *("--lpips-backbone", str(folder / "alexnet.pth")),
        *("--lpips-heads", str(folder / "alex.pth")),
    ]


REPORTS = """
[reports]
checkpoint_minutes = 1000
scalar_steps = 10
evaluation_minutes = 1000
evaluation_pictures = 8
sheet_pictures = 4
[machine]
precision = "fp32"
compile = false
"""

GENERATOR = (
    """
growth = [[8, 240]]
[network]
channels = [12, 12, 8]
style_width = 8
mapping_depth = 2
[schedule]
images = 960
batch = 8
warmup = 40
decay = 480
[optimiser]
matrix_rate = 0.03
other_rate = 0.03
average = 0.9
"""
    + REPORTS
)

ADVERSARIAL = (
    """
weight = 0.05
r1_interval = 4
[schedule]
images = 160
batch = 8
warmup = 40
[optimiser]
matrix_rate = 0.002
other_rate = 0.002
average = 0.9
[discriminator]
matrix_rate = 0.005
other_rate = 0.005
"""
    + REPORTS
)

ENCODER = (
    """
input_size = [16, 16]
regression = 240
[network]
style_width = 8
se_reduction = 4
[network.trunk]
stem_width = 8
groups = [[8, 1], [12, 1], [16, 1]]
[schedule]
images = 480
batch = 8
warmup = 40
decay = 240
[optimiser]
matrix_rate = 0.03
other_rate = 0.01
clip = 1.0
average = 0.9
"""
    + REPORTS
)

HYPERNETWORK = (
    """
input_size = [16, 16]
iterations = 3
single = 80
freeze_statistics = 320
damping = 0.95
[network]
tuned_layers = [2, 3, 5, 6]
shared_layers = [2, 3]
code_width = 12
shared_inner = 8
ordinary_inner = 8
[network.trunk]
stem_width = 8
groups = [[8, 1], [12, 1]]
[start]
pictures = 24
[schedule]
images = 480
batch = 8
warmup = 40
decay = 240
[optimiser]
matrix_rate = 0.02
other_rate = 0.005
momentum = 0.95
clip = 1.0
average = 0.9
[loss]
l2 = 3.0
worsening = 3.0
"""
    + REPORTS
)
