"""What finds a photograph: sizes, and the graphs `encoder` and `restyle` against the networks."""

from __future__ import annotations

from pathlib import Path

import fakeweights
import numpy as np
import onnxruntime as ort
import pytest
import torch
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.graphs.latent_encoder import build_latent_encoder, build_latent_step
from hyperstyle_export.networks.face_trunk import (
    CHIP_LEFT,
    CHIP_SHARE,
    CHIP_SIDE,
    CHIP_TOP,
    FaceTrunk,
    FaceTrunkConfig,
)
from hyperstyle_export.networks.latent_encoder import FeaturesConfig, LatentEncoder, LatentStep
from torch import nn

FACE = FaceTrunkConfig(side=96, widths=(3, 4, 6), blocks=(1, 2, 1))
SMALL = FeaturesConfig(side=96, widths=(4, 6), face=FACE)
WIDTH = 10
GROUPS = (2, 3)


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
    trunk, image = FaceTrunk(FACE), torch.from_numpy(picture("chip", 96))
    top, left, span = (round(share * 96) for share in (CHIP_TOP, CHIP_LEFT, CHIP_SHARE))
    inner = image[:, :, top : top + span, left : left + span]
    expected = nn.functional.interpolate(inner, (CHIP_SIDE, CHIP_SIDE), mode="bilinear")
    assert torch.allclose(trunk.rows @ image @ trunk.columns, expected, atol=1e-4)


@pytest.mark.parametrize("side", [96, 192])
def test_the_graph_gives_every_row_the_networks_latent(tmp_path: Path, side: int) -> None:
    encoder, average = small_encoder(), torch.linspace(-1, 1, WIDTH)
    save_model(build_latent_encoder(encoder, average, 5, (side, side)), tmp_path / "encoder.onnx")
    image = picture("image", side)
    session = ort.InferenceSession(tmp_path / "encoder.onnx")
    (latents,) = session.run(["latents"], {"image": image})
    expected = (encoder(torch.from_numpy(image)) + average).numpy()
    assert latents.shape == (3, 5, WIDTH)
    assert np.abs(latents - expected[:, None]).max() < 1e-4
    assert np.ptp(expected, axis=0).max() > 0.1


@pytest.mark.parametrize("groups", [(5,), GROUPS])
def test_the_graph_of_a_step_is_the_network(tmp_path: Path, groups: tuple[int, ...]) -> None:
    step, average = LatentStep(SMALL, WIDTH, groups), torch.linspace(-1, 1, WIDTH)
    filled(step)
    save_model(build_latent_step(step, average, (192, 192)), tmp_path / "restyle.onnx")
    target, made = picture("target", 192), picture("made", 192)
    latents = np.float32(fakeweights.normal("latents", (3, 5, WIDTH)))
    inputs = {"target": target, "reconstruction": made, "latents": latents}
    (following,) = ort.InferenceSession(tmp_path / "restyle.onnx").run(["latents_next"], inputs)
    seen = (torch.from_numpy(x) for x in (target, made))
    expected = step(*seen, torch.from_numpy(latents) - average) + average
    assert np.abs(following - expected.numpy()).max() < 1e-4
    change = following - latents
    assert np.abs(change[:, :2] - change[:, :1]).max() < 1e-5  # rows of a group move together
    assert (np.abs(change[:, 4] - change[:, 0]).max() < 1e-5) == (len(groups) == 1)
    assert np.ptp(change[:, 0], axis=0).max() > 0.1


def test_a_step_from_the_picture_itself_is_the_pull_alone() -> None:
    step = LatentStep(SMALL, WIDTH, (4,))
    filled(step)
    image, latents = torch.from_numpy(picture("same", 96)), torch.randn(3, 4, WIDTH)
    expected = latents + step.pull(latents.mean(1))[:, None]
    assert torch.allclose(step(image, image, latents), expected, atol=1e-5)
