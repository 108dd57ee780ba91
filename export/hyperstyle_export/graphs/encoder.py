"""`encoder` graph: target -> latents (docs/spec.md, section 5.1)."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from ..networks.config import TrunkConfig
from ..networks.hyperstyle import HyperStyle
from .batchnorm import batchnorm, conv_batchnorm
from .builder import BATCH, GraphBuilder, Precision, State, to_array


def build_encoder(model: HyperStyle, precision: Precision = "fp32") -> ir.Model:
    """Target [B,3,h,w] -> latents [B,L,W] with the average added.

    In fp16, whatever is one vector a sample stays float32: it costs nothing, and a sum over all
    pixels would not fit.
    """
    config, state = model.config, model.state_dict()
    trunk = config.encoder.trunk
    b = GraphBuilder("encoder", precision)
    target = b.input("target", [BATCH, 3, *config.input_size])
    *_, x = trunk_features(b, target, state, trunk)
    b.scoped("encoder.linear")
    x = b.reshape(b.op("GlobalAveragePool", b.to_float(x)), 0, trunk.out_width)  # [B,C]
    w = b.equal_linear(x, state, "encoder.linear")  # [B,W]
    average = b.constant("latent_avg", to_array(state["latent_avg"]))
    latents = b.op("Add", b.op("Unsqueeze", w, b.integers(1)), average)
    rows, width = config.generator.num_latents, config.generator.style_width
    b.output("latents", latents, [BATCH, rows, width])
    return b.build()


def trunk_features(
    b: GraphBuilder, picture: ir.Value, state: State, trunk: TrunkConfig
) -> Iterator[ir.Value]:
    """Features of an input [B,C,h,w] after the stem and every unit, in the compute type."""
    stem = "encoder.input_layer"
    x = b.scoped(stem).to_compute(picture)
    x = conv_batchnorm(b, x, state, f"{stem}.0", f"{stem}.1")
    x = b.prelu(x, state, f"{stem}.2")
    yield x
    for index, stride in enumerate(unit_strides(trunk)):
        x = _unit(b, x, state, f"encoder.body.{index}", stride)
        yield x


def unit_strides(trunk: TrunkConfig) -> list[int]:
    """The first unit of every group halves the resolution."""
    return [2 if unit == 0 else 1 for _, count in trunk.groups for unit in range(count)]


def _unit(b: GraphBuilder, x: ir.Value, state: State, name: str, stride: int) -> ir.Value:
    """Shortcut + residual; the residual's first normalisation stays: zero padding follows it."""
    b.scoped(name)
    shortcut, residual = f"{name}.shortcut_layer", f"{name}.res_layer"
    if f"{shortcut}.0.weight" in state:
        skip = conv_batchnorm(b, x, state, f"{shortcut}.0", f"{shortcut}.1", stride=stride)
    else:  # plain sub-sampling
        skip = x if stride == 1 else b.op("MaxPool", x, kernel_shape=[1, 1], strides=[stride] * 2)
    y = batchnorm(b, x, state, f"{residual}.0")
    y = b.conv(y, b.compute_parameter(state, f"{residual}.1.weight"), padding=(1, 1))
    y = b.prelu(y, state, f"{residual}.2")
    y = conv_batchnorm(b, y, state, f"{residual}.3", f"{residual}.4", stride=stride)
    gate = b.op("GlobalAveragePool", b.to_float(y))  # [B,C,1,1]
    gate = b.op("Relu", b.conv(gate, b.parameter(state, f"{residual}.5.fc1.weight")))
    gate = b.op("Sigmoid", b.conv(gate, b.parameter(state, f"{residual}.5.fc2.weight")))
    return b.op("Add", b.op("Mul", y, b.to_compute(gate)), skip)
