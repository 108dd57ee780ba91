"""Where things are kept that can be made or fetched again."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

from .errors import HyperStyleError

VARIABLE = "HYPERSTYLE_RT_CACHE"


def user_cache() -> Path:
    """``$HYPERSTYLE_RT_CACHE``, else the place that the system has for a user's caches.

    Raises
    ------
    HyperStyleError
        If the user has no home.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).resolve()
    usual = user_cache_path("hyperstyle-rt", appauthor=False)
    if not usual.is_absolute():
        raise HyperStyleError(f"there is no home directory to keep things in; set {VARIABLE}")
    return usual
