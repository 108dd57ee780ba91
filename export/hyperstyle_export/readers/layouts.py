"""Network configs read off the shapes of a state dict."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from hyperstyle_rt.errors import HyperStyleError
from torch import Tensor

from ..networks.config import EncoderConfig, GeneratorConfig, HypernetworkConfig, TrunkConfig

State = Mapping[str, Tensor]


class LayoutError(HyperStyleError):
    """A state dict whose keys or shapes are of no known layout."""


def infer_generator(state: State) -> GeneratorConfig:
    """Widths and resolution of a StyleGAN2 generator from its `convs.*` kernels."""
    channels = [_tensor(state, "conv1.conv.weight", "generator", 5).shape[1]]
    while (up := f"convs.{2 * (len(channels) - 1)}.conv.weight") in state or len(channels) == 1:
        channels.append(_tensor(state, up, "generator", 5).shape[1])
    modulation = _tensor(state, "conv1.conv.modulation.weight", "generator", 2)
    depth = sum(key.startswith("style.") and key.endswith(".weight") for key in state)
    return GeneratorConfig(tuple(channels), modulation.shape[1], depth)


def infer_encoder(state: State) -> EncoderConfig:
    """Trunk of a W-encoder; refuses one that reads more than one picture (ReStyle)."""
    stem = _tensor(state, "input_layer.0.weight", "encoder", 4)
    if stem.shape[1] != 3:
        raise LayoutError(
            f"the encoder reads {stem.shape[1]} channels (a ReStyle encoder?); the W-encoder of "
            "HyperStyle reads one RGB picture."
        )
    widths = _block_widths(state, "body.{}.res_layer.1.weight", "encoder")
    squeezed = _tensor(state, "body.0.res_layer.5.fc1.weight", "encoder", 4).shape[0]
    linear = _tensor(state, "linear.weight", "encoder", 2)
    trunk = TrunkConfig(stem.shape[0], _groups(widths))
    return EncoderConfig(trunk, max(1, widths[0] // squeezed), linear.shape[0])


def infer_hypernetwork(state: State, generator: GeneratorConfig) -> HypernetworkConfig:
    """Trunk, tuned layers and code width of a generator's hypernetwork."""
    stem = _tensor(state, "conv1.weight", "hypernet", 4)
    if stem.shape[1] != 6:
        raise LayoutError(
            f"the hypernetwork reads {stem.shape[1]} channels, not those of a picture and a "
            "reconstruction (6)."
        )
    tuned = _tuned_layers(state, generator)
    shared = [i for i in tuned if f"refinement_blocks.{i}.linear.weight" in state]
    _check_shared(shared, generator)
    code_widths, shared_inner, ordinary_inner = set(), 128, 256
    for index in tuned:
        block = f"refinement_blocks.{index}"
        inner = _tensor(state, f"{block}.convs.0.weight", "hypernet", 4).shape[0]
        if index in shared:
            last, shared_inner = _tensor(state, f"{block}.linear.weight", "hypernet", 2), inner
        else:
            at = 0 if generator.layers[index].is_to_rgb else 1
            last = _tensor(state, f"{block}.output.{at}.weight", "hypernet", 4)
            ordinary_inner = inner
        code_widths.add(last.shape[1])
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


def _tuned_layers(state: State, generator: GeneratorConfig) -> list[int]:
    """Indices of the refinement blocks; refuses those the generator has no layer for."""
    prefix = "refinement_blocks."
    names = {key.split(".")[1] for key in state if key.startswith(prefix)}
    if not names:
        raise LayoutError("the hypernetwork has no refinement blocks: nothing to tune.")
    for name in sorted(names):
        if not name.isdecimal() or int(name) >= len(generator.layers):
            raise LayoutError(
                f"the hypernetwork has a block '{prefix}{name}', but the generator's layers are 0 "
                f"to {len(generator.layers) - 1}: the two are not of one model."
            )
    return sorted(int(name) for name in names)


def _check_shared(shared: list[int], generator: GeneratorConfig) -> None:
    """One hypernetwork can serve layers of one shape only, [C,C,3,3]."""
    shapes = {generator.layers[index].weight_shape for index in shared}
    if len(shapes) > 1 or any(out != inner or kernel != 3 for out, inner, kernel, _ in shapes):
        raise LayoutError(
            f"the layers {shared} share a hypernetwork, but their weights are of the shapes "
            f"{sorted(shapes)}: its layout is not known."
        )


def _tensor(state: State, key: str, network: str, dimensions: int) -> Tensor:
    tensor = state.get(key)
    if tensor is None:
        raise LayoutError(f"the checkpoint's {network} has no '{key}': its layout is not known.")
    if tensor.ndim != dimensions or 0 in tensor.shape:
        raise LayoutError(
            f"'{key}' of the checkpoint's {network} has shape {tuple(tensor.shape)}, expected "
            f"{dimensions} dimensions: its layout is not known."
        )
    return tensor


def _block_widths(state: State, pattern: str, network: str) -> list[int]:
    """Output widths of blocks 0, 1, ... of a trunk."""
    widths: list[int] = []
    while (key := pattern.format(len(widths))) in state or not widths:
        widths.append(_tensor(state, key, network, 4).shape[0])
    return widths


def _groups(widths: list[int]) -> tuple[tuple[int, int], ...]:
    """Run lengths: a new width starts a group, and with it a lower resolution."""
    return tuple((width, len(list(run))) for width, run in groupby(widths))
