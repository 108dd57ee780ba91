"""`mapping` graph: random vectors -> W, for sampling faces (docs/spec.md, section 4)."""

from __future__ import annotations

import onnx_ir as ir

from ..networks.generator import MAPPING_LR_MUL
from ..networks.hyperstyle import HyperStyle
from ..networks.layers import ACTIVATION_GAIN, ACTIVATION_SLOPE
from .builder import BATCH, GraphBuilder


def build_mapping(model: HyperStyle) -> ir.Model:
    """Z [B,W] -> w [B,W]."""
    state, width = model.state_dict(), model.config.generator.style_width
    b = GraphBuilder("mapping")
    z = b.input("z", [BATCH, width])
    b.scoped("style.0")
    power = b.op("ReduceMean", b.op("Mul", z, z), b.integers(1), keepdims=1)
    x = b.op("Div", z, b.op("Sqrt", b.op("Add", power, b.scalar(1e-8))))
    for index in range(1, model.config.generator.mapping_depth + 1):
        b.scoped(f"style.{index}")
        # A leaky ReLU is positively homogeneous: its gain goes into the linear layer.
        x = b.equal_linear(x, state, f"decoder.style.{index}", MAPPING_LR_MUL, ACTIVATION_GAIN)
        x = b.op("LeakyRelu", x, alpha=ACTIVATION_SLOPE)
    b.output("w", x, [BATCH, width])
    return b.build()
