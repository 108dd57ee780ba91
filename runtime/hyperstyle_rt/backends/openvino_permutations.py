"""Channels in another order, said so that OpenVINO leaves them where they are.

OpenVINO (2026.4.1) removes a Gather that reorders the channels before a convolution and reorders
the kernels instead, as for pictures whose colours are reversed. It takes the order for its inverse:
with any other order the results are wrong. A split and a concatenation say the same and are left
alone.
"""

from __future__ import annotations

from typing import Any

from .openvino_library import load_openvino, nodes_of, replace_node

_CHANNELS = 1


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
        pieces = operators.split(gather.input_value(0), _CHANNELS, len(order))
        reordered = operators.concat([pieces.output(channel) for channel in order], _CHANNELS)
        replace_node(gather, reordered)
        replaced += 1
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
