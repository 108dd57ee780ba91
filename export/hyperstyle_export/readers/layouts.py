"""Network configs read off the shapes of a state dict."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from hyperstyle_rt.errors import HyperStyleError
from torch import Tensor

from ..networks.config import (
    EncoderConfig,
    GeneratorConfig,
    HypernetworkConfig,
    StyleEncoderConfig,
    TrunkConfig,
)
from ..networks.encoder_kinds import EncoderKind
from ..networks.latent_layout import LatentLayout

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


def infer_style_encoder(
    state: State, kind: EncoderKind, generator: LatentLayout
) -> StyleEncoderConfig:
    """Trunk and style blocks of an encoder of pSp, e4e or ReStyle, for the latents of a generator.

    Raises
    ------
    LayoutError
        If the state dict is of no known layout, or its latents are not those of the generator.
    """
    if kind.body == "ir_se":
        stem = _tensor(state, "input_layer.0.weight", "encoder", 4)
        widths = _block_widths(state, "body.{}.res_layer.1.weight", "encoder")
        squeezed = _tensor(state, "body.0.res_layer.5.fc1.weight", "encoder", 4).shape[0]
        reduction = max(1, widths[0] // squeezed)
    else:
        stem = _tensor(state, "conv1.weight", "encoder", 4)
        widths, reduction = _block_widths(state, "body.{}.conv1.weight", "encoder"), 1
    config = StyleEncoderConfig(
        body=kind.body,
        head=kind.head,
        trunk=TrunkConfig(stem.shape[0], _groups(widths)),
        in_channels=stem.shape[1],
        num_latents=generator.num_latents,
        style_width=_latent_width(state, kind),
        block_depths=() if kind.head == "mean" else _block_depths(state),
        is_progressive=kind.is_progressive,
        se_reduction=reduction,
    )
    _check_latents(config, generator)
    if kind.is_iterative and config.in_channels != 6:
        raise LayoutError(
            f"the encoder reads {config.in_channels} channels, where ReStyle's read 6: a picture "
            "and its reconstruction."
        )
    return config


def _latent_width(state: State, kind: EncoderKind) -> int:
    key = "linear.weight" if kind.head == "mean" else "styles.0.linear.weight"
    return _tensor(state, key, "encoder", 2).shape[0]


def _block_depths(state: State) -> tuple[int, ...]:
    """Numbers of convolutions of style blocks 0, 1, ..."""
    depths: list[int] = []
    while (block := f"styles.{len(depths)}") and f"{block}.linear.weight" in state:
        keys = (key for key in state if key.startswith(f"{block}.convs."))
        depths.append(sum(key.endswith(".weight") for key in keys))
    return tuple(depths)


def _check_latents(config: StyleEncoderConfig, generator: LatentLayout) -> None:
    """Refuse an encoder of another generator's latents."""
    rows = len(config.block_depths)
    if config.style_width != generator.style_width:
        raise LayoutError(
            f"the encoder makes latents of width {config.style_width}, but the generator wants "
            f"{generator.style_width}: the two are not of one model."
        )
    if config.block_depths and rows != generator.num_latents:
        made_for = f"{2 * 2 ** (rows // 2)} px" if rows % 2 == 0 and rows < 24 else "another size"
        raise LayoutError(
            f"the encoder makes {rows} rows of latents (for a generator of {made_for}), but the "
            f"generator of {generator.resolution} px wants {generator.num_latents}: the two are "
            "not of one model."
        )
    if config.head == "pyramid" and len(config.trunk.groups) < 3:
        raise LayoutError("the encoder's trunk has no three feature maps to make a pyramid of.")


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
