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


@dataclass(frozen=True)
class TiledConvolution:
    """A convolution with padding of one picture, and its gradients, as nodes of a graph.

    Attributes
    ----------
    b:
        Takes the nodes.
    shape:
        Of the kernel, [O,I,3,3].
    size:
        (height, width) of both the input and the output.
    tiles:
        What it is computed by.
    """

    b: GraphBuilder
    shape: tuple[int, ...]
    size: tuple[int, int]
    tiles: Tiling

    def output(self, x: ir.Value, kernel: ir.Value) -> ir.Value:
        """The convolution itself: [1,I,h,w] -> [1,O,h,w]."""
        kernels = self._kernels(kernel, "kernel", _both_axes(self.tiles.kernel))
        return self._convolved(x, kernels, (self.shape[0], self.shape[1]))

    def output_in_bands(self, x: ir.Value, kernel: ir.Value, most: int) -> ir.Value:
        """The convolution itself, a band of rows after the other: [1,I,h,w] -> [1,O,h,w].

        Parameters
        ----------
        most:
            Numbers of a band; transformed, they are 2.25 times as many.
        """
        b, (height, width), side = self.b, self.size, self.tiles.side
        bands, numbers = 1, max(self.shape[:2]) * height * width
        while numbers > bands * most and height % (2 * bands * side) == 0:
            bands *= 2
        kernels = self._kernels(kernel, "kernel", _both_axes(self.tiles.kernel))
        rows, channels = height // bands, (self.shape[0], self.shape[1])
        band = TiledConvolution(b, self.shape, (rows, width), self.tiles)
        if bands == 1:
            return band._convolved(x, kernels, channels)
        parts = []
        for start in range(0, height, rows):
            edges = max(0, start - 1), min(height, start + rows + 1)
            part = b.op("Slice", x, *map(b.integers, edges), b.integers(2))
            beyond = start == 0, start + rows == height
            parts.append(band._convolved(part, kernels, channels, beyond))
        return b.op("Concat", *parts, axis=2)

    def gradient_by_input(self, gradient: ir.Value, kernel: ir.Value) -> ir.Value:
        """A convolution of the output's gradient with the kernel turned round: [1,I,h,w]."""
        turned = _both_axes(self.tiles.kernel)[:, ::-1]
        kernels = self._kernels(kernel, "turned_kernel", turned)
        kernels = self.b.op("Transpose", kernels, perm=[0, 2, 1])
        return self._convolved(gradient, kernels, (self.shape[1], self.shape[0]))

    def gradient_by_kernel(self, gradient: ir.Value, x: ir.Value) -> ir.Value:
        """Of the output's gradient [1,O,h,w] and the input [1,I,h,w]: [O,I,3,3]."""
        b, (out_channels, in_channels) = self.b, self.shape[:2]
        points, (height, width) = self.tiles.reach**2, self.size
        # The padding is a node of its own: a backward pass can be made to wait with it (`pacing`).
        x = b.op("Pad", x, b.integers(0, 0, 1, 1, 0, 0, 1, 1))
        seen = self._seen(x, in_channels, (height + 2, width + 2), [0] * 4)
        seen = b.op("Transpose", seen, perm=[1, 2, 0])
        products = b.op(
            "MatMul",
            self._constant("output_adjoint", _both_axes(self.tiles.output).T),
            self._split(gradient, out_channels),
        )
        products = b.reshape(products, points, out_channels, -1)
        kernels = b.op("MatMul", products, seen)  # [n,O,I]
        taps = b.op(
            "MatMul",
            self._constant("kernel_adjoint", _both_axes(self.tiles.kernel).T),
            b.reshape(kernels, points, out_channels * in_channels),
        )
        return b.reshape(b.op("Transpose", taps, perm=[1, 0]), *self.shape)

    def _kernels(self, kernel: ir.Value, name: str, matrix: Matrix) -> ir.Value:
        """A kernel at all points: [O,I,3,3] -> [n,O,I]."""
        b, (out_channels, in_channels) = self.b, self.shape[:2]
        rows = b.reshape(kernel, out_channels * in_channels, TAPS**2)
        rows = b.op("Transpose", rows, perm=[1, 0])
        kernels = b.op("MatMul", self._constant(name, matrix), rows)
        return b.reshape(kernels, self.tiles.reach**2, out_channels, in_channels)

    def _convolved(
        self,
        x: ir.Value,
        kernels: ir.Value,
        channels: tuple[int, int],
        padded: tuple[bool, bool] = (True, True),
    ) -> ir.Value:
        """[1,I,h,w] and kernels at all points [n,O,I] -> [1,O,h,w], with (O, I) = `channels`.

        Parameters
        ----------
        padded:
            Whether the row above and the one below are zeros; else x has them.
        """
        b, (height, width) = self.b, self.size
        above, below = (int(zeros) for zeros in padded)
        size = height + 2 - above - below, width
        seen = self._seen(x, channels[1], size, [above, 1, below, 1])
        seen = b.op("Transpose", seen, perm=[1, 0, 2])
        products = b.op("MatMul", kernels, seen)  # [n,O,tiles]
        matrix = self._constant("output", _both_axes(self.tiles.output))
        pixels = b.op("MatMul", matrix, b.reshape(products, self.tiles.reach**2, -1))
        return self._joined(pixels, channels[0])

    def _constant(self, name: str, matrix: Matrix) -> ir.Value:
        name = f"{ARITHMETIC}tiles_{self.tiles.side}_{name}"
        return self.b.constant(name, np.ascontiguousarray(matrix))

    def _seen(
        self, x: ir.Value, channels: int, size: tuple[int, int], padding: list[int]
    ) -> ir.Value:
        """What every tile of the output reads, evaluated at all points: [1,C,h,w] -> [C,n,tiles].

        A convolution of one plane at a time, with steps as large as a tile; (h, w) = `size`;
        `padding` is above, left, below, right.
        """
        b, reach, side = self.b, self.tiles.reach, self.tiles.side
        kernel = _both_axes(self.tiles.input).reshape(reach**2, 1, reach, reach)
        x = b.op(
            "Conv",
            b.reshape(x, channels, 1, *size),
            self._constant("input", kernel),
            kernel_shape=[reach, reach],
            strides=[side, side],
            pads=padding,
        )
        return b.reshape(x, channels, reach**2, -1)

    def _joined(self, pixels: ir.Value, channels: int) -> ir.Value:
        """[m*m,C*tiles] -> [1,C,h,w].

        One axis at a time: ONNX Runtime moves whole runs of numbers so, which is many times as
        fast.
        """
        b, side, (height, width) = self.b, self.tiles.side, self.size
        rows = channels * (height // side)
        x = b.reshape(pixels, side, side, -1)
        x = b.op("Transpose", x, perm=[0, 2, 1])
        x = b.op("Transpose", b.reshape(x, side, rows, width), perm=[1, 0, 2])
        return b.reshape(x, 1, channels, height, width)

    def _split(self, x: ir.Value, channels: int) -> ir.Value:
        """[1,C,h,w] -> [m*m,C*tiles], the other way round."""
        b, side, (height, width) = self.b, self.tiles.side, self.size
        rows = channels * (height // side)
        x = b.op("Transpose", b.reshape(x, rows, side, width), perm=[1, 0, 2])
        x = b.reshape(x, side, rows * (width // side), side)
        x = b.op("Transpose", x, perm=[0, 2, 1])
        return b.reshape(x, side * side, -1)


def _both_axes(matrix: Matrix) -> Matrix:
    """What does along two axes, one after the other, what the matrix does along one."""
    return np.kron(matrix, matrix)
