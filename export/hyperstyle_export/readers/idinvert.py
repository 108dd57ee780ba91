"""IDInvert's files -> networks (docs/spec-methods.md, section 1).

Three flat state dicts: ``styleganinv_ffhq256_generator.pth`` and ``..._encoder.pth``, which go
together, and ``vgg16.pth`` for the optimisation. Sizes are read off the shapes, so that generators
of other sizes are read alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..networks.idinvert import IdInvertEncoder, IdInvertEncoderConfig, IdInvertModel
from ..networks.lpips import Lpips
from ..networks.stylegan1 import START_SIDE, StyleGan1, StyleGan1Config, blur_kernel
from ..networks.vgg16 import FILE_LAYERS, LAYERS, Vgg16Features
from .checkpoints import State, describe, floats, layout_of, load_strictly, state_dict
from .layouts import LayoutError
from .torch_files import CheckpointError, read_torch_file

GENERATOR_KEY, ENCODER_KEY = "synthesis.layer0.const", "block0.conv.weight"
GENERATOR_WORDS = "the generator of an IDInvert model ('..._generator.pth')"
ENCODER_WORDS = "the encoder of an IDInvert model ('..._encoder.pth')"

_RGB, _TAPS = 3, 3


def is_idinvert(contents: Mapping[str, Any]) -> bool:
    """Whether what a file holds is IDInvert's generator or encoder."""
    state = state_dict(contents)
    return GENERATOR_KEY in state or ENCODER_KEY in state


def read_idinvert(
    generator: Path, encoder: Path, perceptual: Vgg16Features | Lpips | None = None
) -> IdInvertModel:
    """Read a generator and its encoder.

    Parameters
    ----------
    perceptual:
        What the optimisation compares pictures by; None for a bundle that does not optimise.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged, of another kind or layout, or the two do not go together.
    """
    made, inverse = read_stylegan1(generator), read_idinvert_encoder(encoder)
    ours, theirs = made.config, inverse.config
    if theirs.resolution != ours.resolution:
        raise CheckpointError(
            f"{encoder} is for pictures of {theirs.resolution} px, but the generator {generator} "
            f"makes {ours.resolution} px: the files are not of one model."
        )
    if theirs.style_width != ours.style_width:
        raise CheckpointError(
            f"{encoder} gives latents of {theirs.style_width} numbers a row, but the generator "
            f"{generator} takes {ours.style_width}: the files are not of one model."
        )
    return IdInvertModel(made, inverse, perceptual)


def read_stylegan1(path: Path) -> StyleGan1:
    """Read a generator's file.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, of another kind, or of an unsupported layout.
    """
    state = _state(path, GENERATOR_KEY, GENERATOR_WORDS, "--generator")
    state.pop("truncation.truncation", None)  # the setting that a picture was last drawn with
    with layout_of(path):
        config = _infer_generator(state)
    if state.get("synthesis.lod", torch.zeros(())).any():
        raise CheckpointError(
            f"{path} was saved while its generator was still growing ('synthesis.lod' is not 0), "
            "so that its last layers are not trained; use the file of a finished training."
        )
    _check_blur(state, path)
    with torch.device("meta"):
        model = StyleGan1(config)
    load_strictly(model, state, path, "")
    return model.eval().requires_grad_(False)


def read_idinvert_encoder(path: Path) -> IdInvertEncoder:
    """Read an encoder's file.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, of another kind, or of an unsupported layout.
    """
    state = _state(path, ENCODER_KEY, ENCODER_WORDS, "--encoder")
    with layout_of(path):
        config = _infer_encoder(state)
    with torch.device("meta"):
        encoder = IdInvertEncoder(config)
    load_strictly(encoder, state, path, "")
    return encoder.eval().requires_grad_(False)


