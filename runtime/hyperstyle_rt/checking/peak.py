"""What a processor can do at best: the rate of a large product of matrices."""

from __future__ import annotations

import time

import numpy as np

from ..backends.ort_library import load_onnxruntime, session_options

SIDE = 2048  # of the matrices: 8.6e9 multiply-accumulates, 50 MB
RUNS = 5

# An ONNX model in protocol buffers: y = x x, of float matrices of any size.
PRODUCT = (
    b"\x08\x08"  # format version 8
    b"\x3a\x40"  # the graph, 64 bytes:
    b"\x0a\x11\x0a\x01x\x0a\x01x\x12\x01y\x22\x06MatMul"  # node x, x -> y
    b"\x12\x01g"  # name g
    b"\x5a\x13\x0a\x01x\x12\x0e\x0a\x0c\x08\x01\x12\x08\x0a\x02\x12\x00\x0a\x02\x12\x00"  # x
    b"\x62\x13\x0a\x01y\x12\x0e\x0a\x0c\x08\x01\x12\x08\x0a\x02\x12\x00\x0a\x02\x12\x00"  # y
    b"\x42\x04\x0a\x00\x10\x0d"  # operator set 13
)


def product_rate(threads: int | None, side: int = SIDE) -> float:
    """Multiply-accumulates a second of ONNX Runtime's float32 matrix product on the CPU.

    The peak in practice: what no graph exceeds, but for products that are never formed.

    Parameters
    ----------
    threads:
        As for :func:`session_options`.
    side:
        Rows and columns of the matrices.

    Raises
    ------
    BackendError
        If ONNX Runtime is not there.
    """
    ort = load_onnxruntime()
    session = ort.InferenceSession(
        PRODUCT, session_options(threads), providers=["CPUExecutionProvider"], enable_fallback=0
    )
    x = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    seconds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        session.run(None, {"x": x})
        seconds.append(time.perf_counter() - began)
    return side**3 / min(seconds)  # a peak is the best of some
