"""Large tensors that several graphs of a bundle have in common, stored once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from .builder import SMALLEST_EXTERNAL, save_model

INTERNAL_BESIDE_SHARED = 64 << 20  # bytes of its own that a graph keeps that reads other files


def save_sharing(
    model: ir.Model, path: Path, saved: Iterable[Path], offers: bool = False
) -> list[Path]:
    """Write a model that reads from other graphs' data files what it has in common with them.

    Parameters
    ----------
    saved:
        Graphs in the same directory. A tensor is theirs if name, type, shape and all its bytes are;
        what is in no data file is written into the model's own file, or into a data file of its
        own if it is large.
    offers:
        Whether other graphs have the rest in common with this one: only what is in a data file can
        be read by them, so all large tensors get one.

    Returns
    -------
    list of Path
        The files written, as of :func:`~.builder.save_model`.
    """
    offered = _offered(saved)
    own: list[ir.Value] = []
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        assert tensor is not None
        same = (other for other in offered.get(name, ()) if _same(tensor, other))
        if (other := next(same, None)) is not None:
            value.const_value = other
        else:
            own.append(value)
    if len(own) == len(model.graph.initializers) and not offers:
        return save_model(model, path)
    files = [path]
    large = [value for value in own if _size(value) > SMALLEST_EXTERNAL]
    if large and (offers or sum(map(_size, large)) > INTERNAL_BESIDE_SHARED):
        files.append(_externalise(large, path))
    return [*save_model(model, path, external_above=1 << 31), *files[1:]]


def _offered(saved: Iterable[Path]) -> dict[str, list[ir.ExternalTensor]]:
    """Tensors in the data files of graphs, by name; each once."""
    offered: dict[str, dict[tuple[str, int], ir.ExternalTensor]] = {}
    for graph in saved:
        for tensor in external_tensors(graph):
            place = str(tensor.location), tensor.offset or 0
            offered.setdefault(str(tensor.name), {})[place] = tensor
    return {name: list(tensors.values()) for name, tensors in offered.items()}


def _externalise(values: Sequence[ir.Value], path: Path) -> Path:
    """Move tensors of a graph into its own data file; gives that."""
    data = path.with_name(path.name + ".data")
    tensors = [value.const_value for value in values if value.const_value is not None]
    external = ir.external_data.convert_tensors_to_external(tensors, path.parent, data.name)
    for value, tensor in zip(values, external, strict=True):
        value.const_value = tensor
    return data


def _size(value: ir.Value) -> int:
    return 0 if value.const_value is None else value.const_value.nbytes


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
