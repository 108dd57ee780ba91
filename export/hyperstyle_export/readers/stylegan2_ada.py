"""Generators of stylegan2-ada-pytorch -> rosinality's layout (docs/spec-methods.md, 4.2)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..networks.generator import MAPPING_LR_MUL, Generator
from .checkpoints import State, average_rows, check_fir, layout_of, load_strictly
from .layouts import infer_generator
from .network_pickles import Network, read_network
from .torch_files import CheckpointError, shown

NETWORK = "G_ema"
FIRST_SIDE = 4
RGB = 3
ACTIVATION, LINEAR = "lrelu", "linear"  # of convolutions, of affine layers
CONVOLUTIONS = ("conv0.", "conv1.", "torgb.")

_SIDES = frozenset(str(FIRST_SIDE << doubled) for doubled in range(11))  # to 4096, as names say it


def read_stylegan2_ada(path: Path) -> tuple[Generator, Tensor | None]:
    """Read the generator of a `.pkl`, the average of its training (`G_ema`).

    It computes in float32 as with the original's `force_fp32`, whatever blocks ran in fp16.

    Returns
    -------
    Generator, Tensor or None
        The network in eval mode, and its average latent [W].

    Raises
    ------
    CheckpointError
        If the file is no such pickle, or its generator has no counterpart here.
    """
    network = read_network(path, NETWORK)
    tensors = {name: value.detach().float() for name, value in network.tensors()}
    _check_kind(network, tensors, path)
    state = _rosinality(tensors | _absent_noise(network, tensors), path)
    check_fir(state, path, NETWORK)
    with layout_of(path):
        config = infer_generator(state)
    config = replace(config, activation_limit=_activation_limit(network, path))
    with torch.device("meta"):
        generator = Generator(config)
    load_strictly(generator, state, path, NETWORK)
    average = tensors.get("mapping.w_avg")
    if average is not None:
        average = average_rows(average, 1, config.style_width, path)[0]
    return generator.eval().requires_grad_(False), average


def _check_kind(network: Network, tensors: State, path: Path) -> None:
    """Refuse generators of other architectures, each by its name."""
    rgb = tensors.get("synthesis.b4.torgb.weight")
    if "synthesis.input.affine.weight" in tensors:
        kind = "is of StyleGAN3, whose layers are others"
    elif "mapping.embed.weight" in tensors:
        kind = "is conditional on classes"
    elif any(".skip." in name for name in tensors):
        kind = "is of the architecture 'resnet'"
    elif "synthesis.b4.const" not in tensors or network.class_name != "Generator":
        kind = f"is a network {shown(network.class_name)} of an unknown layout"
    elif rgb is None:
        kind = "is of the architecture 'orig'"
    elif rgb.ndim == 4 and len(rgb) != RGB:
        kind = f"draws pictures of img_channels {len(rgb)}"
    elif said := _other_arithmetic(network):
        kind = f"has {said}"
    else:
        return
    raise CheckpointError(
        f"the generator in {path} {kind}: it has no counterpart here; give an unconditional "
        "StyleGAN2 generator of the architecture 'skip' for RGB pictures."
    )


def _other_arithmetic(network: Network) -> str | None:
    """What no tensor shows of a layer that computes otherwise than StyleGAN2's; None if nothing."""
    for name, layer in network.networks():
        activation = layer.state.get("activation", ACTIVATION)
        if name.startswith("synthesis.") and activation not in (ACTIVATION, LINEAR):
            return f"the activation {shown(activation)} in {name.rstrip('.')!r}"
        gain = layer.state.get("bias_gain", MAPPING_LR_MUL)
        is_ours = isinstance(gain, float) and gain == MAPPING_LR_MUL
        if name.startswith("mapping.fc") and not is_ours:
            return f"the learning rate multiplier {shown(gain)} in {name.rstrip('.')!r}"
    return None


