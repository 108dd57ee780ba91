"""The packaged models of faces and eyes in ONNX Runtime; for sources see ``models/README.md``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..backends.lifetime import NativeObjects
from ..backends.native_memory import is_out_of_memory, too_little_memory
from ..types import Doubles, Picture

if TYPE_CHECKING:
    import onnxruntime

MODELS = Path(__file__).with_name("models")
MODEL_DIGESTS = {
    "face_detector.onnx": "f64a92f270b611b42dbb1f71aacb45f7e534231f294531d87dc6c3db9baa5737",
    "face_mesh.onnx": "d81130566a1e48eea5ba30e77b2eb267906e45266c0fa6a3cb72f590d9f49eb3",
    "eye_contour.onnx": "5d4a75a76f04739d6e79aae0f5ec9a45f2b8a5f88ef2fe6895633a81ec14b75f",
}

_OUTPUTS = {
    "face_detector.onnx": ("boxes", "scores"),
    "face_mesh.onnx": ("points", "presence"),
    "eye_contour.onnx": ("points",),
}


def run_model(model: str, image: Picture, span: int = 1, lowest: int = 0) -> list[Doubles]:
    """Run a model on one picture.

    Parameters
    ----------
    model:
        File name, one of :data:`MODEL_DIGESTS`.
    image:
        uint8 [H,W,3] RGB, which the model reads as `lowest` to `lowest + span`.

    Returns
    -------
    float64 [rows,width] each, in the order of `_OUTPUTS`.

    Raises
    ------
    RuntimeError
        If the packaged model is not that of this release.
    BackendError
        If there is too little memory for it.
    """
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)
    values = planes * np.float32(span / 255) + np.float32(lowest)
    with _memory_told(f"run {model}"):
        outputs = _session(model).run(_OUTPUTS[model], {"image": values})
    return [output[0].astype(np.float64) for output in outputs]


def _session(model: str) -> onnxruntime.InferenceSession:
    """The session of a model, which is opened anew in a forked child: it has no threads there."""
    return _opened(model, os.getpid())[0]


@lru_cache(maxsize=2 * len(MODEL_DIGESTS))
def _opened(model: str, _process: int) -> tuple[onnxruntime.InferenceSession, NativeObjects]:
    from ..backends.ort_library import load_onnxruntime, session_options

    data = (MODELS / model).read_bytes()
    if hashlib.sha256(data).hexdigest() != MODEL_DIGESTS[model]:
        raise RuntimeError(f"{MODELS / model} is not the file of this release; install it again")
    ort = load_onnxruntime()
    options = session_options(1)  # milliseconds of work, often beside an inversion
    with _memory_told(f"load {model}"):
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    native = NativeObjects()
    native.keep(session)
    return session, native


@contextmanager
def _memory_told(purpose: str) -> Iterator[None]:
    """Say of what fails in ONNX Runtime for want of memory that it does."""
    try:
        yield
    except Exception as error:  # ONNX Runtime raises its own types, which share no base
        if is_out_of_memory(error):
            raise too_little_memory(purpose) from error
        raise
