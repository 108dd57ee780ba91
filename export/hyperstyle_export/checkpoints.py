"""Official checkpoint files -> reference networks (spec 1).

Files are read with `weights_only=True`: nothing in them is executed. Every config is inferred from
the shapes that are stored, so the official sizes and our small models take the same path. A file of
another kind is told what it is.
"""

from __future__ import annotations

import argparse
import logging
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hyperstyle_rt.errors import HyperStyleError
from torch import Tensor

from .layouts import infer_encoder, infer_generator, infer_hypernetwork
from .networks.config import GeneratorConfig, HyperStyleConfig
from .networks.generator import Generator
from .networks.hyperstyle import HyperStyle
from .networks.layers import fir_kernel

logger = logging.getLogger(__name__)

State = dict[str, Tensor]

OFFICIAL_INPUT_SIZE = (256, 256)
CARS_INPUT_SIZE = (192, 256)
AVERAGE_LATENT_SAMPLES = 100_000

# Harmless types that option dictionaries in real files hold beside tensors and plain values.
_SAFE_GLOBALS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64", "bool")},
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
]


class CheckpointError(HyperStyleError):
    """A checkpoint that cannot be read, or is not what it was given as."""


@dataclass(frozen=True)
class HyperStyleFile:
    """What inference needs of a HyperStyle checkpoint; prefixes removed."""

    hypernet: State
    decoder: State
    latent_avg: Tensor | None
    opts: dict[str, Any] = field(default_factory=dict)


def load_model(checkpoint: Path, w_encoder: Path, dataset_type: str | None = None) -> HyperStyle:
    """Read a HyperStyle file and its W-encoder file into the reference networks.

    Parameters
    ----------
    checkpoint, w_encoder:
        torch.save'd files, zip or legacy container.
    dataset_type:
        Replaces the file's own option; one that contains "cars" crops rows (spec 2).

    Raises
    ------
    CheckpointError
        If a file is missing, damaged, of another kind, or of an unsupported layout.
    """
    file = read_hyperstyle(checkpoint)
    encoder = read_w_encoder(w_encoder)
    generator = infer_generator(file.decoder)
    kind = str(file.opts.get("dataset_type", "") if dataset_type is None else dataset_type)
    config = HyperStyleConfig(
        generator=generator,
        encoder=infer_encoder(encoder),
        hypernetwork=infer_hypernetwork(file.hypernet),
        input_size=_input_size(kind, file.opts, checkpoint),
        crop_rows=_crop_rows(kind, generator),
    )
    if config.encoder.style_width != generator.style_width:
        raise CheckpointError(
            f"{w_encoder} makes latents of width {config.encoder.style_width}, but the generator "
            f"in {checkpoint} wants {generator.style_width}: the files are not of one model."
        )
    _check_fir(file.decoder, checkpoint)
    with torch.device("meta"):
        model = HyperStyle(config)
    _load(model.encoder, encoder, w_encoder, "encoder")
    _load(model.hypernet, _with_aliases(model, file.hypernet, checkpoint), checkpoint, "hypernet")
    _load(model.decoder, file.decoder, checkpoint, "decoder")
    model.latent_avg = _latent_average(file.latent_avg, model, checkpoint)
    return model.eval().requires_grad_(False)


def read_hyperstyle(path: Path) -> HyperStyleFile:
    """Read a HyperStyle checkpoint (`hypernet.*` and `decoder.*`)."""
    contents = _read(path)
    state = _state_dict(contents)
    hypernet, decoder = _with_prefix(state, "hypernet"), _with_prefix(state, "decoder")
    if not hypernet or not decoder:
        raise CheckpointError(
            f"{path} is {describe(contents)}; --checkpoint wants a HyperStyle file with "
            "'hypernet.' and 'decoder.' keys."
        )
    opts = _options(contents)
    separable = any(".make_kernel_" in key or ".kernel_linear_" in key for key in hypernet)
    if separable or str(opts.get("encoder_type", "")).endswith("Separable"):
        raise CheckpointError(
            f"{path} holds the Separable hypernetwork (SharedWeightsHyperNetResNetSeparable), "
            "whose offsets are not an affine function of a short code: it is not supported; use a "
            "SharedWeightsHyperNetResNet checkpoint."
        )
    average = contents.get("latent_avg")
    return HyperStyleFile(hypernet, decoder, average if isinstance(average, Tensor) else None, opts)


