"""Official checkpoint files -> reference networks (docs/spec.md, section 1).

Every config is inferred from the shapes that are stored, so the official sizes and our small models
take the same path. A file of another kind is told what it is.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..networks.config import GeneratorConfig, HyperStyleConfig
from ..networks.generator import Generator
from ..networks.hyperstyle import HyperStyle
from ..networks.layers import fir_kernel
from .layouts import LayoutError, infer_encoder, infer_generator, infer_hypernetwork
from .torch_files import CheckpointError, read_torch_file

logger = logging.getLogger(__name__)

State = dict[str, Tensor]

OFFICIAL_INPUT_SIZE = (256, 256)
CARS_INPUT_SIZE = (192, 256)
AVERAGE_LATENT_SAMPLES = 100_000
AVERAGE_LATENT_CHUNKS = 10


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
        Replaces the file's own option; one that contains "cars" crops rows;
        docs/spec.md, section 2.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged, of another kind, or of an unsupported layout.
    """
    file = read_hyperstyle(checkpoint)
    encoder = read_w_encoder(w_encoder)
    with _layout_of(checkpoint):
        generator = infer_generator(file.decoder)
        hypernetwork = infer_hypernetwork(file.hypernet, generator)
    with _layout_of(w_encoder):
        encoder_config = infer_encoder(encoder)
    if encoder_config.style_width != generator.style_width:
        raise CheckpointError(
            f"{w_encoder} makes latents of width {encoder_config.style_width}, but the generator "
            f"in {checkpoint} wants {generator.style_width}: the files are not of one model."
        )
    kind = str(file.opts.get("dataset_type", "") if dataset_type is None else dataset_type)
    config = HyperStyleConfig(
        generator=generator,
        encoder=encoder_config,
        hypernetwork=hypernetwork,
        input_size=_input_size(kind, file.opts, checkpoint),
        crop_rows=_crop_rows(kind, generator),
    )
    _check_input_size(config, checkpoint)
    _check_fir(file.decoder, checkpoint, "decoder")
    with torch.device("meta"):
        model = HyperStyle(config)
    _load(model.encoder, encoder, w_encoder, "encoder")
    _load(model.hypernet, _with_aliases(model, file.hypernet, checkpoint), checkpoint, "hypernet")
    _load(model.decoder, file.decoder, checkpoint, "decoder")
    model.latent_avg = _latent_average(file.latent_avg, model, checkpoint)
    return model.eval().requires_grad_(False)


def read_hyperstyle(path: Path) -> HyperStyleFile:
    """Read a HyperStyle checkpoint (`hypernet.*` and `decoder.*`)."""
    contents = read_torch_file(path)
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
    contents = read_torch_file(path)
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
    contents = read_torch_file(path)
    state = contents.get("g_ema")
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"{path} is {describe(contents)}; a StyleGAN2 generator file in rosinality's layout "
            "has a 'g_ema' entry."
        )
    state = _floats(state)
    _check_fir(state, path, "g_ema")
    with _layout_of(path):
        config = infer_generator(state)
    with torch.device("meta"):
        generator = Generator(config)
    _load(generator, state, path, "g_ema")
    average = contents.get("latent_avg")
    if isinstance(average, Tensor):
        average = _average_rows(average, 1, config.style_width, path)[0]
    return generator.eval().requires_grad_(False), average


