"""`hypernet` graph: target and reconstruction -> accumulated offset codes.

docs/spec.md, section 5.2; docs/architecture.md, section 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from ..networks.config import HypernetworkConfig, LayerSpec, TrunkConfig
from ..networks.hypernetwork import REFINEMENT_SLOPE, refinement_strides
from ..networks.hyperstyle import HyperStyle
from .batchnorm import conv_batchnorm
from .builder import BATCH, Dim, GraphBuilder, Precision, State


def build_hypernet(model: HyperStyle, precision: Precision = "fp32") -> ir.Model:
    """target, reconstruction [B,3,h,w], codes [B,M,K+1] -> codes_next = codes + [code, 1]."""
    config, state = model.config, model.state_dict()
    hypernetwork = config.hypernetwork
    codes_shape: list[Dim] = [BATCH, len(config.tuned), hypernetwork.code_width + 1]
    b = GraphBuilder("hypernet", precision)
    target = b.input("target", [BATCH, 3, *config.input_size])
    reconstruction = b.input("reconstruction", [BATCH, 3, *config.input_size])
    codes = b.input("codes", codes_shape)

    both = b.scoped("hypernet.conv1").op("Concat", target, reconstruction, axis=1)
    *_, x = resnet_features(b, both, state, "hypernet", hypernetwork.trunk)
    new = [_code(b, x, state, spec, hypernetwork) for spec in config.tuned]
    b.scoped("codes")
    stacked = b.op("Concat", *(b.op("Unsqueeze", code, b.integers(1)) for code in new), axis=1)
    # The column that counts iterations: pad the last axis of [B,M,K] with ones on the right.
    counted = b.op("Pad", stacked, b.integers(0, 0, 0, 0, 0, 1), b.scalar(1.0))
    b.output("codes_next", b.op("Add", codes, counted), codes_shape)
    return b.build()


def resnet_features(
    b: GraphBuilder, picture: ir.Value, state: State, name: str, trunk: TrunkConfig
) -> Iterator[ir.Value]:
    """Features of an input [B,C,h,w] after the stem and every block, in the compute type.

    Parameters
    ----------
    name:
        Key prefix of the network in the state.
    """
    b.scoped(f"{name}.conv1")
    x = b.to_compute(picture)
    x = conv_batchnorm(b, x, state, f"{name}.conv1", f"{name}.bn1", stride=2)
    x = b.prelu(x, state, f"{name}.relu")
    yield x
    for index, stride in enumerate(block_strides(trunk)):
        x = _basic_block(b, x, state, f"{name}.body.{index}", stride)
        yield x


def block_strides(trunk: TrunkConfig) -> list[int]:
    """The first block of every group but the first halves the resolution."""
    return [
        2 if group and block == 0 else 1
        for group, (_, count) in enumerate(trunk.groups)
        for block in range(count)
    ]


def _basic_block(b: GraphBuilder, x: ir.Value, state: State, name: str, stride: int) -> ir.Value:
    b.scoped(name)
    skip, down = x, f"{name}.downsample"
    if f"{down}.0.weight" in state:
        skip = conv_batchnorm(b, x, state, f"{down}.0", f"{down}.1", stride=stride)
    y = conv_batchnorm(b, x, state, f"{name}.conv1", f"{name}.bn1", stride=stride)
    y = conv_batchnorm(b, b.op("Relu", y), state, f"{name}.conv2", f"{name}.bn2")
    return b.op("Relu", b.op("Add", y, skip))


def _code(
    b: GraphBuilder, x: ir.Value, state: State, layer: LayerSpec, config: HypernetworkConfig
) -> ir.Value:
    """Features [B,C,h,w] -> the layer's code [B,K]."""
    name = f"hypernet.refinement_blocks.{layer.index}"
    b.scoped(name)
    for n, stride in enumerate(refinement_strides(layer, config)):
        conv = f"{name}.convs.{2 * n}"  # a leaky ReLU stands between any two
        weight, bias = (b.compute_parameter(state, f"{conv}.{kind}") for kind in ("weight", "bias"))
        x = b.conv(x, weight, bias, stride=stride, padding=(1, 1))
        x = b.op("LeakyRelu", x, alpha=REFINEMENT_SLOPE)
    # Shared blocks end at one position: the mean over positions is that one.
    x = b.reshape(b.op("GlobalAveragePool", b.to_float(x)), 0, config.code_width)
    if layer.index in config.shared_layers:
        return b.equal_linear(x, state, f"{name}.linear")
    return x
