"""Vector-Jacobian products of the operators that are no convolutions; see `adjoint`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from ..graphs.builder import GraphBuilder

Rule = Callable[[GraphBuilder, ir.Node, ir.Value, int], ir.Value]
"""(builder, node, derivative by the node's output, position of an input) -> derivative by it."""

STEEP = 1e30  # turns the sign of any value that matters into -large or +large
LONG_SUM = 1 << 10  # numbers from which on a sum over several axes is made axis by axis
SHORT = 1 << 4  # numbers up to which axes of such a sum are taken together
LONG_ROW = 1 << 8  # numbers of a row from which on rows are added as a product


def shape_of(value: ir.Value | None) -> tuple[int, ...]:
    """The static shape of a value."""
    assert value is not None and value.shape is not None and value.shape.is_static()
    return tuple(int(n) for n in value.shape)  # type: ignore[arg-type]


def input_of(node: ir.Node, position: int) -> ir.Value:
    """An input that is there."""
    value = node.inputs[position]
    assert value is not None
    return value


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """The value of an attribute, or what the operator takes without it."""
    return node.attributes[name].value if name in node.attributes else default


def constant_of(node: ir.Node, position: int) -> list[int]:
    """The numbers of an input that is a constant of integers: axes, shapes, indices."""
    value = input_of(node, position)
    if value.const_value is None:
        raise ValueError(f"{node.op_type} ({node.name}) gets {value.name} at run time only")
    return [int(n) for n in value.const_value.numpy().ravel()]


def reshaped(b: GraphBuilder, x: ir.Value, shape: Sequence[int]) -> ir.Value:
    """Reshape to a static shape, possibly that of a scalar."""
    if not shape:
        return b.op("Reshape", x, b.constant("i64_scalar_shape", np.empty(0, np.int64)))
    return b.reshape(x, *shape)


def summed_to(
    b: GraphBuilder, gradient: ir.Value, shape: Sequence[int], target: Sequence[int]
) -> ir.Value:
    """Undo a broadcast from `target` to `shape`: sum over the axes along which it repeated."""
    padded = [1] * (len(shape) - len(target)) + list(target)
    axes = [axis for axis, (n, m) in enumerate(zip(shape, padded, strict=True)) if n != m]
    if axes:
        gradient = summed(b, gradient, shape, axes)
    return reshaped(b, gradient, target) if len(shape) != len(target) else gradient


def summed(b: GraphBuilder, x: ir.Value, shape: Sequence[int], axes: Sequence[int]) -> ir.Value:
    """Sum over some axes of x, which stay with length 1.

    Long sums are made axis by axis, from the last one on. ONNX Runtime adds all numbers of
    neighbouring axes to a few sums, one after another. The gradient of a style is a sum over all
    pixels of a layer that nearly cancel; of 65,536 numbers it was wrong by 1e-6 of the sum of their
    magnitudes, and is by 2e-7.

    Rows are added as a product with ones: ONNX Runtime's sum of 128 channels, which is the gradient
    of a noise map, takes ten times as long.
    """
    first = min(axes)
    length = prod(shape[first + 1 :])
    if len(axes) == 1 and prod(shape[:first]) == 1 and length >= LONG_ROW:
        ones = b.constant(f"ones_{shape[first]}", np.ones((1, shape[first]), np.float32))
        total = b.op("MatMul", ones, reshaped(b, x, [shape[first], length]))
        return reshaped(b, total, [*shape[:first], 1, *shape[first + 1 :]])
    if _length(shape, axes) < LONG_SUM:
        return b.op("ReduceSum", x, b.integers(*axes), keepdims=1)
    left = sorted(axes)
    while left:
        # Short axes next to each other are summed at once: one of 3 numbers alone takes longer.
        together = [left.pop()]
        while (
            left and left[-1] == together[0] - 1 and _length(shape, [left[-1], *together]) < SHORT
        ):
            together.insert(0, left.pop())
        if _length(shape, together) > 1:
            x = b.op("ReduceSum", x, b.integers(*together), keepdims=1)
    return x


def _length(shape: Sequence[int], axes: Sequence[int]) -> int:
    return prod(shape[axis] for axis in axes)


def _to_input(b: GraphBuilder, node: ir.Node, gradient: ir.Value, position: int) -> ir.Value:
    """A gradient of the output's shape, summed to that of an input."""
    shape = shape_of(node.outputs[0])
    return summed_to(b, gradient, shape, shape_of(input_of(node, position)))


def _subtract(b: GraphBuilder, node: ir.Node, gradient: ir.Value, position: int) -> ir.Value:
    if position == 1:
        gradient = b.op("Neg", gradient)
    return _to_input(b, node, gradient, position)


def _multiply(b: GraphBuilder, node: ir.Node, gradient: ir.Value, position: int) -> ir.Value:
    return _to_input(b, node, b.op("Mul", gradient, node.inputs[1 - position]), position)


def _divide(b: GraphBuilder, node: ir.Node, gradient: ir.Value, position: int) -> ir.Value:
    """Of x / y: 1 / y, and - (x / y) / y."""
    gradient = b.op("Div", gradient, node.inputs[1])
    if position == 1:
        gradient = b.op("Neg", b.op("Mul", gradient, node.outputs[0]))
    return _to_input(b, node, gradient, position)


def _negative(b: GraphBuilder, _node: ir.Node, gradient: ir.Value, _position: int) -> ir.Value:
    return b.op("Neg", gradient)


def _square_root(b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int) -> ir.Value:
    return b.op("Div", b.op("Mul", gradient, b.scalar(0.5)), node.outputs[0])


def _slope(b: GraphBuilder, x: ir.Value, gradient: ir.Value, below: ir.Value) -> ir.Value:
    """Gradient times (x > 0 ? 1 : below), for slopes from 0 to 1; the sign of x decides.

    Two products and a maximum with a minimum run at memory speed, which a comparison and a
    selection do not.
    """
    steep = b.op("Mul", x, b.scalar(STEEP))
    one = b.scalar(1.0)
    if shape_of(below) == ():
        return b.op("Mul", gradient, b.op("Clip", steep, below, one))
    return b.op("Mul", gradient, b.op("Min", b.op("Max", steep, below), one))


def _leaky_relu(b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int) -> ir.Value:
    """The output has the input's sign, and need not be kept for this alone."""
    alpha = attribute(node, "alpha", 0.01)
    return _slope(b, node.outputs[0], gradient, b.scalar(alpha))


def _relu(b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int) -> ir.Value:
    return _slope(b, node.outputs[0], gradient, b.scalar(0.0))


def _prelu(b: GraphBuilder, node: ir.Node, gradient: ir.Value, position: int) -> ir.Value:
    """By its input only: learned slopes, which may be negative or above 1, are constants here."""
    assert position == 0, "a PRelu's slopes are constants"
    x, slope = input_of(node, 0), input_of(node, 1)
    positive = b.op("Greater", x, b.scalar(0.0))
    return b.op("Where", positive, gradient, b.op("Mul", gradient, slope))


def _sigmoid(b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int) -> ir.Value:
    y = node.outputs[0]
    return b.op("Mul", gradient, b.op("Mul", y, b.op("Sub", b.scalar(1.0), y)))


def _tanh(b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int) -> ir.Value:
    y = node.outputs[0]
    return b.op("Mul", gradient, b.op("Sub", b.scalar(1.0), b.op("Mul", y, y)))


def _sine(b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int) -> ir.Value:
    return b.op("Mul", gradient, b.op("Cos", node.inputs[0]))


def _clip(b: GraphBuilder, node: ir.Node, gradient: ir.Value, position: int) -> ir.Value:
    """What lies between the bounds, which are constants, has the gradient.

    The output tells, and the input need not be kept: after a layer it is as large.
    """
    assert position == 0, "the bounds of a Clip are constants"
    y = node.outputs[0]
    least, largest = input_of(node, 1), input_of(node, 2)
    inside = b.op("And", b.op("Greater", y, least), b.op("Less", y, largest))
    return b.op("Where", inside, gradient, b.scalar(0.0))


def _reshape(b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int) -> ir.Value:
    """Of Reshape, Squeeze and Unsqueeze."""
    return reshaped(b, gradient, shape_of(node.inputs[0]))


def _transpose(b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int) -> ir.Value:
    order = list(attribute(node, "perm", range(len(shape_of(node.inputs[0])))[::-1]))
    return b.op("Transpose", gradient, perm=[order.index(axis) for axis in range(len(order))])


def _concat(b: GraphBuilder, node: ir.Node, gradient: ir.Value, position: int) -> ir.Value:
    axis = attribute(node, "axis", None) % len(shape_of(node.outputs[0]))
    lengths = [shape_of(value)[axis] for value in node.inputs]
    start = sum(lengths[:position])
    stop = start + lengths[position]
    return b.op("Slice", gradient, b.integers(start), b.integers(stop), b.integers(axis))


def _slice(b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int) -> ir.Value:
    """Zeros around; of slices without steps."""
    if len(node.inputs) > 4 and set(constant_of(node, 4)) != {1}:
        raise ValueError(f"Slice ({node.name}) with steps has no rule of differentiation")
    shape = shape_of(node.inputs[0])
    before, after = [0] * len(shape), [0] * len(shape)
    bounds = zip(*(constant_of(node, position) for position in (1, 2, 3)), strict=True)
    for start, stop, axis in bounds:
        before[axis], stop, _ = slice(start, stop).indices(shape[axis])
        after[axis] = shape[axis] - stop
    return b.op("Pad", gradient, b.integers(*before, *after))


def _gather(b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int) -> ir.Value:
    """Of constant indices, none twice: each row of the input was taken once, or its row is zero."""
    shape, axis = shape_of(node.inputs[0]), attribute(node, "axis", 0)
    taken = [index % shape[axis] for index in constant_of(node, 1)]
    assert len(set(taken)) == len(taken), "Gather takes a row twice"
    rows = [*shape[:axis], len(taken), *shape[axis + 1 :]]
    gradient = reshaped(b, gradient, rows)  # an index without axes has dropped one
    if len(taken) == shape[axis]:  # a change of order
        places = [taken.index(i) for i in range(shape[axis])]
        return b.op("Gather", gradient, b.integers(*places), axis=axis)
    after = [int(i == axis) for i in range(len(shape))]
    gradient = b.op("Pad", gradient, b.integers(*[0] * len(shape), *after))  # a row of zeros, last
    places = [taken.index(i) if i in taken else len(taken) for i in range(shape[axis])]
    return b.op("Gather", gradient, b.integers(*places), axis=axis)


def _expand(b: GraphBuilder, node: ir.Node, gradient: ir.Value, position: int) -> ir.Value:
    return _to_input(b, node, gradient, position)


def _reduce_sum_square(
    b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int
) -> ir.Value:
    """2 x times the gradient, spread over the summed axes.

    Where these are the last ones, as a product with ones: a broadcast along few numbers, the taps
    of a kernel, takes ONNX Runtime several times as long.
    """
    x = input_of(node, 0)
    shape, kept = shape_of(x), int(np.prod(shape_of(node.outputs[0]), dtype=int))
    axes = {axis % len(shape) for axis in constant_of(node, 1)}
    assert axes == set(range(len(shape) - len(axes), len(shape))), "sums over the last axes only"
    summed = int(np.prod(shape, dtype=int)) // kept
    twos = b.constant(f"twos_{summed}", np.full((1, summed), 2, np.float32))
    spread = b.op("MatMul", reshaped(b, gradient, [kept, 1]), twos)
    return b.op("Mul", x, reshaped(b, spread, shape))


def _reduce_mean(b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int) -> ir.Value:
    shape = shape_of(node.inputs[0])
    share = int(np.prod(shape_of(node.outputs[0]), dtype=int)) / int(np.prod(shape, dtype=int))
    gradient = b.op("Mul", _kept(b, node, gradient), b.scalar(share))
    return b.op("Expand", gradient, b.integers(*shape))


def _reduce_sum(b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int) -> ir.Value:
    shape = shape_of(node.inputs[0])
    return b.op("Expand", _kept(b, node, gradient), b.integers(*shape))


def _kept(b: GraphBuilder, node: ir.Node, gradient: ir.Value) -> ir.Value:
    """A gradient of a reduction's output with the reduced axes put back, of length 1."""
    shape = list(shape_of(node.inputs[0]))
    axes = constant_of(node, 1) if len(node.inputs) > 1 else range(len(shape))
    for axis in axes:
        shape[axis] = 1
    return reshaped(b, gradient, shape)


def _matmul(b: GraphBuilder, node: ir.Node, gradient: ir.Value, position: int) -> ir.Value:
    """Of two matrices, or of two stacks of as many."""
    left, right = input_of(node, 0), input_of(node, 1)
    rank = len(shape_of(left))
    assert rank == len(shape_of(right)) and shape_of(left)[:-2] == shape_of(right)[:-2]
    if rank == 2:
        if position == 0:
            return b.op("Gemm", gradient, right, transB=1)
        return b.op("Gemm", left, gradient, transA=1)
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    if position == 0:
        return b.op("MatMul", gradient, b.op("Transpose", right, perm=swapped))
    return b.op("MatMul", b.op("Transpose", left, perm=swapped), gradient)


def _gemm(b: GraphBuilder, node: ir.Node, gradient: ir.Value, position: int) -> ir.Value:
    """Of products without factors: y = a' b' + c, where ' may transpose."""
    assert attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
    if position == 2:
        return _to_input(b, node, gradient, position)
    first, second = attribute(node, "transA", 0), attribute(node, "transB", 0)
    if position == 0:
        other = input_of(node, 1)
        if first:
            return b.op("Gemm", other, gradient, transA=second, transB=1)
        return b.op("Gemm", gradient, other, transB=1 - second)
    other = input_of(node, 0)
    if second:
        return b.op("Gemm", gradient, other, transA=1, transB=first)
    return b.op("Gemm", other, gradient, transA=1 - first)


RULES: dict[str, Rule] = {
    "Add": _to_input,
    "Clip": _clip,
    "Concat": _concat,
    "Div": _divide,
    "Expand": _expand,
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": _to_input,
    "LeakyRelu": _leaky_relu,
    "MatMul": _matmul,
    "Mul": _multiply,
    "Neg": _negative,
    "PRelu": _prelu,
    "ReduceMean": _reduce_mean,
    "ReduceSum": _reduce_sum,
    "ReduceSumSquare": _reduce_sum_square,
    "Relu": _relu,
    "Reshape": _reshape,
    "Sigmoid": _sigmoid,
    "Sin": _sine,
    "Slice": _slice,
    "Sqrt": _square_root,
    "Sub": _subtract,
    "Tanh": _tanh,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
"""Operator -> its rule."""