@torch.no_grad()
def average_latent(generator: Generator) -> Tensor:
    """Mean of mapped random vectors [W], for files that store no average (seed 0)."""
    source = torch.Generator().manual_seed(0)
    width, total = generator.config.style_width, torch.zeros(generator.config.style_width)
    for _ in range(AVERAGE_LATENT_CHUNKS):
        z = torch.randn(AVERAGE_LATENT_SAMPLES // AVERAGE_LATENT_CHUNKS, width, generator=source)
        total += generator.map(z).sum(dim=0)
    return total / AVERAGE_LATENT_SAMPLES


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


@contextmanager
def _layout_of(path: Path) -> Iterator[None]:
    """Name the file in what is said of its layout."""
    try:
        yield
    except LayoutError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _state_dict(contents: Mapping[str, Any]) -> Mapping[str, Any]:
    """`state_dict` if present, else the dictionary itself (docs/spec.md, section 1)."""
    state = contents.get("state_dict")
    return state if isinstance(state, Mapping) else contents


def _with_prefix(state: Mapping[str, Any], prefix: str) -> State:
    start = f"{prefix}."
    return _floats({k[len(start) :]: v for k, v in state.items() if str(k).startswith(start)})


def _floats(state: Mapping[str, Any]) -> State:
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


def _options(contents: Mapping[str, Any]) -> dict[str, Any]:
    opts = contents.get("opts")
    if isinstance(opts, argparse.Namespace):
        opts = vars(opts)
    return dict(opts) if isinstance(opts, Mapping) else {}


def _input_size(dataset_type: str, opts: Mapping[str, Any], path: Path) -> tuple[int, int]:
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
            f"{path}: the option 'input_size' is {size!r}, not two positive integers "
            "[height, width]."
        )
    return size[0], size[1]


def _check_input_size(config: HyperStyleConfig, path: Path) -> None:
    """Refuse sizes that the pooling or the shared refinement blocks cannot work on."""
    (height, width), (rows, columns) = config.image_size, config.input_size
    smaller = height % rows == 0 and width % columns == 0
    larger = rows % height == 0 and columns % width == 0
    if not smaller and not larger:
        raise CheckpointError(
            f"{path}: a generated image of {height} x {width} cannot be pooled to the input size "
            f"{rows} x {columns}, only in whole ratios; give another --dataset-type or option "
            "'input_size'."
        )
    most = 16 * 2 ** len(config.hypernetwork.trunk.groups)  # four more halvings leave one pixel
    if config.hypernetwork.shared_layers and max(rows, columns) > most:
        raise CheckpointError(
            f"{path}: the input size {rows} x {columns} is larger than the {most} x {most} that "
            "its shared refinement blocks reduce to one pixel."
        )


def _crop_rows(dataset_type: str, generator: GeneratorConfig) -> tuple[int, int] | None:
    """Cars are wider than high: an eighth of the rows goes at each end; docs/spec.md, section 2."""
    if "cars" not in dataset_type:
        return None
    return generator.resolution // 8, generator.resolution * 7 // 8


def _check_fir(state: State, path: Path, prefix: str) -> None:
    for key, kernel in state.items():
        if not key.endswith(".kernel"):
            continue
        expected = fir_kernel()
        if kernel.shape != expected.shape or not torch.allclose(kernel, expected, atol=1e-6):
            raise CheckpointError(
                f"{path}: '{prefix}.{key}' is not the [1, 3, 3, 1] filter; generators with another "
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
            if (shared := state.get(f"shared_weight_hypernet.{name}")) is not None:
                merged[f"refinement_blocks.{index}.hypernet.{name}"] = shared
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
    for key in {id(state[k]): k for k in own}.values():  # aliases once
        if not torch.isfinite(state[key].sum()):  # takes no memory, and one wrong term spoils it
            raise CheckpointError(
                f"{path}: '{prefix}.{key}' holds NaN or infinity; use an earlier checkpoint of "
                "that training."
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
    return _average_rows(stored, rows, width, path)


def _average_rows(stored: Tensor, rows: int, width: int, path: Path) -> Tensor:
    """An average stored as [L,W], [1,W] or [W] -> [L,W]."""
    if stored.shape[-1:] != (width,) or stored.numel() not in (width, rows * width):
        raise CheckpointError(
            f"{path}: 'latent_avg' has shape {tuple(stored.shape)}, expected ({rows}, {width}) or "
            f"({width},)."
        )
    if not torch.isfinite(stored).all():
        raise CheckpointError(f"{path}: 'latent_avg' holds NaN or infinity.")
    return stored.detach().float().reshape(-1, width).expand(rows, width).contiguous()
