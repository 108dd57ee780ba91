"""The photographic generator's encoder: its sizes, and its graph against the network."""

from __future__ import annotations

from pathlib import Path

import fakeweights
import numpy as np
import pytest
import torch
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.graphs.latent_encoder import build_latent_encoder
from hyperstyle_export.networks.face_trunk import (
    CHIP_LEFT,
    CHIP_SHARE,
    CHIP_SIDE,
    CHIP_TOP,
    FaceTrunk,
)
from hyperstyle_export.networks.latent_encoder import FeaturesConfig, LatentEncoder
from onnx_sessions import open_session
from torch import nn

SMALL = FeaturesConfig(96, widths=(4, 6), face_widths=(3, 4, 6), face_blocks=(1, 2, 1))
WIDTH = 10


def filled(network: nn.Module) -> None:
    network.eval().requires_grad_(False)
    for key, value in network.state_dict().items():
        scale = value[0].numel() ** -0.5 if value.ndim > 1 else 0.1
        value.copy_(torch.from_numpy(np.float32(fakeweights.normal(key, value.shape)) * scale))


def small_encoder() -> LatentEncoder:
    encoder = LatentEncoder(SMALL, WIDTH)
    filled(encoder)
    return encoder


def picture(name: str, side: int, count: int = 3) -> np.ndarray:
    return np.float32(fakeweights.normal(name, (count, 3, side, side)))


def test_sizes_follow_from_the_config() -> None:
    assert FeaturesConfig().coarse_side == 15
    assert FeaturesConfig().feature_widths == (3072, 4800, 2048)
    features = small_encoder().features(torch.zeros(2, 3, 96, 96))
    assert features.shape == (2, sum(SMALL.feature_widths))


def test_larger_pictures_are_averaged() -> None:
    encoder = small_encoder()
    large = torch.from_numpy(picture("x", 192))
    small = torch.nn.functional.avg_pool2d(large, 2)
    assert torch.allclose(encoder(large), encoder(small), atol=1e-5)


def test_the_chip_is_the_enlarged_inner_part() -> None:
    trunk, image = FaceTrunk(SMALL.face), torch.from_numpy(picture("chip", 96))
    top, left, span = (round(share * 96) for share in (CHIP_TOP, CHIP_LEFT, CHIP_SHARE))
    inner = image[:, :, top : top + span, left : left + span]
    expected = nn.functional.interpolate(inner, (CHIP_SIDE, CHIP_SIDE), mode="bilinear")
    assert torch.allclose(trunk.rows @ image @ trunk.columns, expected, atol=1e-4)


@pytest.mark.parametrize("side", [96, 192])
def test_the_graph_gives_every_row_the_networks_latent(tmp_path: Path, side: int) -> None:
    encoder, average = small_encoder(), torch.linspace(-1, 1, WIDTH)
    save_model(build_latent_encoder(encoder, average, 5, (side, side)), tmp_path / "encoder.onnx")
    image = picture("image", side)
    session = open_session(tmp_path / "encoder.onnx")
    (latents,) = session.run(["latents"], {"target": image})
    expected = (encoder(torch.from_numpy(image)) + average).numpy()
    assert latents.shape == (3, 5, WIDTH)
    assert np.abs(latents - expected[:, None]).max() < 1e-4
    assert np.ptp(expected, axis=0).max() > 0.1
