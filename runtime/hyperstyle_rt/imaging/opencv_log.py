"""OpenCV's own log, which goes to standard error: off while it decodes what strangers made."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SILENT = 0
_lock = threading.Lock()
_inside = 0
_level = _SILENT  # that a caller has set


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from logging; whatever level was set before comes back after the last block.

    What it would say of a damaged file, the caller says in a sentence.
    """
    import cv2.utils.logging

    global _inside, _level
    with _lock:
        if _inside == 0:
            _level = cv2.utils.logging.getLogLevel()
            cv2.utils.logging.setLogLevel(_SILENT)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                cv2.utils.logging.setLogLevel(_level)
