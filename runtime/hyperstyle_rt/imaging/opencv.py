"""OpenCV, or the sentence that says what to install.

Import it from here, inside the functions that use it: who brings arrays does without its 40 MB.
"""

from __future__ import annotations

from ..errors import BackendError

try:
    import cv2
except ModuleNotFoundError as error:
    if error.name != "cv2":
        raise
    raise BackendError(
        "OpenCV is not installed; pip install 'hyperstyle-rt[cpu]' for CPUs, 'hyperstyle-rt[gpu]' "
        "for NVIDIA GPUs, or an OpenCV of your choice, as opencv-python-headless"
    ) from None
except ImportError as error:  # a system library that it needs, as libGL
    raise BackendError(
        f"OpenCV cannot be imported ({error}); opencv-python-headless needs no system libraries"
    ) from None

__all__ = ["cv2"]
