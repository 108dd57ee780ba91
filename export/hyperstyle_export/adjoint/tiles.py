"""3x3 convolutions and their gradients by tiles, in a fraction of the products (Winograd's).

A tile of m x m pixels of the output depends on (m + 2) x (m + 2) of the input. Seen as polynomials,
both and the kernel are evaluated at m + 2 points per axis; what was a convolution is then one
product per point, and the result is interpolated. A pixel takes 9 products without it, 4 with tiles
of 2 x 2 and 2.25 with tiles of 4 x 4, and all of them are matrix products over channels.

- S. Winograd, *Arithmetic Complexity of Computations*, 1980.
- A. Lavin and S. Gray, *Fast Algorithms for Convolutional Neural Networks*, 2016.

In exact arithmetic nothing changes. In float32 tiles of 4 x 4 are off by 2e-6 of the norm, a sum of
products and tiles of 2 x 2 by 4e-7: enough for gradients, which are linear in what is computed
here. The errors of a forward pass decide on which side of zero an activation is: `graphs.tiled`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..graphs.builder import GraphBuilder
from ..graphs.storage import ARITHMETIC

TAPS = 3
SMALLEST_SIDE = 16  # of a plane: below, there are too few tiles for a matrix product
LARGE_SIDE = 32  # from which on tiles are of 4 x 4 pixels
FEWEST_FOR_INPUT, FEWEST_FOR_KERNEL, FEWEST_FORWARD = 64, 32, 256
"""Channels below which the transformations take longer than what they save."""
LARGEST = 1 << 24  # numbers of a tensor: transformed, they are 2.25 times as many, 151 MB

POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 1.0, -1.0, 0.5, -2.0)}
"""Side of a tile -> where the polynomials are evaluated, beside infinity.

