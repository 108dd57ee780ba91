"""Reference networks -> ONNX graphs (design 2). One module per graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import onnx_ir as ir

from ..networks.hyperstyle import HyperStyle
from ..networks.lpips import Lpips
from .builder import Precision, save_model
from .encoder import build_encoder
from .generator import build_generator
from .generator_half import build_half_generator
from .hypernet import build_hypernet
from .mapping import build_mapping
from .refine import (
    build_channels,
    build_channels_adjoint,
    build_features,
    build_refine,
    build_weights_adjoint,
)
from .weights import build_weights

GRAPHS: dict[str, Callable[[HyperStyle], ir.Model]] = {
    "encoder": build_encoder,
    "hypernet": build_hypernet,
    "weights": build_weights,
    "generator": build_generator,
    "mapping": build_mapping,
}
"""Role in the bundle -> builder, in the order they are written."""

REFINEMENT_GRAPHS: dict[str, Callable[[HyperStyle], ir.Model]] = {
    "features": build_features,
    "refine": build_refine,
    "weights_adjoint": build_weights_adjoint,
    "channels": build_channels,
    "channels_adjoint": build_channels_adjoint,
}
"""The same for the graphs that refine inversions, which read the tensors of those above."""


def refinement_graphs_with(lpips: Lpips) -> dict[str, Callable[[HyperStyle], ir.Model]]:
    """`REFINEMENT_GRAPHS` whose perceptual term is LPIPS."""
    features, refine = partial(build_features, lpips=lpips), partial(build_refine, lpips=lpips)
    return {**REFINEMENT_GRAPHS, "features": features, "refine": refine}


HALF_GRAPHS: dict[str, Callable[[HyperStyle], ir.Model]] = {
    "encoder": partial(build_encoder, precision="fp16"),
    "hypernet": partial(build_hypernet, precision="fp16"),
    "weights": partial(build_weights, precision="fp16"),
    "generator": build_half_generator,
}
"""The same for the twins in fp16; all tensors between graphs stay float32 but weight.<layer>."""

build_half_channels = partial(build_channels, precision="fp16")
"""Renders refined inversions in fp16; to refine takes float32."""

__all__ = [
    "GRAPHS",
    "HALF_GRAPHS",
    "REFINEMENT_GRAPHS",
    "Precision",
    "build_channels",
    "build_half_channels",
    "refinement_graphs_with",
    "save_model",
]
