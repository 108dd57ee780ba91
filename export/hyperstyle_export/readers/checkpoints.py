"""What checkpoint files of every kind have in common: state dicts, options, strict loading."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..networks.config import GeneratorConfig
from ..networks.layers import fir_kernel
from .layouts import LayoutError
from .torch_files import CheckpointError, shown

State = dict[str, Tensor]

OFFICIAL_INPUT_SIZE = (256, 256)
CARS_INPUT_SIZE = (192, 256)

_MODULE = "module."


def describe(contents: Mapping[str, Any]) -> str:
    """A few words that say what kind of checkpoint this is."""
    if "g_ema" in contents:
        return "a StyleGAN2 generator (rosinality's layout)"
    keys = [str(k) for k in state_dict(contents)]

    def has(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in keys)

    if has("hypernet."):
        return "a HyperStyle checkpoint"
    if has("encoder.styles."):
        return "a pSp, e4e or ReStyle encoder checkpoint"
    if has("encoder.linear."):
        return "a W-encoder checkpoint"
    if has("output_layer.") and has("body."):
        return "an ArcFace or CurricularFace recognition network"
    if has("synthesis.layer0."):
        return "an IDInvert generator (StyleGAN, version 1)"
    if has("block0.conv.") and has("block1.conv1."):
        return "an IDInvert encoder, which goes with its own generator (--generator)"
    if has("convs.") and has("to_rgbs."):
        return "a bare StyleGAN2 generator state dict"
    if has("layer1.") and has("fc."):
        return "a ResNet classifier"
    names = sorted({key.split(".")[0] for key in keys})
    if len(names) == 1:
        return (
            f"a torch file of an unknown kind (all is under {shown(names[0])}: save what is under "
            "it as 'state_dict')"
        )
    return f"a torch file of an unknown kind (top-level names: {', '.join(names[:5]) or 'none'})"


@contextmanager
def layout_of(path: Path) -> Iterator[None]:
    """Name the file in what is said of its layout."""
    try:
        yield
    except LayoutError as error:
        raise CheckpointError(f"{path}: {error}") from error


def state_dict(contents: Mapping[str, Any]) -> Mapping[str, Any]:
    """`state_dict` if present, else the dictionary itself (docs/spec.md, section 1)."""
    state = contents.get("state_dict")
    return without_module(state if isinstance(state, Mapping) else contents)


def without_module(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """A state dict without the `module.` that torch's DataParallel puts before all names."""
    if not all(str(key).startswith(_MODULE) for key in state):
        return state
    return {key.removeprefix(_MODULE): value for key, value in state.items()}


def with_prefix(state: Mapping[str, Any], prefix: str) -> State:
    start = f"{prefix}."
    return floats({k[len(start) :]: v for k, v in state.items() if str(k).startswith(start)})


def floats(state: Mapping[str, Any]) -> State:
    """Tensors only, as float32; batch counters are of no use at inference.

    Aliases stay aliases when they are converted: ten copies of one hypernetwork would not fit.
    """
    converted: dict[object, Tensor] = {}
    floats = {}
    for key, value in state.items():
        if isinstance(value, Tensor) and not str(key).endswith("num_batches_tracked"):
            place = value.data_ptr(), value.dtype, value.shape, value.stride()
            if place not in converted:
                converted[place] = value.detach().float()
            floats[str(key)] = converted[place]
    return floats


def options(contents: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The options of a file's training; CheckpointError if one is a tensor, which none ever is."""
    opts = contents.get("opts")
    if isinstance(opts, argparse.Namespace):
        opts = vars(opts)
    found = dict(opts) if isinstance(opts, Mapping) else {}
    for name, value in found.items():
        if isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: the option {shown(name)} is a tensor, not a plain value; give the file "
                "that the training wrote."
            )
    return found


def check_fir(state: State, path: Path, prefix: str) -> None:
    for key, kernel in state.items():
        if not key.endswith(".kernel"):
            continue
        expected = fir_kernel()
        if kernel.shape != expected.shape or not torch.allclose(kernel, expected, atol=1e-6):
            raise CheckpointError(
                f"{path}: '{prefix}.{key}' is not the [1, 3, 3, 1] filter; generators with another "
                "up-sampling filter are not supported."
            )


def load_strictly(module: torch.nn.Module, state: State, path: Path, prefix: str) -> None:
    """Strict loading with the first differences named; the prefix is empty where keys have none."""
    start = f"{prefix}." if prefix else ""
    own = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    problems = [f"'{start}{k}' is missing" for k in own if k not in state]
    problems += [f"'{start}{k}' is not expected" for k in state if k not in own]
    problems += [
        f"'{start}{k}' has shape {tuple(state[k].shape)}, expected {tuple(v.shape)}"
        for k, v in own.items()
        if k in state and state[k].shape != v.shape
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{path} has a layout this version does not know: {'; '.join(problems[:3])}{more}."
        )
    for key in {id(state[k]): k for k in own}.values():  # aliases once
        if not torch.isfinite(state[key].sum()):  # takes no memory, and one wrong term spoils it
            raise CheckpointError(
                f"{path}: '{start}{key}' holds NaN or infinity; use an earlier checkpoint of "
                "that training."
            )
    counters = {
        k: torch.zeros((), dtype=torch.long)
        for k in module.state_dict()
        if k.endswith("num_batches_tracked")
    }
    module.load_state_dict({**state, **counters}, assign=True)


def average_rows(stored: Tensor, rows: int, width: int, path: Path) -> Tensor:
    """An average stored as [L,W], [1,W] or [W] -> [L,W]."""
    if stored.shape[-1:] != (width,) or stored.numel() not in (width, rows * width):
        raise CheckpointError(
            f"{path}: 'latent_avg' has shape {tuple(stored.shape)}, expected ({rows}, {width}) or "
            f"({width},)."
        )
    if not torch.isfinite(stored).all():
        raise CheckpointError(f"{path}: 'latent_avg' holds NaN or infinity.")
    return stored.detach().float().reshape(-1, width).expand(rows, width).contiguous()


def input_size(dataset_type: str, opts: Mapping[str, Any], path: Path) -> tuple[int, int]:
    """Official sizes, or our own extension: an `input_size` option [height, width]."""
    size = opts.get("input_size")
    if size is None:
        return CARS_INPUT_SIZE if "cars" in dataset_type else OFFICIAL_INPUT_SIZE
    if not (
        isinstance(size, list | tuple)
        and len(size) == 2
        and all(type(side) is int and side > 0 for side in size)
    ):
        raise CheckpointError(
            f"{path}: the option 'input_size' is {shown(size)}, not two positive integers "
            "[height, width]."
        )
    return size[0], size[1]


def crop_rows(dataset_type: str, generator: GeneratorConfig) -> tuple[int, int] | None:
    """Cars are wider than high: an eighth of the rows goes at each end; docs/spec.md, section 2."""
    if "cars" not in dataset_type:
        return None
    return generator.resolution // 8, generator.resolution * 7 // 8