def read_vgg16(path: Path) -> Vgg16Features:
    """Read the features' network.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or of another network.
    """
    contents = read_torch_file(path)
    state = floats(state_dict(contents))
    keys = [f"layer{n}.{part}" for n in FILE_LAYERS for part in ("weight", "bias")]
    if missing := [key for key in keys if key not in state]:
        what = (
            "VGG16 as torchvision has it, which expects pictures of another scale"
            if "features.0.weight" in state
            else describe(contents)
        )
        raise CheckpointError(
            f"{path} is {what}; --refine-vgg16 wants the vgg16.pth that IDInvert's authors publish "
            f"('{missing[0]}' ...)."
        )
    before, convolutions = _RGB, []
    for number in FILE_LAYERS:
        kernel, bias = state[f"layer{number}.weight"], state[f"layer{number}.bias"]
        if kernel.shape[1:] != (before, _TAPS, _TAPS) or bias.shape != kernel.shape[:1]:
            raise CheckpointError(
                f"{path}: 'layer{number}.weight' has shape {tuple(kernel.shape)}, which does not "
                "fit the layer before it; give the file of IDInvert's authors."
            )
        if not torch.isfinite(kernel.sum() + bias.sum()):
            raise CheckpointError(f"{path}: 'layer{number}' holds NaN or infinity; copy it again.")
        before = kernel.shape[0]
        convolutions.append((kernel, bias))
    return Vgg16Features(convolutions[: len(LAYERS)]).eval()


def _state(path: Path, key: str, words: str, option: str) -> State:
    """The tensors of a file that has a key."""
    contents = read_torch_file(path)
    state = floats(state_dict(contents))
    if key not in state:
        raise CheckpointError(f"{path} is {describe(contents)}; {option} wants {words}.")
    return state


def _infer_generator(state: State) -> StyleGan1Config:
    const = _tensor(state, GENERATOR_KEY, 4)
    channels, fused_from = [const.shape[1]], None
    while (name := f"synthesis.layer{2 * len(channels)}") and f"{name}.epilogue.bias" in state:
        side = START_SIDE * 2 ** len(channels)
        if f"{name}.weight" in state:
            channels.append(_tensor(state, f"{name}.weight", 4).shape[3])
            fused_from = fused_from or side
        else:
            channels.append(_tensor(state, f"{name}.conv.weight", 4).shape[0])
    if len(channels) == 1:
        raise LayoutError("the generator has no layers beyond 4 px ('synthesis.layer2' ...).")
    style = _tensor(state, "synthesis.layer0.epilogue.style_mod.dense.fc.weight", 2)
    depth = 0
    while f"mapping.dense{depth}.fc.weight" in state:
        depth += 1
    if not depth:
        raise LayoutError("the generator has no mapping network ('mapping.dense0' ...).")
    never = 2 * START_SIDE * 2 ** len(channels)
    return StyleGan1Config(tuple(channels), style.shape[1], depth, fused_from or never)


def _infer_encoder(state: State) -> IdInvertEncoderConfig:
    channels = [_tensor(state, ENCODER_KEY, 4).shape[0]]
    while (key := f"block{len(channels)}.conv2.weight") in state:
        channels.append(_tensor(state, key, 4).shape[0])
    if len(channels) == 1:
        raise LayoutError("the encoder has no residual blocks ('block1.conv2.weight' ...).")
    last = f"block{len(channels)}.fc.weight"
    size, rows = _tensor(state, last, 2).shape[0], 2 * len(channels)
    if size % rows:
        raise LayoutError(
            f"'{last}' gives {size} numbers, which are not {rows} rows of latents: the encoder is "
            "for a generator of another size."
        )
    return IdInvertEncoderConfig(tuple(channels), rows, size // rows)


def _tensor(state: State, key: str, rank: int) -> torch.Tensor:
    tensor = state.get(key)
    if tensor is None:
        raise LayoutError(f"'{key}' is missing.")
    if tensor.ndim != rank:
        raise LayoutError(f"'{key}' has shape {tuple(tensor.shape)}, which has not {rank} axes.")
    return tensor


def _check_blur(state: State, path: Path) -> None:
    expected = blur_kernel()
    for key, kernel in state.items():
        if not key.endswith(".blur.kernel"):
            continue
        if kernel.shape[1:] != (1, 3, 3) or not torch.allclose(
            kernel, expected.expand_as(kernel), atol=1e-6
        ):
            raise CheckpointError(
                f"{path}: '{key}' is not the [1, 2, 1] filter; generators with another blur are "
                "not supported."
            )
