"""Reference networks -> ONNX graphs (design 2). One module per graph."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from ..networks.hyperstyle import HyperStyle
from .builder import save_model
from .encoder import build_encoder
from .generator import build_generator
from .hypernet import build_hypernet
from .mapping import build_mapping
from .weights import build_weights

GRAPHS: dict[str, Callable[[HyperStyle], ir.Model]] = {
    "encoder": build_encoder,
    "hypernet": build_hypernet,
    "weights": build_weights,
    "generator": build_generator,
    "mapping": build_mapping,
}
"""Role in the bundle -> builder, in the order they are written."""

__all__ = ["GRAPHS", "save_model"]
