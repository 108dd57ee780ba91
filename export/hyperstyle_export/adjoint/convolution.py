"""Vector-Jacobian products of convolutions, poolings and what else knows planes; see `adjoint`.

The adjoint of a convolution is a transposed one, and the other way round. The gradient by a kernel
is one matrix product per tap, of the output's gradient with the input shifted by the tap: that is
what matrix libraries are fast at, where a convolution with a kernel as large as the picture is not.
Large convolutions of 3x3 taps take fewer products still: `tiles`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from ..graphs.builder import GraphBuilder
from .rules import Rule, attribute, input_of, reshaped, shape_of, summed
from .tiles import (
    FEWEST_FOR_INPUT,
    FEWEST_FOR_KERNEL,
    TiledConvolution,
    Tiling,
    tiling_of,
)

TURNED_FROM = 4  # pixels per output channel from which a kernel is worth turning


def _geometry(node: ir.Node) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Strides and padding, both (vertical, horizontal), and group of a convolution of ours."""
    strides = attribute(node, "strides", [1, 1])
    pads = attribute(node, "pads", [0, 0, 0, 0])
    assert list(pads[:2]) == list(pads[2:])
    assert set(attribute(node, "dilations", [1])) == {1}
    assert not any(attribute(node, "output_padding", [0]))
    return (strides[0], strides[1]), (pads[0], pads[1]), attribute(node, "group", 1)


def _same(strides: tuple[int, int]) -> int:
    """The one stride along both axes."""
    (stride,) = set(strides)
    return stride


def chosen_tiling(node: ir.Node, fewest: int) -> Tiling | None:
    """Tiles for a convolution or a gradient of it, if they save time from so many channels on."""
    strides, padding, group = _geometry(node)
    height, width = shape_of(node.outputs[0])[2:]
    if group > 1 or strides[0] != strides[1]:
        return None
    kernel = shape_of(input_of(node, 1))
    return tiling_of(kernel, (height, width), strides[0], padding, fewest)


def _conv(b: GraphBuilder, node: ir.Node, gradient: ir.Value, position: int) -> ir.Value:
    if position == 0:
        return _conv_by_input(b, node, gradient)
    after = shape_of(node.outputs[0])
    if position == 2:
        return reshaped(b, summed(b, gradient, after, (0, 2, 3)), after[1:2])
    strides, padding, group = _geometry(node)
    x, shape = input_of(node, 0), shape_of(input_of(node, 1))
    channels = shape_of(x)[1]
    tiles = chosen_tiling(node, FEWEST_FOR_KERNEL)
    if tiles is not None:
        tiled = TiledConvolution(b, shape, (after[2], after[3]), tiles)
        return tiled.gradient_by_kernel(gradient, x)
    taps = _taps(b, x, after, (after[1], channels, *shape[2:]), _same(strides), padding)
    if group > 1:
        assert group == channels == shape[0], "groups of one channel each"
        products = [_plane_products(b, gradient, tap) for tap in taps]
    else:
        rows = _rows(b, gradient, node.outputs[0])
        read = [reshaped(b, tap, [channels, after[2] * after[3]]) for tap in taps]
        products = [b.op("Gemm", rows, tap, transB=1) for tap in read]  # [O,I]
    return reshaped(b, b.op("Transpose", _stacked(b, products, shape[:2]), perm=[1, 2, 0]), shape)


def _plane_products(b: GraphBuilder, left: ir.Value, right: ir.Value) -> ir.Value:
    """Of each plane of one picture with the same of the other: [1,C,h,w] twice -> [1,C,1,1].

    As matrices of one row and one column they take ONNX Runtime twice as long; as rows of a matrix
    they take OpenVINO, which keeps channels together, a change of layout for every tap.
    """
    return b.op("ReduceSum", b.op("Mul", left, right), b.integers(2, 3), keepdims=1)


