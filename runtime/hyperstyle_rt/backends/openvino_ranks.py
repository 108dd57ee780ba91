"""Single values computed with pictures at the rank of pictures.

OpenVINO (2026.4.1) computes chains of operators on single values in the layout that convolutions
write, channels last, only where all that they read has the same rank. With a single number [1],
such as the strength of a noise map that is an input, pictures go to another layout and back.
"""

from __future__ import annotations

from typing import Any

from .openvino_library import constant_of, integers, load_openvino, nodes_of

_KINDS = ("Multiply", "Add", "Subtract")
_OF_A_PICTURE = 4


def raise_ranks_beside_pictures(model: Any) -> int:
    """Reshape what is added to or multiplied with [B,C,h,w] at a lower rank, but for constants.

    Parameters
    ----------
    model:
        ``openvino.Model`` of static shapes; it is altered.

    Returns
    -------
    How many operators read a reshaped value.
    """
    return sum(_raise_rank(node) for node in nodes_of(model, *_KINDS))


def _raise_rank(node: Any) -> bool:
    """Of the input of lower rank, if there is one and the other is a picture."""
    ports = node.input(0), node.input(1)
    lower, higher = sorted(ports, key=lambda port: len(port.get_shape()))
    missing = len(higher.get_shape()) - len(lower.get_shape())
    if len(higher.get_shape()) != _OF_A_PICTURE or not missing:
        return False
    source = lower.get_source_output()
    if constant_of(source) is not None:
        return False
    raised = load_openvino().opset13.reshape(source, integers(*[1] * missing, *source.shape), False)
    lower.replace_source_output(raised.output(0))
    return True
