"""Backends opened in this process and in others: what they run, and how far apart results are."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from hyperstyle_rt.backends.openvino_library import computes_bfloat16, new_core
from hyperstyle_rt.backends.protocol import Backend

# Not importorskip: to import the package as it is reports that to its maker.
NEEDS_OPENVINO = pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino")

OPEN = """
import os, sys
from pathlib import Path
import numpy as np
from hyperstyle_rt.backends.registry import open_backend
from hyperstyle_rt.formats.bundle import Bundle

def load(name="cpu", threads=2):
    return open_backend(name, Bundle.open(Path(sys.argv[1])), threads)

def encode(backend):
    shape = [length or 1 for length in backend.signature("encoder").inputs["target"].shape]
    x = backend.upload(np.full(shape, 0.5, np.float32))
    return backend.download(backend.run("encoder", {"target": x})["latents"])
"""


def compiled(model: Any, precision: str = "f32") -> Any:
    """An ``openvino.Model`` as OpenVINO computes it on one thread."""
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
    return new_core().compile_model(model, "CPU", settings)


def require_bfloat16() -> None:
    """Skip a test where OpenVINO has no bfloat16 kernels for this CPU."""
    if not computes_bfloat16(new_core()):
        pytest.skip("needs a CPU with AVX-512 BF16 or AMX")


def python(
    code: str, *arguments: object, timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own; standard error is what any library writes to it."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | environment,
    )


def encode(backend: Backend, value: float = 0.5) -> np.ndarray:
    """Latents of a picture of one colour."""
    shape = [length or 1 for length in backend.signature("encoder").inputs["target"].shape]
    x = backend.upload(np.full(shape, value, np.float32))
    return backend.download(backend.run("encoder", {"target": x})["latents"])


def furthest(expected: np.ndarray, actual: np.ndarray) -> float:
    """The largest difference over the largest value."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())
