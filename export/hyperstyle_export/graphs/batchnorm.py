"""Batch normalisation in eval mode, folded in double precision."""

from __future__ import annotations

import onnx_ir as ir
from torch import Tensor

from .builder import GraphBuilder, State

EPS = 1e-5


def fold(state: State, name: str) -> tuple[Tensor, Tensor]:
    """(gain, shift) [C] in float64 with bn(x) = gain * x + shift."""
    variance, mean = state[f"{name}.running_var"], state[f"{name}.running_mean"]
    gain = state[f"{name}.weight"].double() / (variance.double() + EPS).sqrt()
    return gain, state[f"{name}.bias"].double() - gain * mean.double()


def batchnorm(b: GraphBuilder, x: ir.Value, state: State, name: str) -> ir.Value:
    """A normalisation that cannot be folded into a neighbour: one multiply and one add."""
    gain, shift = (t.view(-1, 1, 1).float().numpy() for t in fold(state, name))
    x = b.op("Mul", x, b.compute_constant(f"{name}.gain", gain))
    return b.op("Add", x, b.compute_constant(f"{name}.shift", shift))


def conv_batchnorm(
    b: GraphBuilder, x: ir.Value, state: State, conv: str, bn: str, *, stride: int = 1
) -> ir.Value:
    """A convolution without bias, padded to keep its size, and the normalisation after it, in one.

    Parameters
    ----------
    conv, bn:
        Key prefixes of the two layers in the state.
    """
    gain, shift = fold(state, bn)
    weight = (state[f"{conv}.weight"].double() * gain[:, None, None, None]).float().numpy()
    return b.conv(
        x,
        b.compute_constant(f"{conv}.weight", weight),
        b.compute_constant(f"{conv}.bias", shift.float().numpy()),
        stride=stride,
        padding=(weight.shape[2] // 2, weight.shape[3] // 2),
    )
