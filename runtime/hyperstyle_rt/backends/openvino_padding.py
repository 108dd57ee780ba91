"""Zeros around a picture, left to the convolution that reads it.

A convolution by tiles sees each channel as a picture of its own, and its padding is a node before
that. OpenVINO joins padding and convolution only where nothing is between them, and takes ten times
as long over the layout of a picture whose sides are no multiple of sixteen.
"""

from __future__ import annotations

from typing import Any

from .openvino_library import constant_of, integers, load_openvino, nodes_of, replace_node


def pad_in_convolutions(model: Any) -> int:
    """Replace Pad of [1,C,h,w], Reshape to [C,1,h,w] and Convolution by one that pads itself.

    Parameters
    ----------
    model:
        ``openvino.Model`` of static shapes; it is altered.

    Returns
    -------
    How many convolutions were replaced.
    """
    operators = load_openvino().opset13
    found = 0
    for convolution in nodes_of(model, "Convolution"):
        planes = convolution.input_value(0)
        padding = _padding_of_planes(planes.get_node())
        if padding is None:
            continue
        picture, begin, end = padding
        shape = integers(planes.shape[0], 1, *picture.shape[2:])
        told = convolution.get_attributes()
        padded = operators.convolution(
            operators.reshape(picture, shape, False),
            convolution.input_value(1),
            told["strides"],
            [n + m for n, m in zip(told["pads_begin"], begin, strict=True)],
            [n + m for n, m in zip(told["pads_end"], end, strict=True)],
            told["dilations"],
        )
        replace_node(convolution, padded)
        found += 1
    return found


def _padding_of_planes(reshape: Any) -> tuple[Any, list[int], list[int]] | None:
    """The picture [1,C,h,w] whose channels are planes [C,1,.,.] here, and what is added to it.

    None if it is anything else than rows and columns of zeros.
    """
    if reshape.get_type_name() != "Reshape":
        return None
    pad = reshape.input_value(0).get_node()
    if pad.get_type_name() != "Pad" or pad.get_attributes()["pad_mode"] != "constant":
        return None
    constants = [constant_of(pad.input_value(port)) for port in range(1, pad.get_input_size())]
    if any(data is None for data in constants):
        return None
    begin, end, *values = (data.ravel().tolist() for data in constants)
    batch, channels, height, width = pad.output(0).shape
    if any(begin[:2]) or any(end[:2]) or batch != 1 or any(value for (value,) in values):
        return None
    if tuple(reshape.output(0).shape) != (channels, 1, height, width):
        return None
    return pad.input_value(0), begin[2:], end[2:]