def read_w_encoder(path: Path) -> State:
    """Read a W-encoder checkpoint's `encoder.*` tensors; its own decoder is not used."""
    contents = _read(path)
    encoder = _with_prefix(_state_dict(contents), "encoder")
    if "linear.weight" not in encoder or "input_layer.0.weight" not in encoder:
        raise CheckpointError(
            f"{path} is {describe(contents)}; --w-encoder wants a W-encoder file with "
            "'encoder.input_layer.' and 'encoder.linear.' keys."
        )
    return encoder


def read_generator(path: Path) -> tuple[Generator, Tensor | None]:
    """Read a rosinality StyleGAN2 file (`g_ema`), trained or fine-tuned.

    Returns
    -------
    Generator, Tensor or None
        The network in eval mode, and the average latent [W] if the file has one.
    """
    contents = _read(path)
    state = contents.get("g_ema")
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"{path} is {describe(contents)}; a StyleGAN2 generator file in rosinality's layout "
            "has a 'g_ema' entry."
        )
    state = _floats(state)
    _check_fir(state, path)
    with torch.device("meta"):
        generator = Generator(infer_generator(state))
    _load(generator, state, path, "g_ema")
    average = contents.get("latent_avg")
    return generator.eval().requires_grad_(False), (
        average.float().reshape(-1) if isinstance(average, Tensor) else None
    )


def average_latent(generator: Generator, samples: int = AVERAGE_LATENT_SAMPLES) -> Tensor:
    """Mean of mapped random vectors [W], for files that store no average (seed 0)."""
    source = torch.Generator().manual_seed(0)
    width, total = generator.config.style_width, torch.zeros(generator.config.style_width)
    chunk = 10_000
    for _ in range(samples // chunk):
        total += generator.map(torch.randn(chunk, width, generator=source)).sum(dim=0)
    return total / (samples // chunk * chunk)


def describe(contents: Mapping[str, Any]) -> str:
    """A few words that say what kind of checkpoint this is."""
    if "g_ema" in contents:
        return "a StyleGAN2 generator (rosinality's layout)"
    keys = [str(k) for k in _state_dict(contents)]

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
    if has("convs.") and has("to_rgbs."):
        return "a bare StyleGAN2 generator state dict"
    if has("layer1.") and has("fc."):
        return "a ResNet classifier"
    shown = ", ".join(sorted({key.split(".")[0] for key in keys})[:5])
    return f"a torch file of an unknown kind (top-level names: {shown or 'none'})"


def _read(path: Path) -> dict[str, Any]:
    """Load a torch file without running anything in it."""
    if not path.exists():
        raise CheckpointError(f"{path} does not exist.")
    if path.is_dir():
        raise CheckpointError(f"{path} is a directory; give the checkpoint file itself.")
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS):
            # Zip files are mapped, not copied: a 1.3 GB hypernetwork costs no memory of its own.
            contents = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds objects other than tensors and plain values, or is no torch file; "
            "nothing in it was run. Save its state dict with torch.save and use that file "
            f"({_first_line(error)})."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, AssertionError) as error:
        raise CheckpointError(
            f"{path} is damaged or no torch checkpoint; download or copy it again "
            f"({_first_line(error)})."
        ) from error
    if not isinstance(contents, Mapping):
        raise CheckpointError(f"{path} holds a {type(contents).__name__}, not a dictionary.")
    return dict(contents)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def _state_dict(contents: Mapping[str, Any]) -> Mapping[str, Any]:
    """`state_dict` if present, else the dictionary itself (spec 1)."""
    state = contents.get("state_dict")
    return state if isinstance(state, Mapping) else contents


def _with_prefix(state: Mapping[str, Any], prefix: str) -> State:
    start = f"{prefix}."
    return _floats({k[len(start) :]: v for k, v in state.items() if str(k).startswith(start)})


def _floats(state: Mapping[str, Any]) -> State:
    """Tensors only, floating ones as float32; batch counters are of no use at inference."""
    return {
        k: v.float() if v.is_floating_point() else v
        for k, v in state.items()
        if isinstance(v, Tensor) and not k.endswith("num_batches_tracked")
    }