def _activation_limit(network: Network, path: Path) -> float | None:
    """Largest magnitude of activations: the `conv_clamp` of all convolutions.

    Raises
    ------
    CheckpointError
        If it is no positive number, or not the same in all.
    """
    found = {
        shown(value): value
        for name, layer in network.networks()
        if name.startswith("synthesis.") and name.endswith(CONVOLUTIONS)
        for value in [layer.state.get("conv_clamp")]
    }
    if len(found) > 1:
        raise CheckpointError(
            f"the convolutions of the generator in {path} are limited differently (conv_clamp "
            f"{', '.join(sorted(found))}); give a file in which they have one limit."
        )
    (limit,) = found.values() or (None,)
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < math.inf:
        raise CheckpointError(
            f"the generator in {path} limits its activations to {shown(limit)} (conv_clamp), which "
            "is no positive number; download or copy it again."
        )
    return float(limit)


def _absent_noise(network: Network, tensors: State) -> State:
    """Noise of strength 0 for the convolutions that were trained without any."""
    added: State = {}
    for name, layer in network.networks():
        if layer.state.get("use_noise") is not False or not name.endswith(CONVOLUTIONS[:2]):
            continue
        digits = name.removeprefix("synthesis.b").partition(".")[0]
        if f"{name}weight" in tensors and digits in _SIDES:
            side = int(digits)
            added[f"{name}noise_strength"] = torch.zeros(())
            added[f"{name}noise_const"] = torch.zeros(side, side)
    return added


def _rosinality(tensors: State, path: Path) -> State:
    """The tensors under rosinality's names; what has none is refused."""
    left = dict(tensors)
    left.pop("mapping.w_avg", None)
    state: State = {}
    depth = 0
    while f"mapping.fc{depth}.weight" in left:
        for kind in ("weight", "bias"):
            state[f"style.{depth + 1}.{kind}"] = _taken(left, f"mapping.fc{depth}.{kind}", path)
        depth += 1
    state["input.input"] = _taken(left, "synthesis.b4.const", path)[None]
    left.pop("synthesis.b4.resample_filter", None)
    _convolution(state, left, "conv1", "synthesis.b4.conv1", 0, path)
    _to_rgb(state, left, "to_rgb1", "synthesis.b4.torgb", path)
    side, block = 2 * FIRST_SIDE, 0
    while f"synthesis.b{side}.conv0.weight" in left:
        name = f"synthesis.b{side}"
        kernel = 4 * _taken(left, f"{name}.resample_filter", path)  # stored with sum 1
        state[f"convs.{2 * block}.conv.blur.kernel"] = kernel
        state[f"to_rgbs.{block}.upsample.kernel"] = kernel
        _convolution(state, left, f"convs.{2 * block}", f"{name}.conv0", 2 * block + 1, path)
        _convolution(state, left, f"convs.{2 * block + 1}", f"{name}.conv1", 2 * block + 2, path)
        _to_rgb(state, left, f"to_rgbs.{block}", f"{name}.torgb", path)
        side, block = 2 * side, block + 1
    if left:
        raise CheckpointError(
            f"{path}: '{NETWORK}.{min(left)}' has no counterpart here; give an unconditional "
            "StyleGAN2 generator of the architecture 'skip'."
        )
    return state


def _convolution(state: State, left: State, name: str, own: str, noise: int, path: Path) -> None:
    """A layer; kernels are neither flipped nor transposed, those that up-sample included."""
    _modulated(state, left, name, own, path)
    state[f"{name}.activate.bias"] = _taken(left, f"{own}.bias", path)
    state[f"{name}.noise.weight"] = _taken(left, f"{own}.noise_strength", path).reshape(-1)
    state[f"noises.noise_{noise}"] = _taken(left, f"{own}.noise_const", path)[None, None]
    left.pop(f"{own}.resample_filter", None)  # the block's


def _to_rgb(state: State, left: State, name: str, own: str, path: Path) -> None:
    _modulated(state, left, name, own, path)
    state[f"{name}.bias"] = _taken(left, f"{own}.bias", path).reshape(1, -1, 1, 1)


def _modulated(state: State, left: State, name: str, own: str, path: Path) -> None:
    state[f"{name}.conv.weight"] = _taken(left, f"{own}.weight", path)[None]
    for kind in ("weight", "bias"):
        state[f"{name}.conv.modulation.{kind}"] = _taken(left, f"{own}.affine.{kind}", path)


def _taken(left: State, name: str, path: Path) -> Tensor:
    if name not in left:
        raise CheckpointError(f"{path} lacks '{NETWORK}.{name}'; download or copy it again.")
    return left.pop(name)
