"""ONNX Runtime in processes of their own: what they run, and how they are started."""

from __future__ import annotations

import os
import subprocess
import sys


def python(
    code: str, *arguments: str, timeout: float = 60, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own; standard error is what any library writes to it."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | environment,
    )


OPEN = """
import os, sys
from pathlib import Path
import numpy as np
from hyperstyle_rt.backends.registry import open_backend
from hyperstyle_rt.formats.bundle import Bundle

def load(threads=2):
    return open_backend("cpu", Bundle.open(Path(sys.argv[1])), threads)

def encode(backend):
    shape = [length or 1 for length in backend.signature("encoder").inputs["target"].shape]
    x = backend.upload(np.zeros(shape, np.float32))
    return backend.download(backend.run("encoder", {"target": x})["latents"])
"""
