"""ONNX Runtime, or the sentence that says what to install; import it from here."""

from __future__ import annotations

from ..errors import BackendError

try:
    import onnxruntime
except ModuleNotFoundError as error:
    if error.name != "onnxruntime":
        raise
    raise BackendError(
        "ONNX Runtime is not installed; pip install 'hyperstyle-rt[cpu]' for CPUs, or "
        "'hyperstyle-rt[gpu]' for NVIDIA GPUs"
    ) from None
except ImportError as error:  # files of two builds mixed, or a system library that is missing
    raise BackendError(
        f"ONNX Runtime cannot be imported ({error}); install one build of it afresh, as pip "
        "install --force-reinstall onnxruntime, or onnxruntime-gpu"
    ) from None

__all__ = ["onnxruntime"]
