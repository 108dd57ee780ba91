"""Inference of shapes: everything by name, and nothing changed."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hyperstyle_export.graphs.builder import GraphBuilder
from hyperstyle_export.graphs.shapes import Inferred, infer_shapes


def test_what_shapes_depend_on_is_read_and_the_model_stays() -> None:
    """A reshape by a constant, a large constant, an axis that is free."""
    b = GraphBuilder("graph")
    x = b.input("x", ["batch", 6])
    halves = b.reshape(x, -1, 2, 3)
    product = b.op("MatMul", halves, b.constant("large", np.zeros((3, 512), np.float32)))
    b.output("y", product, ["batch", 2, 512])
    model = b.build()
    before = ir.serde.serialize_model(model).SerializeToString()
    shapes = infer_shapes(model)
    assert shapes["y"] == Inferred(ir.DataType.FLOAT, (None, 2, 512))
    assert shapes[str(halves.name)].shape[1:] == (2, 3)
    assert ir.serde.serialize_model(model).SerializeToString() == before


def test_operands_that_do_not_fit_are_an_error() -> None:
    b = GraphBuilder("graph")
    product = b.op("MatMul", b.input("x", [2, 3]), b.input("y", [4, 5]))
    b.output("z", product, [2, 5])
    with pytest.raises(ValueError, match="shapes of graph"):
        infer_shapes(b.build())
