"""Damaged files of what was trained for MobileStyleGAN: one sentence, whatever is wrong."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hyperstyle_export.networks.mobile_model import MobileModel
from hyperstyle_export.readers.mobile_parts import read_draft, read_latent_encoder
from hyperstyle_export.readers.torch_files import CheckpointError
from mobile_models import FEATURES, tiny_mobile_model
from photos.encoder import save_encoder
from safetensors.torch import load_file, save_file

SIZES = {name: str(size) for name, size in asdict(FEATURES).items()}


@pytest.fixture(scope="module")
def model() -> MobileModel:
    return tiny_mobile_model()


@pytest.fixture
def file(model: MobileModel, tmp_path: Path) -> Path:
    save_encoder(model.encoder, model.latent_avg, tmp_path / "encoder.safetensors")
    return tmp_path / "encoder.safetensors"


def refuse(message: str, path: Path, model: MobileModel) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read_latent_encoder(path, model.generator)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", ["", "0", "-1", "()", "1000000000", "(1000000000,)", "1e9", "x"])
@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_no_encoder_are_refused(
    name: str, size: str, file: Path, model: MobileModel
) -> None:
    """Before a network of that size is made, for which there would be no memory."""
    save_file(load_file(file), file, SIZES | {name: size})
    refuse("says sizes of no encoder", file, model)


@pytest.mark.parametrize(
    "sizes",
    [{"widths": "(4096, 4096)"}, {"face_widths": "(4096, 4096)", "face_blocks": "(2, 2)"}],
    ids=["features", "face"],
)
def test_an_encoder_larger_than_its_file_is_not_made(
    sizes: dict[str, str], file: Path, model: MobileModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[torch.device] = []
    monkeypatch.setattr(torch.nn.Conv2d, "reset_parameters", lambda c: made.append(c.weight.device))
    save_file(load_file(file), file, SIZES | sizes)
    refuse("is no encoder of photographs", file, model)
    assert {device.type for device in made} == {"meta"}


def test_an_average_that_is_not_finite_is_refused(file: Path, model: MobileModel) -> None:
    tensors = load_file(file)
    tensors["latent_avg"][3] = torch.nan
    save_file(tensors, file, SIZES)
    refuse("no average latent of 12 finite numbers", file, model)


@pytest.mark.parametrize(
    ("kind", "bits", "message"),
    [
        ("F4", 4, "safetensors file|torch.float4"),
        ("F8_E8M0", 8, "safetensors file|torch.float8"),
        ("C64", 64, "'latent_avg' is a tensor of torch.complex64"),
    ],
)
def test_types_of_no_plain_numbers_are_refused(
    kind: str, bits: int, message: str, model: MobileModel, tmp_path: Path
) -> None:
    path = tmp_path / "encoder.safetensors"
    size = 12 * bits // 8
    about = {"dtype": kind, "shape": [12], "data_offsets": [0, size]}
    header = json.dumps({"latent_avg": about}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    refuse(message, path, model)


@pytest.mark.parametrize("blocks", ["-1", "99", "", "1.5"])
def test_a_head_comes_after_a_number_of_blocks(
    blocks: str, model: MobileModel, tmp_path: Path
) -> None:
    """-1 is not the last, as it would be of a list."""
    assert model.draft is not None
    path = tmp_path / "head.safetensors"
    save_file(model.draft.head.state_dict(), path, {"blocks": blocks})
    with pytest.raises(CheckpointError, match="does not say after how many blocks"):
        read_draft(path, model.generator)


def test_a_head_of_numbers_without_axes_is_refused(model: MobileModel, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_file({"squeeze.weight": torch.tensor(1.0)}, path, {"blocks": "1"})
    with pytest.raises(CheckpointError, match="is no head"):
        read_draft(path, model.generator)
