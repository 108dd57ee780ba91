"""Files written under a temporary name beside their final one, and leftovers of killed runs.

A temporary file is locked while it is written to. The system releases the lock with its process, so
that the next run knows for certain that the file is a leftover.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# With the mark, whatever the suffix of the file that is to be; without it, as earlier releases did.
_NAME = re.compile(
    r"\.[0-9a-f]{32}(?:(\.hsrt)\.[a-z0-9]+|\.(?:part|mp4|gif|webm|webp))", re.IGNORECASE
)
_ABANDONED = 60.0  # seconds without a byte written, where there is no lock to ask


@contextmanager
def replacing(path: Path, suffix: str = ".part") -> Iterator[Path]:
    """Give a temporary name beside `path`, renamed to it if the block succeeds, else removed.

    Parameters
    ----------
    path:
        What is there is replaced as a whole or left as it was.
    suffix:
        Of the temporary name, for writers that go by it.

    Raises
    ------
    OSError, ValueError
        If the file cannot be created or renamed; ValueError for a NUL in the path.
    """
    temporary, lock = _create(path.parent, suffix)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink()
        if lock is not None:
            os.close(lock)


def remove_leftovers(directory: Path) -> None:
    """Remove temporary files of processes that were killed.

    Files that may still be written to are left alone, and so is what cannot be removed.
    """
    with contextlib.suppress(OSError, ValueError):
        for path in directory.iterdir():
            match = _NAME.fullmatch(path.name)
            with contextlib.suppress(OSError):
                if match is not None:
                    _remove_abandoned(path, locked=match[1] is not None)


def _create(directory: Path, suffix: str) -> tuple[Path, int | None]:
    """Create an empty file; a descriptor that holds its lock, where there are locks."""
    while True:
        path = directory / f".{uuid.uuid4().hex}.hsrt{suffix}"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if fcntl is None:
            os.close(file)  # Windows renames no open files
            return path, None
        free = try_lock(file)
        if free is None or (free and path.exists()):
            return path, file
        os.close(file)  # another run took the new file for a leftover before it was locked


def _remove_abandoned(path: Path, locked: bool) -> None:
    if locked and fcntl is not None:
        file = os.open(path, os.O_RDWR)
        try:
            free = try_lock(file)
            if free:  # until the file is gone, lest its creator locks what is about to go
                path.unlink()
            if free is not None:
                return
        finally:
            os.close(file)
    if path.stat().st_mtime < time.time() - _ABANDONED:
        path.unlink()


def try_lock(file: int) -> bool | None:
    """Whether the lock was free and is ours now; None where the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
