"""`weights` graph: accumulated offset codes -> the convolution weights they stand for."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from hyperstyle_rt.types import Array

from ..networks.config import HypernetworkConfig, HyperStyleConfig, LayerSpec
from ..networks.hyperstyle import HyperStyle
from .builder import GraphBuilder, Precision, State, equalised, to_array

NEGLIGIBLE_WEIGHT = np.float32(1e-30)
NEGLIGIBLE_SCALE = 1e-12  # of an output channel without weights


def build_weights(model: HyperStyle, precision: Precision = "fp32") -> ir.Model:
    """Codes [1,M,K+1] -> weight.<layer> [O,I,k,k] = scale * W * (1 + offset) per tuned layer.

    An offset is affine in its code, and the last column of the codes counts the summed terms: with
    the bias as one more row of the matrix the whole sum is a single product. The `1 +` of a shared
    layer is folded into the second product the same way. In fp16 the weights are normalised, see
    `normalised_weight`.
    """
    config, state = model.config, model.state_dict()
    b = GraphBuilder("weights", precision)
    base = base_weight if precision == "fp32" else normalised_weight
    codes = b.input("codes", [1, len(config.tuned), config.hypernetwork.code_width + 1])
    codes = b.to_compute(codes)
    hidden = _shared_hidden(b, codes, state, config)
    for row, layer in enumerate(config.tuned):
        b.scoped(layer.name)
        if hidden is not None and layer.index in config.hypernetwork.shared_layers:
            factor = _shared_factor(b, hidden, state, layer, config.hypernetwork)
        else:
            factor = _ordinary_factor(b, codes, row, state, layer)
        constant = b.compute_constant(f"{layer.name}.weight", base(state, layer))
        weight = b.op("Mul", factor, constant)
        b.compute_output(f"weight.{layer.name}", weight, layer.weight_shape)
    return b.build()


def base_weight(state: State, layer: LayerSpec) -> Array:
    """Scale * W of a layer without offsets: [O,I,k,k].

    A weight that is exactly zero becomes 1e-30: no picture changes, and the offsets can be read
    back from any weights as weight / base - 1 without a graph of their own.
    """
    stored = state[f"decoder.{layer.name}.conv.weight"][0]
    weight = equalised(stored, stored[0].numel())
    return np.where(weight == 0, NEGLIGIBLE_WEIGHT, weight)


def channel_scale(state: State, layer: LayerSpec) -> Array:
    """What the weights of fp16 graphs are divided by, per output channel: [O].

    StyleGAN3's choice: the largest magnitude becomes 1 / sqrt(fan_in). A 3x3 convolution of 512
    channels up to 900 then cannot overflow, whatever their signs.
    """
    weight = base_weight(state, layer)
    largest = np.abs(weight).max(axis=(1, 2, 3)) * math.sqrt(weight[0].size)
    return np.maximum(largest, NEGLIGIBLE_SCALE).astype(np.float32)


def normalised_weight(state: State, layer: LayerSpec) -> Array:
    """`base_weight` divided by `channel_scale`: [O,I,k,k]."""
    return base_weight(state, layer) / channel_scale(state, layer)[:, None, None, None]


def _shared_hidden(
    b: GraphBuilder, codes: ir.Value, state: State, config: HyperStyleConfig
) -> ir.Value | None:
    """First product of the shared hypernetwork, for all its layers: [n,O,K+2], or None without.

    The big matrix w2 is so read once an iteration, not once a layer. Two columns are appended for
    the second product, [hidden, terms, 1] @ [w1; b1; 1] = 1 + offset.
    """
    layers, width = config.hypernetwork.shared_layers, config.hypernetwork.code_width
    if not layers:
        return None
    b.scoped("shared_weight_hypernet")
    w2, b2 = _shared(state, "w2"), _shared(state, "b2")
    count, channels = len(layers), len(b2) // width
    rows = b.integers(*(config.hypernetwork.tuned_layers.index(i) for i in layers))
    code = b.reshape(b.op("Gather", codes, rows, axis=1), count, width + 1)  # [n,K+1]
    matrix = b.compute_constant("shared_weight_hypernet.w2", np.concatenate([w2, b2[None]]))
    hidden = b.reshape(b.op("MatMul", code, matrix), count, channels, width)  # rows are outputs
    terms = b.op("Slice", code, b.integers(width), b.integers(width + 1), b.integers(1))  # [n,1]
    terms = b.op("Expand", b.op("Unsqueeze", terms, b.integers(1)), b.integers(1, channels, 1))
    ones = b.compute_constant(
        "shared_weight_hypernet.one", np.ones((count, channels, 1), np.float32)
    )
    return b.op("Concat", hidden, terms, ones, axis=2)


def _shared_factor(
    b: GraphBuilder,
    hidden: ir.Value,
    state: State,
    layer: LayerSpec,
    config: HypernetworkConfig,
) -> ir.Value:
    """Second product, for one layer: 1 + offsets [O,I,3,3]."""
    w1, b1 = _shared(state, "w1"), _shared(state, "b1")
    matrix = np.concatenate([w1, b1[None], np.ones_like(b1)[None]])  # [K+2,I*9]
    position = b.index(config.shared_layers.index(layer.index))
    rows = b.op("Gather", hidden, position, axis=0)  # [O,K+2]
    factor = b.op("MatMul", rows, b.compute_constant("shared_weight_hypernet.w1", matrix))
    return b.reshape(factor, *layer.weight_shape)


def _ordinary_factor(
    b: GraphBuilder, codes: ir.Value, row: int, state: State, layer: LayerSpec
) -> ir.Value:
    """1 + offsets of an ordinary layer: [O,I,1,1], the same for all taps."""
    head = f"hypernet.refinement_blocks.{layer.index}.output.{0 if layer.is_to_rgb else 1}"
    weight, bias = to_array(state[f"{head}.weight"]), to_array(state[f"{head}.bias"])
    matrix = np.concatenate([weight.reshape(len(bias), -1).T, bias[None]])  # [K+1,O*I]
    code = b.op("Gather", codes, b.index(row), axis=1)  # [1,K+1]
    offset = b.op("MatMul", code, b.compute_constant(f"{layer.name}.head", matrix))
    offset = b.reshape(offset, layer.out_channels, layer.in_channels, 1, 1)
    return b.op("Add", offset, b.compute_constant("one", np.array(1.0, np.float32)))


def _shared(state: State, name: str) -> Array:
    return to_array(state[f"hypernet.shared_weight_hypernet.{name}"])
