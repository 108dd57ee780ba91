"""Kernels that graphs pass to each other in bfloat16, where it is what they are computed in.

They are the largest tensors between graphs, 122 MB of float32 for 1024 pixels, which one graph
would write, and the next one read to round them. numpy has no bfloat16: an array of uint16 is one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .openvino_library import load_openvino

_KERNELS = ("weight.", "base.", "tuned.")
"""How the names of kernels begin, as graphs give and take them."""

Half = NDArray[np.uint16]


def pass_kernels_in_bfloat16(model: Any) -> tuple[Any, frozenset[str]]:
    """Give and take the kernels of a model in bfloat16.

    Parameters
    ----------
    model:
        ``openvino.Model``.

    Returns
    -------
    model, names:
        A model of the same operators, and the inputs and outputs that are of another type in it.
    """
    openvino = load_openvino()
    steps = openvino.preprocess.PrePostProcessor(model)
    names = set()
    for ports, step in ((model.inputs, steps.input), (model.outputs, steps.output)):
        for port in ports:
            name = port.get_any_name()
            if name.startswith(_KERNELS) and port.get_element_type() == openvino.Type.f32:
                step(name).tensor().set_element_type(openvino.Type.bf16)
                names.add(name)
    return (steps.build() if names else model), frozenset(names)


def is_half(array: Any) -> bool:
    """Whether an array is of bfloat16."""
    return bool(array.dtype == np.uint16)


def to_half(array: Any) -> Half:
    """Round float32 to bfloat16, ties to even; what is of it stays as it is."""
    halves: Half = array
    if not is_half(array):
        bits = np.ascontiguousarray(array).view(np.uint32)
        halves = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return halves


def to_float(array: Any) -> Any:
    """The numbers of an array of bfloat16 as float32; any other array as it is."""
    if not is_half(array):
        return array
    return (array.astype(np.uint32) << 16).view(np.float32)


def half_tensor(array: Half) -> Any:
    """An ``openvino.Tensor`` of bfloat16 where an array lies."""
    openvino = load_openvino()
    return openvino.Tensor(array, openvino.Shape(array.shape), openvino.Type.bf16)