def _conv_by_input(b: GraphBuilder, node: ir.Node, gradient: ir.Value) -> ir.Value:
    """A transposed convolution; without a stride, also a convolution with the kernel turned round.

    The latter is faster, and holds no product of every tap with every pixel, but turning a kernel
    that comes at run time costs as much as a few pixels' products.
    """
    x, kernel = input_of(node, 0), input_of(node, 1)
    strides, padding, group = _geometry(node)
    size = shape_of(kernel)[2:]
    after = shape_of(node.outputs[0])[2:]
    tiles = chosen_tiling(node, FEWEST_FOR_INPUT)
    if tiles is not None and kernel.const_value is None:
        tiled = TiledConvolution(b, shape_of(kernel), (after[0], after[1]), tiles)
        return tiled.gradient_by_input(gradient, kernel)
    small_kernel = kernel.const_value is not None or TURNED_FROM * shape_of(kernel)[0] <= prod(
        after
    )
    if strides == (1, 1) and small_kernel:
        around = (size[0] - 1 - padding[0], size[1] - 1 - padding[1])
        return b.conv(gradient, _turned(b, kernel, group), padding=around, group=group)
    sides = zip(strides, after, size, padding, strict=True)
    reached = [stride * (n - 1) + k - 2 * p for stride, n, k, p in sides]
    return b.op(
        "ConvTranspose",
        gradient,
        kernel,
        kernel_shape=list(size),
        strides=list(strides),
        pads=[*padding, *padding],
        output_padding=[n - m for n, m in zip(shape_of(x)[2:], reached, strict=True)],
        group=group,
    )


