"""Products of matrices in the form that OpenVINO has its fast kernels for, for a batch of one.

Both forms are equal but for rounding. OpenVINO (2026.4.1) computes a product over a very long axis
by a general kernel, in bfloat16 at a fiftieth of the speed; the gradient of a kernel at 1024 pixels
is nine of them. And a product with a picture whose channels are rows needs the picture in another
layout than convolutions write.
"""

from __future__ import annotations

from math import gcd
from typing import Any

from .openvino_library import constant_of, integers, load_openvino, nodes_of, replace_node

_LONG = 1 << 18
"""Inner axes from here on are taken in pieces."""

_PIECE = 1 << 12
"""Length of a piece, or a divisor of it: long enough for the kernel, short enough that sums of
pieces, which are rounded to bfloat16, do not differ more than those of short products."""


def split_long_products(model: Any) -> int:
    """Compute ``a @ b.T`` over a very long axis as the sum of products over its pieces.

    Parameters
    ----------
    model:
        ``openvino.Model`` of static shapes; it is altered.

    Returns
    -------
    How many products were split.
    """
    operators = load_openvino().opset13
    split: dict[tuple[str, int], Any] = {}

    def in_pieces(port: Any, piece: int) -> Any:
        """[R,K] -> [K/piece,piece,R]; several products may have it in common."""
        key = port.get_node().get_friendly_name(), port.get_index()
        if key not in split:
            picture = _picture(port)
            pieces = integers(-1, piece, port.shape[0])
            if picture is None:
                last = operators.transpose(port, integers(1, 0))
            else:  # whose channels are together already, as convolutions write it
                last = operators.transpose(picture, integers(0, 2, 3, 1))
            split[key] = operators.reshape(last.output(0), pieces, False)
        return split[key].output(0)

    found = 0
    for product in nodes_of(model, "MatMul"):
        a, b = (product.input_value(port) for port in (0, 1))
        turned = product.get_attributes()
        if turned["transpose_a"] or not turned["transpose_b"]:
            continue
        if not len(a.shape) == len(b.shape) == 2 or a.shape[1] < _LONG:
            continue
        piece = gcd(a.shape[1], _PIECE)
        parts = operators.matmul(in_pieces(a, piece), in_pieces(b, piece), True, False)
        total = operators.reduce_sum(parts.output(0), integers(0), False)
        replace_node(product, total)
        found += 1
    return found


def turn_in_products(model: Any) -> int:
    """Compute ``a @ x`` of an x [n,L,R] that was made of [R,n,L] as ``a @ y.T`` of y [n,R,L].

    Rows stay whole then; otherwise single values are moved, by a general and slow operator.

    Parameters
    ----------
    model:
        ``openvino.Model`` of static shapes; it is altered.

    Returns
    -------
    How many products were replaced.
    """
    operators = load_openvino().opset13
    found = 0
    for product in nodes_of(model, "MatMul"):
        turned = product.get_attributes()
        transpose = product.input_value(1).get_node()
        if turned["transpose_b"] or transpose.get_type_name() != "Transpose":
            continue
        order = constant_of(transpose.input_value(1))
        if order is None or order.ravel().tolist() != [1, 2, 0]:
            continue
        rows = operators.transpose(transpose.input_value(0), integers(1, 0, 2)).output(0)
        left = product.input_value(0)
        replace_node(product, operators.matmul(left, rows, turned["transpose_a"], True))
        found += 1
    return found


def products_as_convolutions(model: Any) -> int:
    """Compute ``kernel [1,O,I] @ pixels [1,I,h*w]`` as a 1x1 convolution of the picture [1,I,h,w].

    Parameters
    ----------
    model:
        ``openvino.Model`` of static shapes; it is altered.

    Returns
    -------
    How many products were replaced.
    """
    operators = load_openvino().opset13
    found = 0
    for product in nodes_of(model, "MatMul"):
        kernel, pixels = (product.input_value(port) for port in (0, 1))
        turned = product.get_attributes()
        if turned["transpose_a"] or turned["transpose_b"] or len(kernel.shape) != 3:
            continue
        picture = _picture(pixels)
        if picture is None:
            continue
        out_channels = kernel.shape[1]
        weights = operators.reshape(kernel, integers(out_channels, kernel.shape[2], 1, 1), False)
        result = operators.convolution(
            picture, weights.output(0), [1, 1], [0, 0], [0, 0], [1, 1]
        ).output(0)
        replace_node(product, operators.reshape(result, integers(1, out_channels, -1), False))
        found += 1
    return found


def _picture(port: Any) -> Any:
    """The picture [1,C,h,w] that a matrix [C,h*w] or [1,C,h*w] was made of, or None."""
    source = port.get_node()
    if source.get_type_name() != "Reshape":
        return None
    picture = source.input_value(0)
    if len(picture.shape) != 4 or picture.shape[0] != 1:
        return None
    _, channels, height, width = picture.shape
    matrix = (channels, height * width)
    return picture if tuple(port.shape) in (matrix, (1, *matrix)) else None
