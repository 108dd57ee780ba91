"""Official-layout checkpoints with synthetic weights: any size, no download.

The values are those of the golden data (`fakeweights`), so a checkpoint made here is the one the
official code was run with. They serve to test numbers and speed; they generate no faces.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakeweights
import numpy as np
import torch
from hyperstyle_export.networks.config import (
    DEFAULT_TUNED_LAYERS,
    OFFICIAL_SHARED_LAYERS,
    EncoderConfig,
    GeneratorConfig,
    HypernetworkConfig,
    HyperStyleConfig,
)
from hyperstyle_export.networks.hyperstyle import HyperStyle
from hyperstyle_rt.errors import HyperStyleError

# Widths at 4, 8, ..., 1024 (docs/spec.md, section 4).
OFFICIAL_CHANNELS = (512, 512, 512, 512, 512, 256, 128, 64, 32)
SIZES = tuple(8 << number for number in range(len(OFFICIAL_CHANNELS) - 1))


def official_generator(size: int) -> GeneratorConfig:
    """The official generator of a size.

    Raises
    ------
    HyperStyleError
        If there is none of that size.
    """
    if size not in SIZES:
        raise HyperStyleError(
            f"there is no generator of {size} px; give one of {', '.join(map(str, SIZES))}"
        )
    return GeneratorConfig(OFFICIAL_CHANNELS[: SIZES.index(size) + 2])


def official_config(
    size: int, layers_to_tune: tuple[int, ...] = DEFAULT_TUNED_LAYERS
) -> HyperStyleConfig:
    """The official networks at a generator size; an empty list tunes all layers, toRGB too.

    Raises
    ------
    HyperStyleError
        As :func:`official_generator`.
    """
    generator = official_generator(size)
    count = len(generator.layers)
    tuned = [i for i in layers_to_tune or range(count) if i < count]
    shared = tuple(i for i in tuned if i in OFFICIAL_SHARED_LAYERS)
    hypernetwork = HypernetworkConfig(tuple(tuned), shared)
    return HyperStyleConfig(generator, EncoderConfig(), hypernetwork)


def synthetic_state(config: HyperStyleConfig) -> dict[str, torch.Tensor]:
    """State of hypernet, decoder and encoder under the keys of the official files."""
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in HyperStyle(config).state_dict().items()}
    del shapes["latent_avg"]
    keys = set(shapes)
    state: dict[str, torch.Tensor] = {}
    for key, shape in shapes.items():
        canonical = fakeweights.canonical(key)  # aliases share one tensor, as in a torch file
        if canonical not in state:
            value = fakeweights.value(canonical, shape, keys | {canonical})
            state[canonical] = torch.from_numpy(np.asarray(value))
        state[key] = state[canonical]
    return {key: state[key] for key in shapes}


def latent_average(config: HyperStyleConfig) -> torch.Tensor:
    """An average latent [L,W] whose rows differ on purpose."""
    shape = (config.generator.num_latents, config.generator.style_width)
    return torch.from_numpy(fakeweights.value("latent_avg", shape, set()))


def write_checkpoints(
    config: HyperStyleConfig,
    directory: Path,
    opts: dict[str, Any] | None = None,
    legacy_container: bool = False,
) -> tuple[Path, Path]:
    """Write a HyperStyle and a W-encoder file as the official training does.

    Returns
    -------
    Paths of the HyperStyle and of the W-encoder checkpoint.
    """
    state, average = synthetic_state(config), latent_average(config)
    encoder = {k: v for k, v in state.items() if k.startswith("encoder.")}
    rest = {k: v for k, v in state.items() if not k.startswith("encoder.")}
    options = {"output_size": config.generator.resolution, "dataset_type": "ffhq_hypernet"}
    contents = {"state_dict": rest, "latent_avg": average, "opts": options | (opts or {})}
    paths = directory / "hyperstyle.pt", directory / "w_encoder.pt"
    zip_container = not legacy_container
    torch.save(contents, paths[0], _use_new_zipfile_serialization=zip_container)
    encoder_contents = {"state_dict": encoder, "latent_avg": average, "opts": {}}
    torch.save(encoder_contents, paths[1], _use_new_zipfile_serialization=zip_container)
    return paths
