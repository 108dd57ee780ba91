"""What was trained for a MobileStyleGAN: its encoder, and the head of its draft."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from hyperstyle_rt.files import read_regular
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from ..networks.latent_encoder import LatentEncoder, LatentEncoderConfig
from ..networks.mobile_model import Draft
from ..networks.mobilestylegan import MobileStyleGan, PictureHead
from .torch_files import CheckpointError

MAX_BYTES = 1 << 30
ENCODER_PREFIX = "encoder."
LATENT_AVERAGE = "latent_avg"


def read_latent_encoder(path: Path, generator: MobileStyleGan) -> tuple[LatentEncoder, Tensor]:
    """Read an encoder that `tools/photos` has trained, and the average latent [W].

    Raises
    ------
    CheckpointError
        If the file cannot be read, is of another network, or for another generator.
    """
    state, facts = _read(path)
    numbers = {field.name: field for field in fields(LatentEncoderConfig)}
    try:
        config = LatentEncoderConfig(
            **{name: _number(facts[name]) for name in numbers if name in facts}
        )
        with torch.device("meta"):
            encoder = LatentEncoder(config)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} says sizes of no encoder: {error}") from error
    average = state.pop(LATENT_AVERAGE, None)
    own = {key.removeprefix(ENCODER_PREFIX): value.float() for key, value in state.items()}
    _fill(encoder, own, path, "encoder of photographs")
    width = generator.config.style_width
    if average is None or average.shape != (width,) or config.style_width != width:
        raise CheckpointError(
            f"{path} gives no latents of {width} numbers, which this generator takes; give an "
            "encoder that was trained for it"
        )
    return encoder, average.float()


def read_draft(path: Path, generator: MobileStyleGan) -> Draft:
    """Read a head that `tools/photos heads` has fitted; its file says after how many blocks.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is of another network, or for another generator.
    """
    state, facts = _read(path)
    config = generator.config
    try:
        blocks = int(facts.get("blocks", ""))
        channels = config.channels[blocks]
    except (ValueError, IndexError) as error:
        raise CheckpointError(
            f"{path} does not say after how many blocks its head comes; fit one with "
            "tools/photos heads"
        ) from error
    width = state["squeeze.weight"].shape[0] if "squeeze.weight" in state else 1
    with torch.device("meta"):
        head = PictureHead(channels, config.style_width, width)
    _fill(head, {key: value.float() for key, value in state.items()}, path, "head")
    return Draft(head, blocks)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and its facts."""
    data = read_regular(path, MAX_BYTES, CheckpointError)
    try:
        state = load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file: {error}") from error
    header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return state, dict(header.get("__metadata__") or {})


def _fill(network: nn.Module, state: dict[str, Tensor], path: Path, kind: str) -> None:
    """Give a network its tensors, frozen; refuse others than its own."""
    own = network.state_dict()
    for key in sorted(own.keys() | state.keys()):
        here, there = own.get(key), state.get(key)
        if here is None or there is None or here.shape != there.shape:
            raise CheckpointError(f"{path} is no {kind}: {key!r} is missing or of another shape")
        if not torch.isfinite(there).all():
            raise CheckpointError(f"{path} holds numbers that are not finite in {key!r}")
    network.load_state_dict(state, assign=True)
    network.eval().requires_grad_(False)


def _number(text: str) -> Any:
    """A size of a config as its file says it: an integer, or several in brackets."""
    numbers = tuple(int(part) for part in text.strip("()").replace(" ", "").split(",") if part)
    return numbers if text.startswith("(") else numbers[0]
