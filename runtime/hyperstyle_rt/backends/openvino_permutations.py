"""Channels in another order, said so that OpenVINO does it right, and fast.

OpenVINO (2026.4.1) removes a Gather that reorders the channels before a convolution and reorders
the kernels instead, as for pictures whose colours are reversed. It takes the order for its inverse:
with any other order the results are wrong.

Where channels are brought together for a convolution in groups, as the bands of a wavelet are, one
convolution of all channels does both, whose kernels are zero between groups: it is a hundred times
the products, and faster, as CPUs have fast kernels for that one alone. Any other order is said as a
split and a concatenation, which OpenVINO leaves alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .openvino_library import load_openvino, nodes_of, replace_node

_CHANNELS = 1
_FEW = 1 << 20
"""Numbers of a kernel up to which zeros are put between groups."""


def spell_out_permutations(model: Any) -> int:
    """Replace every Gather that only reorders channels.

    Parameters
    ----------
    model:
        ``openvino.Model`` of static shapes; it is altered.

    Returns
    -------
    How many were replaced.
    """
    operators = load_openvino().opset13
    replaced = 0
    for gather in nodes_of(model, "Gather"):
        order = _order(gather)
        if order is None:
            continue
        replaced += 1
        if _convolve_reordered(gather, order) or _convolve_and_reorder(gather, order):
            continue
        pieces = operators.split(gather.input_value(0), _CHANNELS, len(order))
        reordered = operators.concat([pieces.output(channel) for channel in order], _CHANNELS)
        replace_node(gather, reordered)
    return replaced


def _order(gather: Any) -> list[int] | None:
    """The order in which a Gather puts all channels; None for one that does something else."""
    indices, axis = (gather.input_value(port).get_node() for port in (1, 2))
    if {indices.get_type_name(), axis.get_type_name()} != {"Constant"}:
        return None
    order, shape = indices.data, tuple(gather.input_value(0).shape)
    if int(axis.data) != _CHANNELS or order.ndim != 1 or len(shape) < 3:
        return None
    listed = [int(channel) % shape[_CHANNELS] for channel in order]
    return listed if sorted(listed) == list(range(shape[_CHANNELS])) else None


def _convolve_reordered(gather: Any, order: list[int]) -> bool:
    """Have a transposed convolution in groups read the channels in the order that they have."""
    readers = [port.get_node() for port in gather.output(0).get_target_inputs()]
    if [node.get_type_name() for node in readers] != ["GroupConvolutionBackpropData"]:
        return False
    (convolution,) = readers
    kernel = _whole_kernel(convolution.input_value(1))
    if kernel is None or len(convolution.inputs()) != 2:
        return False
    kernel[order] = kernel.copy()
    operators = load_openvino().opset13
    result = operators.convolution_backprop_data(
        gather.input_value(0), operators.constant(kernel), **convolution.get_attributes()
    )
    replace_node(convolution, result)
    return True


def _convolve_and_reorder(gather: Any, order: list[int]) -> bool:
    """Have a convolution in groups write the channels in the order that they are wanted in."""
    convolution = gather.input_value(0).get_node()
    if convolution.get_type_name() == "Reshape":  # to the shape that it has
        convolution = convolution.input_value(0).get_node()
    if convolution.get_type_name() != "GroupConvolution":
        return False
    kernel = _whole_kernel(convolution.input_value(1))
    if kernel is None or tuple(convolution.output(0).shape) != tuple(gather.output(0).shape):
        return False
    operators = load_openvino().opset13
    picture = convolution.input_value(0)
    result = operators.convolution(
        picture, operators.constant(kernel[order]), **convolution.get_attributes()
    )
    replace_node(gather, result)
    return True


def _whole_kernel(source: Any) -> NDArray[np.float32] | None:
    """A constant kernel [G,R,C,k,k] as [G*R,G*C,k,k], zero between groups, if that is small."""
    shape, node = tuple(source.shape), source.get_node()
    while node.get_type_name() in ("Reshape", "Convert"):
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant" or int(np.prod(shape)) * shape[0] > _FEW:
        return None
    groups, rows, columns = shape[:3]
    whole = np.zeros((groups, rows, groups, columns, *shape[3:]), np.float32)
    each = np.arange(groups)
    whole[each, :, each] = np.array(node.data, np.float32).reshape(shape)
    return whole.reshape(groups * rows, groups * columns, *shape[3:])
