"""IDInvert's encoder as a graph, and the term by which its optimisation keeps latents to it."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from hyperstyle_rt.types import Array
from torch import Tensor

from ..adjoint.pacing import paced
from ..adjoint.pull_back import pull_back
from ..adjoint.rules import shape_of
from ..networks.idinvert import POOL, IdInvertEncoder
from ..networks.layers import ACTIVATION_SLOPE
from .batchnorm import fold
from .builder import BATCH, GraphBuilder, Precision, State, to_array
from .inlining import inline, prune, with_shapes

ROLE = "idinvert"
ENCODER_TERM = "encoder_term"


def build_idinvert_encoder(encoder: IdInvertEncoder, precision: Precision = "fp32") -> ir.Model:
    """Target [N,3,S,S] in [-1,1] -> latents [N,L,W].

    Raises
    ------
    ValueError
        If a weight is too large for the precision.
    """
    config, state = encoder.config, encoder.state_dict()
    side = config.resolution
    b = GraphBuilder(ROLE, precision)
    x = b.to_compute(b.input("target", [BATCH, 3, side, side]))
    x = _conv_norm(b.scoped("block0"), x, state, "block0.conv", "block0.bn")
    for number in range(1, len(config.channels)):
        x = _residual_block(b, x, state, f"block{number}")
    b.scoped(config.last)
    stored = state[f"{config.last}.fc.weight"]
    gain, shift = fold(state, f"{config.last}.bn.bn")
    weight = stored.double() * (gain / math.sqrt(stored.shape[1]))[:, None]
    x = b.op(
        "Gemm",
        b.reshape(x, 0, -1),
        b.compute_constant(f"{config.last}.fc.weight", _array(weight)),
        b.compute_constant(f"{config.last}.bias", _array(shift)),
        transB=1,
    )
    shape = [config.num_latents, config.style_width]
    b.output("latents", b.reshape(b.to_float(x), 0, *shape), [BATCH, *shape])
    return b.build()


def _residual_block(b: GraphBuilder, x: ir.Value, state: State, name: str) -> ir.Value:
    b.scoped(name)
    x = short = b.op("AveragePool", x, kernel_shape=[POOL] * 2, strides=[POOL] * 2)
    if f"{name}.conv.weight" in state:
        short = _conv_norm(b, x, state, f"{name}.conv", f"{name}.bn")
    for number in (1, 2):
        bias = state[f"{name}.wscale{number}.bias"]
        x = _conv_norm(b, x, state, f"{name}.conv{number}", f"{name}.bn{number}", bias)
    return b.op("Add", x, short)


def _conv_norm(
    b: GraphBuilder, x: ir.Value, state: State, conv: str, norm: str, bias: Tensor | None = None
) -> ir.Value:
    """Convolution that keeps the side, bias, batch normalisation in one; then a leaky ReLU."""
    gain, shift = fold(state, f"{norm}.bn")
    if bias is not None:
        shift = shift + gain * bias.double()
    weight = _array(state[f"{conv}.weight"].double() * gain[:, None, None, None])
    x = b.conv(
        x,
        b.compute_constant(f"{conv}.weight", weight),
        b.compute_constant(f"{conv}.bias", _array(shift)),
        padding=(weight.shape[2] // 2,) * 2,
    )
    return b.op("LeakyRelu", x, alpha=ACTIVATION_SLOPE)


def _array(exact: Tensor) -> Array:
    return to_array(exact.float())


def build_encoder_term(encoder: IdInvertEncoder) -> ir.Model:
    """How far latents are from those that the encoder finds in their picture; and its gradients.

    Inputs: target_latents [1,L,W]; reconstruction [1,3,S,S], their picture in [-1,1].

    Outputs: loss [1], the mean square of target_latents minus encoder(reconstruction);
    gradient.target_latents and gradient.reconstruction, its derivatives by either.
    """
    config = encoder.config
    side, shape = config.resolution, [1, config.num_latents, config.style_width]
    whole = GraphBuilder(ENCODER_TERM)
    inputs = {
        "target_latents": whole.input("target_latents", shape),
        "reconstruction": whole.input("reconstruction", [1, 3, side, side]),
    }
    found = inline(whole, build_idinvert_encoder(encoder), {"target": inputs["reconstruction"]})[
        "latents"
    ]
    whole.scoped("loss")
    square = whole.mean_square(whole.op("Sub", inputs["target_latents"], found))
    whole.output("loss", whole.reshape(square, 1), [1])
    ahead = with_shapes(whole.build())
    b = GraphBuilder(ENCODER_TERM)
    leaves = {str(v.name): b.input(str(v.name), shape_of(v)) for v in ahead.graph.inputs}
    loss = inline(b, ahead, leaves)["loss"]
    one = b.constant("one", np.ones(1, np.float32))
    gradients = pull_back(b, {loss: one}, list(leaves.values()))
    b.output("loss", loss, [1])
    for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
        b.output(f"gradient.{name}", gradient, shape_of(leaf))
    return paced(prune(b.build()))
