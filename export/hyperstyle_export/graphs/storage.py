"""Storing weights in half precision; arithmetic stays in float32."""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir

from .builder import to_half

Storage = Literal["fp32", "fp16"]

STORED_NOISE = "stored_noise."
"""Prefix of constants that keep their type: a graph gives them out as they are."""
ARITHMETIC = "arithmetic."
"""Prefix of constants that keep their type: no weights, but what a product is made of.

A third in half precision is off by 2e-4, and so is everything that is computed with it.
"""

MIN_ELEMENTS = 1024  # smaller tensors are not worth a node


def store_weights(model: ir.Model, storage: Storage) -> ir.Model:
    """With "fp16", replace each larger float32 initializer by a half and a Cast node.

    ONNX Runtime folds the casts when it loads the graph. A weight too small for a half keeps the
    smallest one instead of vanishing: a base weight must not be zero (see `base_weight`).

    Raises
    ------
    ValueError
        If a weight is too large for a half.
    """
    if storage == "fp32":
        return model
    graph = model.graph
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        assert tensor is not None
        if tensor.dtype != ir.DataType.FLOAT or tensor.size < MIN_ELEMENTS:
            continue
        if name.startswith((STORED_NOISE, ARITHMETIC)):
            continue
        half = ir.tensor(to_half(name, tensor.numpy()), name=f"{name}.fp16")
        stored = ir.Value(
            name=half.name,
            type=ir.TensorType(half.dtype),
            shape=value.shape,
            const_value=half,
        )
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT}, name=f"{name}/Cast")
        cast.outputs[0].type = value.type
        cast.outputs[0].shape = value.shape
        value.replace_all_uses_with(cast.outputs[0])
        del graph.initializers[name]
        cast.outputs[0].name = name
        graph.register_initializer(stored)
        graph.insert_before(graph[0], cast)
    return model
