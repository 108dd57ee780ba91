"""Running a graph that a test has built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from hyperstyle_export.graphs.builder import save_model
from numpy.typing import NDArray
from onnx_sessions import open_session


def open_graph(model: ir.Model, folder: Path) -> ort.InferenceSession:
    """A graph in ONNX Runtime."""
    path = folder / "graph.onnx"
    save_model(model, path)
    return open_session(path)


def run_graph(
    model: ir.Model, folder: Path, given: Mapping[str, NDArray[np.float32]]
) -> dict[str, Any]:
    """Outputs of a graph by name; what it has no input for is left out."""
    session = open_graph(model, folder)
    names = [output.name for output in session.get_outputs()]
    fed = {value.name: np.asarray(given[value.name]) for value in session.get_inputs()}
    return dict(zip(names, session.run(names, fed), strict=True))
