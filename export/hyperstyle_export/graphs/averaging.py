"""Adaptive average pooling of one channel between any two sizes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from hyperstyle_rt.types import Array

from .builder import GraphBuilder

Size = tuple[int, int]


def averaged(b: GraphBuilder, x: ir.Value, size: Size, wanted: Size) -> ir.Value:
    """[1,1,H,W] -> [1,1,h,w]: torch's adaptive average pooling, sizes in a whole ratio or not."""
    if size == wanted:
        return x
    if all(n % m == 0 for n, m in zip(size, wanted, strict=True)):
        window = [n // m for n, m in zip(size, wanted, strict=True)]
        return b.op("AveragePool", x, kernel_shape=window, strides=window)
    rows, columns = (averages(n, m) for n, m in zip(size, wanted, strict=True))
    x = b.op("MatMul", b.constant(f"average_rows_{size[0]}_{wanted[0]}", rows), x)
    return b.op("MatMul", x, b.constant(f"average_columns_{size[1]}_{wanted[1]}", columns.T))


def averages(length: int, wanted: int) -> Array:
    """Matrix [wanted,length] that takes means over windows from floor to ceiling."""
    matrix = np.zeros((wanted, length), np.float32)
    for row in range(wanted):
        start, stop = row * length // wanted, -(-(row + 1) * length // wanted)
        matrix[row, start:stop] = 1 / (stop - start)
    return matrix
