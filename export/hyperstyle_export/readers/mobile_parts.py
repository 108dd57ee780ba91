"""MobileStyleGAN with what was trained for it: its encoder, and the head of its draft."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from hyperstyle_rt.files import read_regular
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from ..networks.draft_step import DraftStep, DraftStepConfig
from ..networks.latent_encoder import FeaturesConfig, LatentEncoder
from ..networks.mobile_draft import Draft
from ..networks.mobile_model import MobileModel
from ..networks.mobilestylegan import MobileStyleGan, PictureHead, model_from_state
from .lpips import load_lpips
from .mobilestylegan_ir import ORIGIN, read_random_face
from .torch_files import CheckpointError, flaw, shown

MAX_BYTES = 1 << 30
MAX_SIZE = 4096  # of what a file says of its encoder: sides, channels, blocks
INPUT_SIDE = 256
"""Side of the reconstruction, at which pictures are compared; smaller generators' own side."""

STEP_LIMITS, STEP_COUNTS = (
    ("perceptual", "limit", "share", "spread", "trust"),
    ("approach", "steps", "memory"),
)
MAX_STEPS = 16
"""Gradients in one graph, or steps whose curvature it reads; each is some hundred nodes."""

ENCODER_PREFIX = "encoder."
LATENT_AVERAGE = "latent_avg"


def read_mobile_model(
    generator: Path,
    encoder: Path,
    draft: Path | None = None,
    restyle: Path | None = None,
    lpips: Mapping[str, Path] | None = None,
) -> tuple[MobileModel, dict[str, str]]:
    """Read the networks of a bundle.

    Parameters
    ----------
    generator:
        As `read_random_face` takes it.
    encoder, draft, restyle:
        Trained for it.
    lpips:
        Backbone and heads.

    Returns
    -------
    The networks, and for the provenance whose the generator is and the digests of its files.

    Raises
    ------
    CheckpointError, IrError
        If a file cannot be read, or they do not belong together.
    """
    weights = read_random_face(generator)
    state = {key: torch.from_numpy(value) for key, value in weights.state.items()}
    model = model_from_state(state, weights.config)
    network, average = read_latent_encoder(encoder, model)
    side = min(INPUT_SIDE, weights.config.resolution)
    head = None if draft is None else read_draft(draft, model)
    if head is not None and head.side != side:
        raise CheckpointError(
            f"{draft} makes pictures of {head.side} px, but descent compares pictures of {side} "
            "px; fit a head after another number of blocks"
        )
    files = None if lpips is None else load_lpips(*lpips.values())
    step = None if restyle is None else read_draft_step(restyle, model)
    read = MobileModel(
        generator=model,
        latent_avg=average,
        encoder=network,
        input_size=(side, side),
        lpips=files,
        draft=head,
        restyle=step,
    )
    digests = {name: f"sha256:{digest}" for name, digest in weights.digests.items()}
    return read, {"origin": ORIGIN, **digests}


def read_latent_encoder(path: Path, generator: MobileStyleGan) -> tuple[LatentEncoder, Tensor]:
    """Read an encoder that `tools/photos` has trained, and the average latent [W].

    Raises
    ------
    CheckpointError
        If the file cannot be read, is of another network, or for another generator.
    """
    state, facts = _read(path)
    average = state.pop(LATENT_AVERAGE, None)
    width = generator.config.style_width
    if average is None or average.shape != (width,) or not torch.isfinite(average).all():
        raise CheckpointError(
            f"{path} gives no average latent of {width} finite numbers; give an "
            "encoder that was trained for it"
        )
    numbers = [field.name for field in fields(FeaturesConfig) if field.name in facts]
    own = {key.removeprefix(ENCODER_PREFIX): value.float() for key, value in state.items()}
    try:
        config = FeaturesConfig(**{name: _number(facts[name]) for name in numbers})
        if sum(config.face_blocks) > len(own):
            raise ValueError("more blocks than tensors")
        with torch.device("meta"):
            sketch = LatentEncoder(config, width)
    except Exception as error:  # sizes of another kind may fail anywhere in the network's making
        raise CheckpointError(f"{path} says sizes of no encoder: {error}") from error
    _fill(sketch, own, path, "encoder of photographs")
    encoder = LatentEncoder(config, width)  # takes no more memory than the file's tensors
    _fill(encoder, own, path, "encoder of photographs")
    return encoder, average.float()


def read_draft(path: Path, generator: MobileStyleGan) -> Draft:
    """Read a head that `tools/photos heads` has fitted; its file says after how many blocks.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is of another network, or for another generator.
    """
    state, facts = _read(path)
    return _draft({f"head.{key}": value for key, value in state.items()}, facts, path, generator)


def _draft(
    state: Mapping[str, Tensor], facts: Mapping[str, str], path: Path, generator: MobileStyleGan
) -> Draft:
    """The draft whose head is stored under ``head.``."""
    config = generator.config
    try:
        blocks = int(facts.get("blocks", ""))
        if blocks < 0:
            raise ValueError("less than none")
        channels = config.channels[blocks]
    except (ValueError, IndexError) as error:
        raise CheckpointError(
            f"{path} does not say after how many blocks its head comes; fit one with "
            "tools/photos heads"
        ) from error
    squeeze = state.get("head.squeeze.weight")
    width = squeeze.shape[0] if squeeze is not None and squeeze.ndim else 1
    with torch.device("meta"):
        head = PictureHead(channels, config.style_width, width)
    own = {key.removeprefix("head."): value.float() for key, value in state.items()}
    _fill(head, own, path, "head")
    return Draft(head, blocks)


def read_draft_step(path: Path, generator: MobileStyleGan) -> tuple[DraftStep, Draft]:
    """Read a step that `tools/photos` has trained, and the draft it was trained with.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is of another network, or for another generator.
    """
    state, facts = _read(path)
    width = generator.config.style_width
    draft = _draft(
        {k: v for k, v in state.items() if k.startswith("head.")}, facts, path, generator
    )
    try:
        numbers: dict[str, Any] = {name: float(facts[name]) for name in STEP_LIMITS}
        numbers |= {name: int(facts[name]) for name in STEP_COUNTS}
        if not all(0 < numbers[name] <= MAX_STEPS for name in STEP_COUNTS):
            raise ValueError(f"counts of 1 to {MAX_STEPS} are wanted")
        config = DraftStepConfig(width, draft.row + 1, **numbers)
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} does not say its step's limits: {error}") from error
    step = DraftStep(config)
    own = {k.removeprefix("step."): v.float() for k, v in state.items() if k.startswith("step.")}
    _fill(step, own, path, "step of latents")
    return step, draft


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and its facts."""
    data = read_regular(path, MAX_BYTES, CheckpointError)
    try:
        state = load(data)
    except (SafetensorError, KeyError) as error:  # KeyError: a type that torch has not
        raise CheckpointError(f"{path} is no safetensors file: {error}") from error
    for name, tensor in state.items():
        if wrong := flaw(tensor):
            raise CheckpointError(f"{path}: {shown(name)} is {wrong}; copy the file again")
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
    if not numbers or not all(0 < number <= MAX_SIZE for number in numbers):
        raise ValueError(f"{shown(text)} is not of 1 to {MAX_SIZE}")
    return numbers if text.startswith("(") else numbers[0]
