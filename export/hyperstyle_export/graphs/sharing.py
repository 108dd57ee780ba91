"""Large tensors that several graphs of a bundle have in common, stored once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from .builder import EXTERNAL_ABOVE, save_model


def save_sharing(model: ir.Model, path: Path, saved: Iterable[Path]) -> list[Path]:
    """Write a model that reads from other graphs' data files what it has in common with them.

    Parameters
    ----------
    saved:
        Graphs in the same directory. A tensor is theirs if name, type, shape and all its bytes are;
        what is in no data file is written into the model's own file. A model that has nothing in
        common with them is written as they are, large tensors into a data file of its own.

    Returns
    -------
    list of Path
        The files written, as of :func:`~.builder.save_model`.
    """
    offered = {str(tensor.name): tensor for graph in saved for tensor in external_tensors(graph)}
    is_sharing = False
    for name, value in model.graph.initializers.items():
        tensor, other = value.const_value, offered.get(name)
        assert tensor is not None
        if other is not None and _same(tensor, other):
            value.const_value = other
            is_sharing = True
    return save_model(model, path, external_above=1 << 31 if is_sharing else EXTERNAL_ABOVE)


def external_tensors(path: Path) -> list[ir.ExternalTensor]:
    """Tensors that a written graph reads from data files.

    Only the list of constants is looked at: to make objects of all nodes of all graphs, for every
    graph that shares, would take longer than everything else about a small bundle.
    """
    constants = onnx.load(path, load_external_data=False).graph.initializer
    outside = [each for each in constants if each.data_location == onnx.TensorProto.EXTERNAL]
    tensors = (ir.serde.deserialize_tensor(each, path.parent) for each in outside)
    return [tensor for tensor in tensors if isinstance(tensor, ir.ExternalTensor)]


def _same(one: ir.TensorProtocol, other: ir.TensorProtocol) -> bool:
    """Whether two tensors are the same, bit by bit; neither is copied."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    bits = f"u{one.numpy().itemsize}"
    return np.array_equal(one.numpy().view(bits), other.numpy().view(bits))
