"""Generators of StyleGAN3, from NVIDIA's pickles or under `decoder.` in an encoder's file.

docs/spec-methods.md, 4.1 and 4.3. Sizes and widths are read off the names and shapes of the
tensors; what these do not show is in the options of a pickle, and an option that would change the
arithmetic and is not known is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..networks.generator import MAPPING_LR_MUL
from ..networks.stylegan3 import StyleGan3
from ..networks.stylegan3_config import (
    ACTIVATION_RATE,
    CRITICAL_LAYERS,
    FILTER_TAPS,
    FIRST_CUTOFF,
    FIRST_STOPBAND,
    LAST_STOPBAND,
    MARGIN,
    RGB,
    StyleGan3Config,
)
from .checkpoints import State, load_strictly
from .network_pickles import Network, read_network
from .torch_files import CheckpointError, shown

NETWORK = "G_ema"
FIRST_TENSOR = "synthesis.input.affine.weight"
FILTER_ROUNDING = 1e-5  # of filters in files of other versions of scipy

_LAYER = re.compile(r"synthesis\.L(\d{1,3})_(\d{1,5})_(\d{1,5})\.weight")

# Options of a pickle that have to be as published, by the names of NVIDIA's classes.
_FIXED: Mapping[str, object] = {
    "c_dim": 0,
    "img_channels": RGB,
    "num_critical": CRITICAL_LAYERS,
    "first_cutoff": FIRST_CUTOFF,
    "first_stopband": FIRST_STOPBAND,
    "last_stopband_rel": LAST_STOPBAND,
    "margin_size": MARGIN,
    "filter_size": FILTER_TAPS,
    "lrelu_upsampling": ACTIVATION_RATE,
}
# Those that the tensors show, that are of training, or of computing in fp16.
_SHOWN = frozenset(
    [
        "z_dim",
        "w_dim",
        "img_resolution",
        "channel_base",
        "channel_max",
        "num_layers",
        "conv_kernel",
        "use_radial_filters",
        "num_fp16_res",
        "magnitude_ema_beta",
        "mapping_kwargs",
    ]
)
_CLAMP, _SCALE = "conv_clamp", "output_scale"
_MAPPING_FIXED: Mapping[str, object] = {"lr_multiplier": MAPPING_LR_MUL}
_MAPPING_SHOWN = frozenset(["num_layers", "w_avg_beta"])

# What float() raises; of a tensor of several numbers, torch's own.
_NO_NUMBER = (TypeError, ValueError, OverflowError, RuntimeError)


def is_stylegan3(tensors: Mapping[str, object]) -> bool:
    """Whether these are the tensors of such a generator, by their names."""
    return FIRST_TENSOR in tensors


def read_stylegan3(path: Path) -> StyleGan3:
    """Read the generator of a `.pkl`, the average of its training (`G_ema`).

    Raises
    ------
    CheckpointError
        If the file is no such pickle, or its generator is of another kind.
    """
    return stylegan3_of_network(read_network(path, NETWORK), path)


def stylegan3_of_network(network: Network, path: Path) -> StyleGan3:
    """The generator that a pickle describes; raises as :func:`read_stylegan3`."""
    tensors = {name: value.detach().float() for name, value in network.tensors()}
    if not is_stylegan3(tensors):
        raise _wrong(path, f"is a network {network.class_name!r} of an unknown layout")
    options = network.state.get("_init_kwargs")
    return stylegan3_of_tensors(tensors, path, NETWORK, options)


def stylegan3_of_tensors(
    tensors: State, path: Path, prefix: str, options: object = None
) -> StyleGan3:
    """The generator of a state dict.

    Parameters
    ----------
    prefix:
        What its names begin with in the file.
    options:
        Of a pickle; None for those of the published networks.

    Raises
    ------
    CheckpointError
        If it is of another kind, or an option is not known.
    """
    if "mapping.embed.weight" in tensors:
        raise _wrong(path, "is conditional on classes")
    config = _config(tensors, path, _checked(options, path))
    with torch.device("meta"):
        network = StyleGan3(config)
    _check_names(network, tensors, path, prefix)
    load_strictly(network, tensors, path, prefix)
    _check_values(network, path, prefix)
    return network.eval().requires_grad_(False)


def _checked(options: object, path: Path) -> Mapping[str, Any]:
    """Options that the network can be made with."""
    found: Mapping[str, Any] = options if isinstance(options, Mapping) else {}
    mapping = found.get("mapping_kwargs")
    inner: Mapping[str, Any] = mapping if isinstance(mapping, Mapping) else {}
    known = _SHOWN | {_CLAMP, _SCALE}
    for given, fixed, others in ((found, _FIXED, known), (inner, _MAPPING_FIXED, _MAPPING_SHOWN)):
        for name, value in given.items():
            if name in fixed and not _is(value, fixed[name]):
                raise _wrong(path, f"has the option {name} = {shown(value)}, not {fixed[name]!r}")
            if name not in fixed and name not in others:
                raise _wrong(path, f"has an option {str(name)[:40]!r} that is not known")
    return found


def _config(tensors: State, path: Path, options: Mapping[str, Any]) -> StyleGan3Config:
    layers = {
        int(found[1]): (int(found[2]), int(found[3]))
        for name in tensors
        if (found := _LAYER.fullmatch(name)) is not None
    }
    number = len(layers)
    if number <= CRITICAL_LAYERS + 1 or sorted(layers) != list(range(number)):
        raise _wrong(path, f"has the layers {sorted(layers)}")
    resolution, colours = layers[number - 1]
    if colours != RGB:
        raise _wrong(path, f"makes pictures of {colours} channels")
    name = f"synthesis.L0_{layers[0][0]}_{layers[0][1]}"
    kernel, style = tensors[f"{name}.weight"], tensors[FIRST_TENSOR]
    if kernel.ndim != 4 or kernel.shape[2:] not in {(1, 1), (3, 3)} or style.ndim != 2:
        raise _wrong(path, f"has convolutions of the shape {tuple(kernel.shape)}")
    if resolution not in {2**power for power in range(4, 13)}:
        raise _wrong(path, f"makes pictures of {resolution} px, no power of two from 16 to 4096")
    taps = tensors.get(f"{name}.down_filter")
    return StyleGan3Config(
        resolution=resolution,
        channels=tuple(layers[index][1] for index in range(number - 1)),
        kernel_size=kernel.shape[2],
        has_radial_filters=taps is not None and taps.ndim == 2,
        style_width=style.shape[1],
        mapping_depth=sum(
            re.fullmatch(r"mapping\.fc\d+\.weight", key) is not None for key in tensors
        ),
        clamp=_number(options, _CLAMP, StyleGan3Config.clamp, path),
        output_scale=_number(options, _SCALE, StyleGan3Config.output_scale, path) or 0.0,
    )


def _number(
    options: Mapping[str, Any], name: str, default: float | None, path: Path
) -> float | None:
    """A positive option; one that may be None is switched off by it."""
    value = options.get(name, default)
    if value is None and name == _CLAMP:
        return None
    try:
        number = float(value)
    except _NO_NUMBER:
        number = 0.0
    if not 0 < number < float("inf"):
        raise _wrong(path, f"has the option {name} = {shown(value)}, which is no positive number")
    return number


def _check_names(network: StyleGan3, tensors: State, path: Path, prefix: str) -> None:
    """Say in a sentence where layers have other sides than their cutoffs ask for."""
    own = {spec.name for spec in network.config.layers}
    others = {key.split(".")[1] for key in tensors if _LAYER.fullmatch(key)} - own
    if others:
        raise _wrong(
            path,
            f"has a layer '{prefix}.synthesis.{min(others)}', where {network.config.resolution} px "
            "and the published cutoffs ask for another side",
        )


def _check_values(network: StyleGan3, path: Path, prefix: str) -> None:
    """Refuse filters of other cutoffs, and a motion that is built in."""
    designed = StyleGan3(network.config).state_dict()
    for key, value in network.state_dict().items():
        if key.endswith("_filter") and (value - designed[key]).abs().max() > FILTER_ROUNDING:
            raise _wrong(path, f"has another filter '{prefix}.{key}' than its cutoff asks for")
    if not torch.equal(network.synthesis.input.transform, torch.eye(3)):
        raise _wrong(
            path, f"has a motion built in ('{prefix}.synthesis.input.transform' is no identity)"
        )
    for layer in network.synthesis.layers():
        if not layer.magnitude_ema > 0:
            name = f"{prefix}.synthesis.{layer.spec.name}.magnitude_ema"
            raise _wrong(path, f"has '{name}' = {float(layer.magnitude_ema):g}, not above 0")


def _is(value: object, wanted: object) -> bool:
    """Whether an option has a value, up to the rounding of a float."""
    try:
        return abs(float(value) - float(wanted)) <= 1e-9  # type: ignore[arg-type]
    except _NO_NUMBER:
        return False


def _wrong(path: Path, problem: str) -> CheckpointError:
    return CheckpointError(
        f"the generator in {path} {problem}; give an unconditional StyleGAN3 generator, of the "
        "configuration T or R."
    )
