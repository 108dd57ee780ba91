"""Transposed convolutions in one piece.

Generators make the output channels of their largest ones in parts, as ONNX Runtime holds all
products of one at once. OpenVINO does not, and would write every picture twice.
"""

from __future__ import annotations

from typing import Any

from .openvino_library import constant_of, load_openvino, nodes_of, replace_node

_CHANNELS = 1  # axis of the output channels of [I,O,k,k], and of a picture's


def join_transposed_convolutions(model: Any) -> int:
    """Replace the concatenation of transposed convolutions with slices of one kernel by one of all.

    Parameters
    ----------
    model:
        ``openvino.Model`` of static shapes; it is altered.

    Returns
    -------
    How many concatenations were replaced.
    """
    operators = load_openvino().opset13
    found = 0
    for whole in nodes_of(model, "Concat"):
        parts = [port.get_source_output().get_node() for port in whole.inputs()]
        kernel = _common_kernel(parts)
        if kernel is None or whole.output(0).shape[_CHANNELS] != kernel.shape[_CHANNELS]:
            continue
        told = parts[0].get_attributes()
        joined = operators.convolution_backprop_data(
            parts[0].input_value(0),
            kernel,
            strides=told["strides"],
            pads_begin=told["pads_begin"],
            pads_end=told["pads_end"],
            dilations=told["dilations"],
        )
        replace_node(whole, joined)
        found += 1
    return found


def _common_kernel(parts: list[Any]) -> Any:
    """The kernel that transposed convolutions of one picture have slices of, in order, or None."""
    if any(part.get_type_name() != "ConvolutionBackpropData" for part in parts):
        return None
    slices = [part.input_value(1).get_node() for part in parts]
    if any(each.get_type_name() != "Slice" for each in slices):
        return None
    picture, told = parts[0].input_value(0), parts[0].get_attributes()
    kernel = slices[0].input_value(0)
    stop = 0
    for part, each in zip(parts, slices, strict=True):
        bounds = _channels(each)
        if part.input_value(0) != picture or part.get_attributes() != told:
            return None
        if each.input_value(0) != kernel or bounds is None or bounds[0] != stop:
            return None
        stop = bounds[1]
    return kernel if stop == kernel.shape[_CHANNELS] else None


def _channels(node: Any) -> tuple[int, int] | None:
    """First and last output channel, the latter not included, of a slice of a kernel, or None.

    The step need not be a constant: it is 1 where the slice has all channels between both.
    """
    if node.get_input_size() != 5:
        return None
    constants = [constant_of(node.input_value(port)) for port in (1, 2, 4)]
    if any(data is None or data.size != 1 for data in constants):
        return None
    start, stop, axis = (int(data.item()) for data in constants)
    taken = node.output(0).shape[_CHANNELS]
    return (start, stop) if axis == _CHANNELS and stop - start == taken else None