Of small numbers, few of them alike in size: with 2 in the place of 1/2 the error is half as large
again.
"""

Matrix = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Tiling:
    """The transformations of one size of tile, along one axis.

    Attributes
    ----------
    side:
        Of a tile of the output, m.
    output:
        [m,m+2]: from the products to the pixels.
    kernel:
        [m+2,3].
    input:
        [m+2,m+2].
    """

    side: int
    output: Matrix
    kernel: Matrix
    input: Matrix

    @property
    def reach(self) -> int:
        """Side of what a tile is computed from, m + 2."""
        return self.side + TAPS - 1


@cache
def tiling(side: int) -> Tiling:
    """Of tiles of `side` x `side` pixels, a key of :data:`POINTS`."""
    kernel, output = _powers(side, TAPS), _powers(side, side)
    inverse = np.linalg.inv(_powers(side, side + TAPS - 1))
    return Tiling(side, output.T, kernel, inverse.T)


def _powers(side: int, count: int) -> Matrix:
    """Of every point, its powers below `count`; of infinity, the highest alone: [m+2,count]."""
    rows = np.array([[point**power for power in range(count)] for point in POINTS[side]])
    return np.concatenate([rows, np.eye(count)[-1:]])


def tiling_of(
    kernel: tuple[int, ...],
    size: tuple[int, int],
    stride: int,
    padding: tuple[int, int],
    fewest: int,
) -> Tiling | None:
    """The tiles to use for the gradients of a convolution, if it is worth it.

    Parameters
    ----------
    kernel:
        [O,I,h,w], of a convolution without groups.
    size:
        (height, width) of its output.
    fewest:
        Channels from which on it is.
    """
    smallest = min(size)
    side = 4 if smallest >= LARGE_SIDE else 2
    fits = kernel[2:] == (TAPS, TAPS) and stride == 1 and padding == (1, 1)
    whole = not any(length % side for length in size)
    large = smallest >= SMALLEST_SIDE and min(kernel[:2]) >= fewest
    small = max(kernel[:2]) * size[0] * size[1] <= LARGEST
    return tiling(side) if fits and whole and large and small else None


def convolution(
    b: GraphBuilder,
    x: ir.Value,
    kernel: ir.Value,
    shape: tuple[int, ...],
    size: tuple[int, int],
    tiles: Tiling,
) -> ir.Value:
    """The convolution itself: [1,O,h,w].

    Parameters
    ----------
    x:
        [1,I,h,w], with (h, w) = `size`.
    kernel:
        Of `shape` [O,I,3,3].
    """
    kernels = _kernels(b, kernel, shape, tiles, "kernel", _both_axes(tiles.kernel))
    return _convolved(b, x, kernels, (shape[0], shape[1]), size, tiles)


def gradient_by_input(
    b: GraphBuilder,
    gradient: ir.Value,
    kernel: ir.Value,
    shape: tuple[int, ...],
    size: tuple[int, int],
    tiles: Tiling,
) -> ir.Value:
    """The convolution of the output's gradient with the kernel turned round: [1,I,h,w].

    Parameters
    ----------
    gradient:
        [1,O,h,w], with (h, w) = `size`.
    kernel:
        Of `shape` [O,I,3,3].
    """
    turned = _both_axes(tiles.kernel)[:, ::-1]
    kernels = _kernels(b, kernel, shape, tiles, "turned_kernel", turned)
    kernels = b.op("Transpose", kernels, perm=[0, 2, 1])
    return _convolved(b, gradient, kernels, (shape[1], shape[0]), size, tiles)


def gradient_by_kernel(
    b: GraphBuilder,
    x: ir.Value,
    gradient: ir.Value,
    shape: tuple[int, ...],
    size: tuple[int, int],
    tiles: Tiling,
) -> ir.Value:
    """Of the output's gradient and the input, [O,I,3,3].

    Parameters
    ----------
    x, gradient:
        [1,I,h,w], [1,O,h,w], with (h, w) = `size`.
    shape:
        [O,I,3,3].
    """
    out_channels, in_channels = shape[:2]
    points = tiles.reach**2
    # The padding is a node of its own, which a backward pass can be made to wait with: `pacing`.
    x = b.op("Pad", x, b.integers(0, 0, 1, 1, 0, 0, 1, 1))
    padded = (size[0] + 2, size[1] + 2)
    seen = b.op("Transpose", _seen(b, x, in_channels, padded, tiles, 0), perm=[1, 2, 0])
    products = b.op(
        "MatMul",
        _constant(b, "output_adjoint", tiles, _both_axes(tiles.output).T),
        _split(b, gradient, out_channels, size, tiles),
    )
    products = b.reshape(products, points, out_channels, -1)
    kernels = b.op("MatMul", products, seen)  # [n,O,I]
    taps = b.op(
        "MatMul",
        _constant(b, "kernel_adjoint", tiles, _both_axes(tiles.kernel).T),
        b.reshape(kernels, points, out_channels * in_channels),
    )
    return b.reshape(b.op("Transpose", taps, perm=[1, 0]), *shape)


def _kernels(
    b: GraphBuilder,
    kernel: ir.Value,
    shape: tuple[int, ...],
    tiles: Tiling,
    name: str,
    matrix: Matrix,
) -> ir.Value:
    """A kernel at all points: [O,I,3,3] -> [n,O,I]."""
    rows = b.op("Transpose", b.reshape(kernel, shape[0] * shape[1], TAPS**2), perm=[1, 0])
    kernels = b.op("MatMul", _constant(b, name, tiles, matrix), rows)
    return b.reshape(kernels, tiles.reach**2, *shape[:2])


def _convolved(
    b: GraphBuilder,
    x: ir.Value,
    kernels: ir.Value,
    channels: tuple[int, int],
    size: tuple[int, int],
    tiles: Tiling,
) -> ir.Value:
    """[1,I,h,w] and kernels at all points [n,O,I] -> [1,O,h,w], with (O, I) = `channels`."""
    seen = b.op("Transpose", _seen(b, x, channels[1], size, tiles, 1), perm=[1, 0, 2])
    products = b.op("MatMul", kernels, seen)  # [n,O,tiles]
    matrix = _constant(b, "output", tiles, _both_axes(tiles.output))
    pixels = b.op("MatMul", matrix, b.reshape(products, tiles.reach**2, -1))
    return _joined(b, pixels, channels[0], size, tiles)


def _both_axes(matrix: Matrix) -> Matrix:
    """What does along two axes, one after the other, what the matrix does along one."""
    return np.kron(matrix, matrix)


def _constant(b: GraphBuilder, name: str, tiles: Tiling, matrix: Matrix) -> ir.Value:
    return b.constant(f"{ARITHMETIC}tiles_{tiles.side}_{name}", np.ascontiguousarray(matrix))


def _seen(
    b: GraphBuilder,
    x: ir.Value,
    channels: int,
    size: tuple[int, int],
    tiles: Tiling,
    padding: int,
) -> ir.Value:
    """What every tile of the output reads, evaluated at all points: [1,C,h,w] -> [C,n,tiles].

    A convolution of one plane at a time, with steps as large as a tile.
    """
    reach, side = tiles.reach, tiles.side
    kernel = _both_axes(tiles.input).reshape(reach**2, 1, reach, reach)
    x = b.op(
        "Conv",
        b.reshape(x, channels, 1, *size),
        _constant(b, "input", tiles, kernel),
        kernel_shape=[reach, reach],
        strides=[side, side],
        pads=[padding] * 4,
    )
    return b.reshape(x, channels, reach**2, -1)


def _joined(
    b: GraphBuilder, pixels: ir.Value, channels: int, size: tuple[int, int], tiles: Tiling
) -> ir.Value:
    """[m*m,C*tiles] -> [1,C,h,w].

    One axis at a time: ONNX Runtime moves whole runs of numbers so, which is many times as fast.
    """
    side, (height, width) = tiles.side, size
    rows = channels * (height // side)
    x = b.reshape(pixels, side, side, -1)
    x = b.op("Transpose", x, perm=[0, 2, 1])
    x = b.op("Transpose", b.reshape(x, side, rows, width), perm=[1, 0, 2])
    return b.reshape(x, 1, channels, height, width)


def _split(
    b: GraphBuilder, x: ir.Value, channels: int, size: tuple[int, int], tiles: Tiling
) -> ir.Value:
    """[1,C,h,w] -> [m*m,C*tiles], the other way round."""
    side, (height, width) = tiles.side, size
    rows = channels * (height // side)
    x = b.op("Transpose", b.reshape(x, rows, side, width), perm=[1, 0, 2])
    x = b.op("Transpose", b.reshape(x, side, rows * (width // side), side), perm=[0, 2, 1])
    return b.reshape(x, side * side, -1)
