"""Graphs opened in ONNX Runtime, on one thread: the suite runs in as many processes as cores."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort


def open_session(graph: Path | bytes) -> ort.InferenceSession:
    """Open a file, or a serialised model, on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    source = graph if isinstance(graph, bytes) else str(graph)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