def _options(contents: Mapping[str, Any]) -> dict[str, Any]:
    opts = contents.get("opts", {})
    return dict(vars(opts) if isinstance(opts, argparse.Namespace) else opts or {})


def _input_size(dataset_type: str, opts: Mapping[str, Any], path: Path) -> tuple[int, int]:
    """Official sizes, or our own extension: an `input_size` option [height, width]."""
    size = opts.get("input_size")
    if size is None:
        return CARS_INPUT_SIZE if "cars" in dataset_type else OFFICIAL_INPUT_SIZE
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(int(v) > 0 for v in size)):
        raise CheckpointError(f"{path}: option 'input_size' is {size!r}, not [height, width].")
    return int(size[0]), int(size[1])


def _crop_rows(dataset_type: str, generator: GeneratorConfig) -> tuple[int, int] | None:
    """Cars are wider than high: an eighth of the rows is cut above and below (spec 2)."""
    if "cars" not in dataset_type:
        return None
    return generator.resolution // 8, generator.resolution * 7 // 8


def _check_fir(decoder: State, path: Path) -> None:
    for key, kernel in decoder.items():
        if key.endswith(".kernel") and not torch.allclose(kernel, fir_kernel(), atol=1e-6):
            raise CheckpointError(
                f"{path}: '{key}' is not the [1, 3, 3, 1] filter; generators with another "
                "up-sampling filter are not supported."
            )


def _with_aliases(model: HyperStyle, state: State, path: Path) -> State:
    """Point the names of the shared hypernetwork at one set of tensors; refuse if they differ."""
    merged = dict(state)
    if not model.config.hypernetwork.shared_layers:  # then the official file stores it unused
        return {k: v for k, v in merged.items() if not k.startswith("shared_weight_hypernet.")}
    for key, value in state.items():
        head, _, name = key.rpartition(".")
        if not head.endswith(".hypernet"):
            continue
        shared = state.get(f"shared_weight_hypernet.{name}")
        if shared is None:
            raise CheckpointError(f"{path} lacks 'hypernet.shared_weight_hypernet.{name}'.")
        same = shared.data_ptr() == value.data_ptr() and shared.shape == value.shape
        if not same and not torch.equal(shared, value):
            raise CheckpointError(
                f"{path}: 'hypernet.{key}' differs from 'hypernet.shared_weight_hypernet.{name}', "
                "of which it must be an alias; the file was converted wrongly."
            )
        merged[key] = shared
    for index in model.config.hypernetwork.shared_layers:  # a file may store the one set only
        for name in ("w1", "b1", "w2", "b2"):
            alias = f"refinement_blocks.{index}.hypernet.{name}"
            merged.setdefault(alias, merged[f"shared_weight_hypernet.{name}"])
    return merged


def _load(module: torch.nn.Module, state: State, path: Path, prefix: str) -> None:
    """Strict loading with the first differences named."""
    own = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    problems = [f"'{prefix}.{k}' is missing" for k in own if k not in state]
    problems += [f"'{prefix}.{k}' is not expected" for k in state if k not in own]
    problems += [
        f"'{prefix}.{k}' has shape {tuple(state[k].shape)}, expected {tuple(v.shape)}"
        for k, v in own.items()
        if k in state and state[k].shape != v.shape
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{path} has a layout this version does not know: {'; '.join(problems[:3])}{more}."
        )
    counters = {
        k: torch.zeros((), dtype=torch.long)
        for k in module.state_dict()
        if k.endswith("num_batches_tracked")
    }
    module.load_state_dict({**state, **counters}, assign=True)


def _latent_average(stored: Tensor | None, model: HyperStyle, path: Path) -> Tensor:
    """The average as [L,W]: stored with L rows, with one, or computed if it is absent."""
    rows, width = model.config.generator.num_latents, model.config.generator.style_width
    if stored is None:
        logger.warning(
            "%s stores no average latent; using the mean of %d mapped samples.",
            path,
            AVERAGE_LATENT_SAMPLES,
        )
        stored = average_latent(model.decoder)
    if stored.numel() not in (width, rows * width):
        raise CheckpointError(
            f"{path}: 'latent_avg' has shape {tuple(stored.shape)}, expected ({rows}, {width}) or "
            f"({width},)."
        )
    return stored.float().reshape(-1, width).expand(rows, width).contiguous()
