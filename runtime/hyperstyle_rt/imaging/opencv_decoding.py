"""OpenCV's decoders, without the log that it writes on standard error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SILENT = 0
_lock = threading.Lock()
_inside = 0
_level = _SILENT  # that a caller has set


def decode_with_opencv(data: bytes) -> NDArray[Any] | None:
    """Decode a picture to OpenCV's [H,W] or [H,W,3 or 4] (BGR, BGRA); None if it cannot.

    Raises
    ------
    MemoryError
        If there is not enough.
    """
    from .opencv import cv2

    try:
        with quiet_opencv():
            # Unchanged: keeps alpha and 16 bits, and leaves the orientation to us.
            return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from None
        return None


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from logging; whatever level was set before comes back after the last block.

    What it would say of a damaged file, the caller says in a sentence.
    """
    from .opencv import cv2

    global _inside, _level
    logging: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 4 has its functions itself
    with _lock:
        if _inside == 0:
            _level = logging.getLogLevel()
            logging.setLogLevel(_SILENT)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                logging.setLogLevel(_level)
