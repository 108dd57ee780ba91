"""One fetch at a time: what two processes would write is written by one after the other."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import HyperStyleError
from ..temporaries import try_lock
from ..user_cache import user_cache

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def alone(what: str, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Run the block while no other process or thread of this user runs one for the same.

    The system releases the lock with its process. Where there are no locks, or nothing can be
    written to the cache, the block is run without one.

    Parameters
    ----------
    what:
        That is worked on; a text of any length.
    on_wait:
        Called once if another is running, before it is waited for.
    """
    file = None if fcntl is None else _opened(what)
    try:
        if file is not None:
            _lock(file, on_wait)
        yield
    finally:
        if file is not None:
            os.close(file)


def _opened(what: str) -> int | None:
    """A file to lock. It stays: another may wait for it while it is removed."""
    digest = hashlib.sha256(os.fsencode(what)).hexdigest()
    try:
        path = user_cache() / "locks" / digest[:16]
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except (OSError, HyperStyleError):
        return None


def _lock(file: int, on_wait: Callable[[], object]) -> None:
    if try_lock(file) is False:  # None: a file system without locks
        on_wait()
        fcntl.flock(file, fcntl.LOCK_EX)
