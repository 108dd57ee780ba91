"""IDInvert gives the numbers of the official code: networks in torch, and through the graphs.

The networks of the official size take seconds each: `make test` compares keys and shapes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from golden_idinvert import (
    CODES,
    GOLDEN,
    LATENTS_TOLERANCE,
    Z,
    check_latents,
    check_rendering,
    close,
    target,
)
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.graphs.idinvert import build_idinvert_encoder
from hyperstyle_export.graphs.stylegan1 import build_stylegan1_generator, build_stylegan1_mapping
from hyperstyle_export.networks.idinvert import IdInvertEncoder
from hyperstyle_export.networks.stylegan1 import StyleGan1
from hyperstyle_export.readers.idinvert import read_idinvert_encoder, read_stylegan1
from idinvert_files import OFFICIAL, encoder_contents, generator_contents
from onnx_ir import Model
from torch import nn

SCHEMAS = Path(__file__).parents[1] / "golden" / "schema"


@pytest.mark.parametrize("name", ["generator", "encoder"])
def test_networks_have_the_keys_of_the_official_files(name: str) -> None:
    listed = json.loads((SCHEMAS / f"idinvert_{name}_256.json").read_text())["state_dict"]
    official = {key: shape for key, shape, _ in listed}
    official.pop("truncation.truncation", None)  # a setting
    with torch.device("meta"):
        networks: dict[str, nn.Module] = {
            "generator": StyleGan1(OFFICIAL.generator),
            "encoder": IdInvertEncoder(OFFICIAL.encoder),
        }
    own = {key: list(value.shape) for key, value in networks[name].state_dict().items()}
    assert own == official


@pytest.mark.slow
def test_generator(tmp_path: Path) -> None:
    file = tmp_path / "generator.pth"
    torch.save(generator_contents(OFFICIAL.generator), file)
    model = read_stylegan1(file)
    assert model.config == OFFICIAL.generator
    with torch.no_grad():
        check_rendering(model.synthesis(torch.from_numpy(CODES[:1]))[0].numpy(), 0)
    session = open_graph(build_stylegan1_generator(model, (256, 256)), tmp_path)
    rendering, reconstruction = session.run(None, {"latents": CODES})
    for number in range(2):
        check_rendering(rendering[number], number)
    np.testing.assert_array_equal(rendering, reconstruction)
    z = Z * np.float32(512**0.5) / np.linalg.norm(Z, axis=1, keepdims=True)
    for w in (
        model.mapping(torch.from_numpy(z)),
        *map(
            torch.from_numpy,
            open_graph(build_stylegan1_mapping(model), tmp_path).run(None, {"z": Z}),
        ),
    ):
        close(model.truncated(w).numpy(), GOLDEN["mapping/wp"], LATENTS_TOLERANCE)


@pytest.mark.slow
def test_encoder(tmp_path: Path) -> None:
    file = tmp_path / "encoder.pth"
    torch.save(encoder_contents(OFFICIAL.encoder), file)
    encoder = read_idinvert_encoder(file)
    assert encoder.config == OFFICIAL.encoder
    with torch.no_grad():
        check_latents(encoder(torch.from_numpy(target(0)))[0].numpy(), 0)
    session = open_graph(build_idinvert_encoder(encoder), tmp_path)
    del encoder
    (latents,) = session.run(None, {"target": np.concatenate([target(0), target(1)])})
    for number in range(2):
        check_latents(latents[number], number)


def open_graph(model: Model, folder: Path) -> ort.InferenceSession:
    path = folder / "graph.onnx"
    save_model(model, path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options)