def _turned(b: GraphBuilder, kernel: ir.Value, group: int) -> ir.Value:
    """Kernel [O,I/g,h,w] -> [I,O/g,h,w], turned by 180 degrees.

    The taps change places in an exact product with a matrix of one 1 a row: ONNX Runtime gathers
    single numbers ten times as slowly.
    """
    out_channels, in_channels, height, width = shape_of(kernel)
    taps = height * width
    exchange = b.constant(f"exchange_{taps}", np.eye(taps, dtype=np.float32)[::-1])
    x = b.op("MatMul", reshaped(b, kernel, [out_channels * in_channels, taps]), exchange)
    x = reshaped(b, x, [group, out_channels // group, in_channels, taps])
    x = b.op("Transpose", x, perm=[0, 2, 1, 3])
    shape = [group * in_channels, out_channels // group, height, width]
    turned = reshaped(b, x, shape)
    turned.type, turned.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
    return turned


def _conv_transpose(b: GraphBuilder, node: ir.Node, gradient: ir.Value, position: int) -> ir.Value:
    """The kernel [I,O/g,h,w] is that of the convolution from output to input."""
    x, kernel = input_of(node, 0), input_of(node, 1)
    strides, padding, group = _geometry(node)
    if position == 0:
        return b.conv(gradient, kernel, stride=strides, padding=padding, group=group)
    assert position == 1 and group == 1
    shape = shape_of(kernel)
    rows = _rows(b, x, x)
    taps = _taps(b, gradient, shape_of(x), shape, _same(strides), padding)
    read = [reshaped(b, tap, [shape[1], prod(shape_of(x)[2:])]) for tap in taps]
    # [O,I], as the weights are kept: their transposition before the node and this one cancel.
    products = [b.op("Gemm", tap, rows, transB=1) for tap in read]
    stacked = _stacked(b, products, (shape[1], shape[0]))
    return reshaped(b, b.op("Transpose", stacked, perm=[2, 1, 0]), shape)


def _rows(b: GraphBuilder, x: ir.Value, like: ir.Value) -> ir.Value:
    """[1,C,h,w] -> [C,h*w]."""
    batch, channels, height, width = shape_of(like)
    assert batch == 1
    return reshaped(b, x, [channels, height * width])


def _taps(
    b: GraphBuilder,
    x: ir.Value,
    small: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: int,
    padding: tuple[int, int],
) -> Iterator[ir.Value]:
    """What each tap of a convolution [O,I,h,w] from `x` to the shape `small` reads: [1,I,h,w]."""
    height, width = kernel[2:]
    vertical, horizontal = padding
    if vertical or horizontal:
        x = b.op("Pad", x, b.integers(0, 0, vertical, horizontal, 0, 0, vertical, horizontal))
    phases: dict[tuple[int, int], ir.Value] = {}
    for row in range(height):
        for column in range(width):
            phase = row % stride, column % stride
            start = row // stride, column // stride
            shifts = [(n - 1 - p) // stride for n, p in zip((height, width), phase, strict=True)]
            if stride > 1 and phase not in phases:
                count = [n + most for n, most in zip(small[2:], shifts, strict=True)]
                phases[phase] = _phase(b, x, phase, count, stride)
            read = phases.get(phase, x)
            if any(shifts):  # else the tap reads all there is
                stop = start[0] + small[2], start[1] + small[3]
                bounds = b.integers(*start), b.integers(*stop), b.integers(2, 3)
                read = b.op("Slice", read, *bounds)
            yield read


def _phase(
    b: GraphBuilder, x: ir.Value, start: tuple[int, int], count: Sequence[int], stride: int
) -> ir.Value:
    """Every so many-th pixel along both axes: [1,C,h,w] -> [1,C,*count].

    Several taps read the same ones, shifted; ONNX Runtime copies single numbers slowly.
    """
    stop = (begin + stride * (n - 1) + 1 for begin, n in zip(start, count, strict=True))
    bounds = b.integers(*start), b.integers(*stop), b.integers(2, 3), b.integers(stride, stride)
    return b.op("Slice", x, *bounds)


def _stacked(b: GraphBuilder, products: list[ir.Value], shape: Sequence[int]) -> ir.Value:
    """One matrix per tap -> [taps,...]."""
    return b.op("Concat", *(reshaped(b, product, [1, *shape]) for product in products), axis=0)


def _average_pool(b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int) -> ir.Value:
    """Of windows side by side: each pixel has its share of its window's gradient.

    ONNX Runtime repeats pixels thirty times as fast by Resize as by Expand.
    """
    rows, columns = attribute(node, "kernel_shape", None)
    assert list(attribute(node, "strides", None)) == [rows, columns]
    x = b.op("Mul", gradient, b.scalar(1 / (rows * columns)))
    factors = np.array([1, 1, rows, columns], np.float32)
    return b.op(
        "Resize",
        x,
        None,
        b.constant(f"times_{rows}_{columns}", factors),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _global_average_pool(
    b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int
) -> ir.Value:
    shape = shape_of(node.inputs[0])
    gradient = b.op("Mul", gradient, b.scalar(1 / (shape[2] * shape[3])))
    return b.op("Expand", gradient, b.integers(*shape))


def _max_pool(b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int) -> ir.Value:
    """Of windows that may overlap: a window's gradient goes to the first of its largest pixels.

    One picture of C channels per tap, put where the tap reads by a transposed convolution whose
    kernels hold a single 1.
    """
    assert not any(attribute(node, "pads", [0])) and not attribute(node, "ceil_mode", 0)
    rows, columns = attribute(node, "kernel_shape", None)
    if rows == columns == 1:
        return _sub_sampling(b, node, gradient)
    (stride,) = set(attribute(node, "strides", None))
    x, output = input_of(node, 0), node.outputs[0]
    _, channels, height, width = shape_of(output)
    largest, left = _rows(b, output, output), _rows(b, gradient, output)
    zero = b.scalar(0.0)
    window = (channels, channels, rows, columns)
    taken_from = _taps(b, x, shape_of(output), window, stride, (0, 0))
    parts = []
    for tap in [reshaped(b, tap, [channels, height * width]) for tap in taken_from]:
        taken = b.op("Equal", tap, largest)
        part = b.op("Where", taken, left, zero)
        left = b.op("Where", taken, zero, left)
        parts.append(reshaped(b, part, [channels, 1, height * width]))
    taps = rows * columns
    stacked = reshaped(b, b.op("Concat", *parts, axis=1), [1, channels * taps, height, width])
    ones = np.tile(np.eye(taps, dtype=np.float32), (channels, 1))
    sizes = zip(shape_of(x)[2:], (height, width), (rows, columns), strict=True)
    return b.op(
        "ConvTranspose",
        stacked,
        b.constant(f"spread_{channels}_{rows}_{columns}", ones.reshape(-1, 1, rows, columns)),
        kernel_shape=[rows, columns],
        strides=[stride, stride],
        output_padding=[size - stride * (n - 1) - window for size, n, window in sizes],
        group=channels,
    )


def _sub_sampling(b: GraphBuilder, node: ir.Node, gradient: ir.Value) -> ir.Value:
    """Of a MaxPool with windows of one pixel: zeros between the pixels that were taken."""
    stride = attribute(node, "strides", None)[0]
    _, channels, height, width = shape_of(node.outputs[0])
    shape = shape_of(node.inputs[0])
    x = reshaped(b, gradient, [1, channels, height, 1, width, 1])
    x = b.op("Pad", x, b.integers(*[0] * 9, stride - 1, 0, stride - 1))
    x = reshaped(b, x, [1, channels, height * stride, width * stride])
    stop = b.integers(*shape[2:])  # the last pixel taken may have fewer neighbours
    return b.op("Slice", x, b.integers(0, 0), stop, b.integers(2, 3))


def _resize(b: GraphBuilder, node: ir.Node, gradient: ir.Value, _position: int) -> ir.Value:
    """Of pixels that were repeated a whole number of times: the sum over their copies."""
    (_, channels, height, width), after = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    rows, columns = after[2] // height, after[3] // width
    assert after == (1, channels, height * rows, width * columns)
    assert attribute(node, "mode", "nearest") == "nearest"
    assert attribute(node, "coordinate_transformation_mode", None) == "asymmetric"
    assert attribute(node, "nearest_mode", None) == "floor"
    x = reshaped(b, gradient, [1, channels, height, rows, width, columns])
    return b.op("ReduceSum", x, b.integers(3, 5), keepdims=0)


def _instance_norm(b: GraphBuilder, node: ir.Node, gradient: ir.Value, position: int) -> ir.Value:
    """Of y = s n + c, where n has mean 0 and variance 1 over every plane of x."""
    x, scale = input_of(node, 0), input_of(node, 1)
    shape = shape_of(x)

    def mean(values: ir.Value) -> ir.Value:
        """Over a plane, [1,C,1,1]."""
        total = summed(b, values, shape, (2, 3))
        return b.op("Mul", total, b.scalar(1 / (shape[2] * shape[3])))

    if position == 2:
        return reshaped(b, summed(b, gradient, shape, (0, 2, 3)), shape[1:2])
    centred = b.op("Sub", x, mean(x))
    variance = mean(b.op("Mul", centred, centred))
    epsilon = b.scalar(attribute(node, "epsilon", 1e-5))
    deviation = b.op("Sqrt", b.op("Add", variance, epsilon))  # [1,C,1,1]
    normal = b.op("Div", centred, deviation)
    if position == 1:
        product = b.op("Mul", gradient, normal)
        return reshaped(b, summed(b, product, shape, (0, 2, 3)), shape[1:2])
    along = mean(b.op("Mul", gradient, normal))
    across = b.op("Sub", gradient, mean(gradient))
    across = b.op("Sub", across, b.op("Mul", normal, along))
    factor = b.op("Div", reshaped(b, scale, [1, shape[1], 1, 1]), deviation)
    return b.op("Mul", across, factor)


CONVOLUTION_RULES: dict[str, Rule] = {
    "AveragePool": _average_pool,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "GlobalAveragePool": _global_average_pool,
    "InstanceNormalization": _instance_norm,
    "MaxPool": _max_pool,
    "Resize": _resize,
}
"""Operator -> its rule."""
