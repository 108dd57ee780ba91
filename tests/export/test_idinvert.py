"""IDInvert's networks as graphs, beside torch; small ones of the official layout."""

from __future__ import annotations

from pathlib import Path

import fakeweights
import numpy as np
import pytest
import torch
from hyperstyle_export.graphs.generator import NOISE, STYLE_OFFSETS
from hyperstyle_export.graphs.idinvert import build_encoder_term, build_idinvert_encoder
from hyperstyle_export.graphs.stylegan1 import (
    build_stylegan1_generator,
    build_stylegan1_mapping,
    build_stylegan1_noise,
    stylegan1_optional_inputs,
)
from hyperstyle_export.networks.idinvert import IdInvertModel, encoder_term
from hyperstyle_export.readers.idinvert import read_idinvert, read_vgg16
from numpy.typing import NDArray
from onnx_graphs import run_graph
from synthetic.idinvert import TINY, write_files

Array = NDArray[np.float32]

ROWS, WIDTH, SIDE = 8, 16, 32
EXACT = 2e-5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> IdInvertModel:
    files = write_files(tmp_path_factory.mktemp("idinvert"))
    return read_idinvert(files["generator"], files["encoder"], read_vgg16(files["vgg16"]))


def normal(key: str, *shape: int) -> Array:
    return np.float32(fakeweights.normal(key, shape))


def differ(actual: Array, expected: torch.Tensor) -> float:
    assert actual.shape == tuple(expected.shape)
    return float(np.abs(actual - expected.detach().numpy()).max())


def test_sizes_are_read_off_the_files(model: IdInvertModel) -> None:
    assert (model.generator.config, model.encoder.config) == (TINY.generator, TINY.encoder)
    assert model.generator.config.resolution == SIDE == model.input_size[0]
    kinds = [(layer.upsample, layer.is_fused) for layer in model.generator.config.layers]
    assert kinds[2::2] == [(True, False), (True, False), (True, True)]


def test_generator(model: IdInvertModel, tmp_path: Path) -> None:
    """Kernels of both kinds, a batch, and the reconstruction of a smaller size."""
    latents = normal("latents", 2, ROWS, WIDTH)
    found = run_graph(
        build_stylegan1_generator(model.generator, (16, 16)), tmp_path, {"latents": latents}
    )
    picture = model.generator.synthesis(torch.from_numpy(latents))
    assert float(picture.std()) > 0.1
    assert differ(found["rendering"], picture) <= EXACT
    pooled = torch.nn.functional.avg_pool2d(picture, 2)
    assert differ(found["reconstruction"], pooled) <= EXACT


@pytest.mark.parametrize("edits", [1, 2])
def test_styles_and_noise_as_inputs(model: IdInvertModel, tmp_path: Path, edits: int) -> None:
    generator = model.generator
    optional = stylegan1_optional_inputs(generator)
    assert [layer.width for layer in optional.styles][:3] == [24, 24, 20]
    given = {
        "latents": normal("latents", 2, ROWS, WIDTH),
        STYLE_OFFSETS: 0.3 * normal("styles", edits, optional.style_channels),
    }
    noise = {
        layer.name: normal(layer.name, 1, 1, layer.side, layer.side) for layer in optional.noise
    }
    assert len(noise) == ROWS
    given |= {f"noise.{name}": value for name, value in noise.items()}
    graph = build_stylegan1_generator(
        generator, (SIDE, SIDE), (STYLE_OFFSETS, NOISE), "styled_generator"
    )
    found = run_graph(graph, tmp_path, given)
    tensors = {name: torch.from_numpy(value) for name, value in noise.items()}
    expected = generator.synthesis(
        torch.from_numpy(given["latents"]), tensors, torch.from_numpy(given[STYLE_OFFSETS])
    )
    assert differ(found["rendering"], expected) <= EXACT
    plain = generator.synthesis(torch.from_numpy(given["latents"]))
    assert float((plain - expected).abs().max()) > 0.1
    stored = run_graph(build_stylegan1_noise(generator), tmp_path, {})
    assert stored.keys() == {name for name in given if name.startswith("noise.")}
    still = {**given, **stored, STYLE_OFFSETS: 0 * given[STYLE_OFFSETS]}
    assert differ(run_graph(graph, tmp_path, still)["rendering"], plain) <= EXACT


def test_mapping(model: IdInvertModel, tmp_path: Path) -> None:
    z = normal("z", 3, WIDTH)
    found = run_graph(build_stylegan1_mapping(model.generator), tmp_path, {"z": z})
    assert differ(found["w"], model.generator.mapping(torch.from_numpy(z))) <= EXACT


def test_encoder(model: IdInvertModel, tmp_path: Path) -> None:
    target = normal("target", 2, 3, SIDE, SIDE)
    found = run_graph(build_idinvert_encoder(model.encoder), tmp_path, {"target": target})
    expected = model.encoder(torch.from_numpy(target))
    assert float(expected.std()) > 0.3
    assert differ(found["latents"], expected) <= EXACT


def test_encoder_term(model: IdInvertModel, tmp_path: Path) -> None:
    """Value and both gradients against autograd, and one against finite differences."""
    given = {
        "target_latents": normal("latents", 1, ROWS, WIDTH),
        "reconstruction": normal("target", 1, 3, SIDE, SIDE),
    }
    graph = build_encoder_term(model.encoder)
    found = run_graph(graph, tmp_path, given)
    leaves = [torch.from_numpy(value).requires_grad_() for value in given.values()]
    loss = encoder_term(model.encoder, leaves[0], leaves[1])
    loss.backward()
    assert found["loss"].shape == (1,)
    assert abs(found["loss"][0] / loss.item() - 1) <= 1e-5
    for name, leaf in zip(given, leaves, strict=True):
        gradient = found[f"gradient.{name}"]
        error = np.linalg.norm(gradient - leaf.grad.numpy()) / np.linalg.norm(leaf.grad.numpy())
        assert error <= EXACT, name
        step = np.float32(1e-2 / np.linalg.norm(gradient)) * gradient
        ends = [
            run_graph(graph, tmp_path, {**given, name: given[name] + way * step}) for way in (1, -1)
        ]
        slope = float(ends[0]["loss"][0]) - float(ends[1]["loss"][0])
        assert abs(slope / (2 * float((gradient * step).sum())) - 1) <= 0.02, name
