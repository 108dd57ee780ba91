"""The steps of building a bundle of StyleGAN3, after its generator has been read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hyperstyle_rt.formats.bundle import Bundle
from numpy.typing import NDArray

from .bundles.rounding import rounded_half
from .bundles.stylegan3_verification import (
    check_stylegan3,
    measure_half_generator,
    measure_stylegan3,
)
from .bundles.stylegan3_writer import add_stylegan3_half_graphs, write_stylegan3_bundle
from .bundles.verification import measure_half
from .bundles.writer import BundleFacts, write_manifest
from .graphs.storage import Storage
from .networks.stylegan3 import StyleGan3
from .networks.stylegan3_model import StyleGan3Model
from .readers.encoders import EncoderFile
from .readers.family import Sources
from .readers.lpips import load_lpips
from .readers.stylegan3_family import load_stylegan3
from .requests import Precision

OnProgress = Callable[[str], None]


@dataclass(frozen=True)
class StyleGan3Request:
    """What a bundle is made of.

    Attributes
    ----------
    generator, path:
        The generator and its file.
    sources, files:
        What was asked for, and the encoders' files.
    lpips:
        Backbone and heads; None for a bundle that does not descend.
    facts:
        What the manifest is asked to say.
    storage:
        Type the weights are stored in.
    """

    generator: StyleGan3
    path: Path
    sources: Sources
    files: Sequence[EncoderFile]
    lpips: Mapping[str, Path] | None
    facts: BundleFacts
    storage: Storage


def build_stylegan3(
    request: StyleGan3Request,
    precision: Precision,
    example: NDArray[np.uint8],
    stage: Path,
    on_progress: OnProgress,
) -> dict[str, Any]:
    """Networks -> bundle; gives the figures measured.

    Parameters
    ----------
    example:
        uint8 [H,W,3], what the bundle is compared on.
    stage:
        Directory that it is written to.
    """
    lpips = None if request.lpips is None else load_lpips(*request.lpips.values())
    model = load_stylegan3(request.generator, request.path, request.sources, request.files, lpips)
    bundle = write_stylegan3_bundle(model, stage, request.facts, request.storage, on_progress)
    on_progress("comparison with the torch reference")
    figures = measure_stylegan3(model, bundle, example)
    check_stylegan3(figures, request.storage)
    if "fp16" in precision.value:
        bundle = add_stylegan3_half_graphs(model, bundle, on_progress)
        on_progress("comparison of fp16 with fp32")
        figures["fp16"] = _measure_half(model, bundle, example)
    write_manifest(stage, replace(bundle.manifest, accuracy=figures))
    return figures


def _measure_half(
    model: StyleGan3Model, bundle: Bundle, example: NDArray[np.uint8]
) -> dict[str, Any]:
    """Of the generator alone, or of the encoders' inversions, which render with it."""
    if model.encoders:
        return measure_half(bundle, example)
    with rounded_half(bundle) as rounded:
        return measure_half_generator(model, bundle, rounded)
