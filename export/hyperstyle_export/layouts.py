"""Network configs read off the shapes of a state dict."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from hyperstyle_rt.errors import HyperStyleError
from torch import Tensor

from .networks.config import EncoderConfig, GeneratorConfig, HypernetworkConfig, TrunkConfig

State = Mapping[str, Tensor]


class LayoutError(HyperStyleError):
    """A state dict whose keys or shapes are of no known layout."""


def infer_generator(state: State) -> GeneratorConfig:
    """Widths and resolution of a StyleGAN2 generator from its `convs.*` kernels."""
    kernel = _tensor(state, "conv1.conv.weight", "generator")
    channels = [kernel.shape[1]]
    while (up := state.get(f"convs.{2 * (len(channels) - 1)}.conv.weight")) is not None:
        channels.append(up.shape[1])
    modulation = _tensor(state, "conv1.conv.modulation.weight", "generator")
    depth = sum(key.startswith("style.") and key.endswith(".weight") for key in state)
    return GeneratorConfig(tuple(channels), modulation.shape[1], depth)


def infer_encoder(state: State) -> EncoderConfig:
    """Trunk of a W-encoder; refuses one that reads more than one picture (ReStyle)."""
    stem = _tensor(state, "input_layer.0.weight", "encoder")
    if stem.shape[1] != 3:
        raise LayoutError(
            f"the encoder reads {stem.shape[1]} channels (a ReStyle encoder?); the W-encoder of "
            "HyperStyle reads one RGB picture."
        )
    widths = _block_widths(state, "body.{}.res_layer.1.weight", "encoder")
    squeezed = _tensor(state, "body.0.res_layer.5.fc1.weight", "encoder").shape[0]
    linear = _tensor(state, "linear.weight", "encoder")
    trunk = TrunkConfig(stem.shape[0], _groups(widths))
    return EncoderConfig(trunk, widths[0] // squeezed, linear.shape[0])


def infer_hypernetwork(state: State) -> HypernetworkConfig:
    """Trunk, tuned layers and code width of a hypernetwork from its refinement blocks."""
    stem = _tensor(state, "conv1.weight", "hypernet")
    if stem.shape[1] != 6:
        raise LayoutError(
            f"the hypernetwork reads {stem.shape[1]} channels, not those of a picture and a "
            "reconstruction (6)."
        )
    tuned = sorted({int(k.split(".")[1]) for k in state if k.startswith("refinement_blocks.")})
    if not tuned:
        raise LayoutError("the hypernetwork has no refinement blocks: nothing to tune.")
    shared = [i for i in tuned if f"refinement_blocks.{i}.linear.weight" in state]
    code_widths, shared_inner, ordinary_inner = set(), 128, 256
    for index in tuned:
        first = _tensor(state, f"refinement_blocks.{index}.convs.0.weight", "hypernet").shape[0]
        if index in shared:
            key, shared_inner = f"refinement_blocks.{index}.linear.weight", first
        else:
            to_rgb = f"refinement_blocks.{index}.output.0.weight"
            key = to_rgb if to_rgb in state else f"refinement_blocks.{index}.output.1.weight"
            ordinary_inner = first
        code_widths.add(_tensor(state, key, "hypernet").shape[1])
    if len(code_widths) != 1:
        raise LayoutError(f"the hypernetwork's code widths differ between layers: {code_widths}.")
    widths = _block_widths(state, "body.{}.conv1.weight", "hypernet")
    return HypernetworkConfig(
        tuned_layers=tuple(tuned),
        shared_layers=tuple(shared),
        trunk=TrunkConfig(stem.shape[0], _groups(widths)),
        code_width=code_widths.pop(),
        shared_inner=shared_inner,
        ordinary_inner=ordinary_inner,
    )


def _tensor(state: State, key: str, network: str) -> Tensor:
    if key not in state:
        raise LayoutError(f"the checkpoint's {network} has no '{key}': its layout is not known.")
    return state[key]


def _block_widths(state: State, pattern: str, network: str) -> list[int]:
    """Output widths of blocks 0, 1, ... of a trunk."""
    widths: list[int] = []
    while (kernel := state.get(pattern.format(len(widths)))) is not None:
        widths.append(kernel.shape[0])
    if not widths:
        raise LayoutError(f"the checkpoint's {network} has no '{pattern.format(0)}'.")
    return widths


def _groups(widths: list[int]) -> tuple[tuple[int, int], ...]:
    """Run lengths: a new width starts a group, and with it a lower resolution."""
    return tuple((width, len(list(run))) for width, run in groupby(widths))
