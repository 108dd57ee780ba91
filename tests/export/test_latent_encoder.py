"""The photographic generator's encoder: its sizes, and its graph against the network."""

from __future__ import annotations

from pathlib import Path

import fakeweights
import numpy as np
import pytest
import torch
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.graphs.latent_encoder import build_latent_encoder
from hyperstyle_export.networks.latent_encoder import LatentEncoder, LatentEncoderConfig
from onnx_sessions import open_session

SMALL = LatentEncoderConfig(side=96, widths=(4, 6, 5, 7, 3), style_width=10)


def small_encoder() -> LatentEncoder:
    encoder = LatentEncoder(SMALL).eval().requires_grad_(False)
    for key, value in encoder.state_dict().items():
        scale = value[0].numel() ** -0.5 if value.ndim > 1 else 0.1
        value.copy_(torch.from_numpy(np.float32(fakeweights.normal(key, value.shape)) * scale))
    return encoder


def test_sizes_follow_from_the_config() -> None:
    assert LatentEncoderConfig().map_sides() == (31, 15, 7, 7, 7)
    assert LatentEncoderConfig().feature_widths == (768, 4800, 12544)
    encoder = small_encoder()
    features = encoder.features(torch.zeros(2, 3, 96, 96))
    assert features.shape == (2, sum(SMALL.feature_widths))


def test_larger_pictures_are_averaged() -> None:
    encoder = small_encoder()
    large = torch.from_numpy(np.float32(fakeweights.normal("x", (2, 3, 192, 192))))
    small = torch.nn.functional.avg_pool2d(large, 2)
    assert torch.allclose(encoder(large), encoder(small), atol=1e-5)


@pytest.mark.parametrize("side", [96, 192])
def test_the_graph_gives_every_row_the_networks_latent(tmp_path: Path, side: int) -> None:
    encoder = small_encoder()
    average = torch.linspace(-1, 1, SMALL.style_width)
    save_model(build_latent_encoder(encoder, average, 5, (side, side)), tmp_path / "encoder.onnx")
    image = np.float32(fakeweights.normal("image", (3, 3, side, side)))
    session = open_session(tmp_path / "encoder.onnx")
    (latents,) = session.run(["latents"], {"image": image})
    expected = (encoder(torch.from_numpy(image)) + average).numpy()
    assert latents.shape == (3, 5, SMALL.style_width)
    assert np.abs(latents - expected[:, None]).max() < 1e-4
    assert np.ptp(expected, axis=0).max() > 0.1
