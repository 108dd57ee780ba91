"""Channels in another order, said so that OpenVINO does it right, and fast.

OpenVINO (2026.4.1) removes a Gather that reorders the channels before a convolution and reorders
the kernels instead, as for pictures whose colours are reversed. It takes the order for its inverse:
with any other order the results are wrong.

Where channels are brought together in groups for a grouped convolution, as the bands of a wavelet
are, no channel needs to move: each band is convolved by itself. Any other order is said as a split
and a concatenation, which OpenVINO leaves alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .openvino_library import load_openvino, nodes_of, replace_node

_CHANNELS = 1
_MOST_BANDS = 4


@dataclass(frozen=True)
class _Band:
    """Channels that lie together, and the places ``start`` to ``end`` they take in every group."""

    start: int
    end: int
    first: int


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
        if _convolve_bands_apart(gather, order) or _convolve_to_bands(gather, order):
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


def _convolve_bands_apart(gather: Any, order: list[int]) -> bool:
    """The sum of the bands' transposed convolutions in the place of that of all in groups."""
    readers = [port.get_node() for port in gather.output(0).get_target_inputs()]
    if [node.get_type_name() for node in readers] != ["GroupConvolutionBackpropData"]:
        return False
    (convolution,) = readers
    kernel = convolution.input_value(1)
    bands = _bands(order, kernel.shape[0])
    if bands is None or len(convolution.inputs()) != 2:
        return False
    operators, picture = load_openvino().opset13, gather.input_value(0)
    total: Any = None
    for band in bands:
        channels = kernel.shape[0] * (band.end - band.start)
        part = _part(picture, band.first, band.first + channels, _CHANNELS)
        result = operators.group_convolution_backprop_data(
            part, _part(kernel, band.start, band.end, 1), **convolution.get_attributes()
        )
        total = result if total is None else operators.add(total, result)
    replace_node(convolution, total)
    return True


def _convolve_to_bands(gather: Any, order: list[int]) -> bool:
    """The bands' convolutions after one another in the place of channels that are put so."""
    convolution = gather.input_value(0).get_node()
    if convolution.get_type_name() == "Reshape":  # to the shape that it has
        convolution = convolution.input_value(0).get_node()
    if convolution.get_type_name() != "GroupConvolution":
        return False
    picture, kernel = (convolution.input_value(port) for port in (0, 1))
    bands = _bands(np.argsort(order).tolist(), kernel.shape[0])
    if bands is None or tuple(convolution.output(0).shape) != tuple(gather.output(0).shape):
        return False
    operators = load_openvino().opset13
    parts = [
        operators.group_convolution(
            picture, _part(kernel, band.start, band.end, 1), **convolution.get_attributes()
        ).output(0)
        for band in sorted(bands, key=lambda band: band.first)
    ]
    replace_node(gather, operators.concat(parts, _CHANNELS))
    return True


def _bands(order: list[int], groups: int) -> list[_Band] | None:
    """The bands that an order brings together in groups; None where they are many."""
    places = np.array(order).reshape(groups, -1)
    bands: list[_Band] = []
    start, count = 0, places.shape[1]
    while start < count and len(bands) < _MOST_BANDS:
        for end in range(count, start, -1):
            width = end - start
            band = places[0, start] + np.arange(groups * width).reshape(groups, width)
            if np.array_equal(places[:, start:end], band):
                bands.append(_Band(start, end, int(places[0, start])))
                start = end
                break
        else:
            return None
    return bands if start == count else None


def _part(source: Any, start: int, end: int, axis: int) -> Any:
    numbers = [np.array([value], np.int64) for value in (start, end, 1, axis)]
    return load_openvino().opset13.slice(source, *numbers).output(0)
