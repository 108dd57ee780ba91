"""Files and folders written under a temporary name beside their final one, and leftovers of killed
runs.

A temporary file is locked while it is written to, and of a folder a file in it. The system releases
the lock with its process, so that the next run knows for certain that it is a leftover.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
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
_FOLDER_NAME = re.compile(r"\.[0-9a-f]{32}\.hsrt\.stage")
_LOCK, _NEW, _OLD = "lock", "new", "old"  # in such a folder
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
    made: list[Path] = []
    lock: int | None = None
    try:
        temporary, lock = _create(path.parent, suffix, made)
        yield temporary
        temporary.replace(path)
    finally:
        for each in made:
            with contextlib.suppress(OSError, ValueError):
                each.unlink()
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


@contextmanager
def replacing_folder(directory: Path, keep: Iterable[str] = ()) -> Iterator[Path]:
    """Give an empty folder that takes the place of `directory` if the block succeeds.

    What is there is replaced as a whole or left as it was, whatever ends the process.

    Parameters
    ----------
    directory:
        No symbolic link. What is there must be a folder.
    keep:
        Names of files in it that are copied into one that has none of the name.

    Raises
    ------
    OSError
        If the folder cannot be created or renamed.
    """
    with staging_folder(directory.parent) as stage:
        new, old = stage / _NEW, stage / _OLD
        new.mkdir()
        old.mkdir()
        yield new
        for name in keep:
            if (directory / name).is_file() and not (new / name).exists():
                shutil.copy2(directory / name, new / name)
        if directory.exists():
            directory.rename(old / directory.name)
        new.rename(directory)


@contextmanager
def staging_folder(parent: Path) -> Iterator[Path]:
    """Give a hidden folder in `parent`, removed at the end, with a file in it that is our lock.

    `parent` is made if it is missing. Such folders in it of processes that were killed are removed
    first, where the file system has locks.
    """
    with contextlib.suppress(OSError, ValueError):
        for path in parent.iterdir():
            if _FOLDER_NAME.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    _remove_abandoned_folder(path)
    made: list[Path] = []
    lock: int | None = None
    try:
        folder, lock = _create_folder(parent, made)
        yield folder
    finally:
        if lock is not None:
            os.close(lock)
        for each in made:
            with contextlib.suppress(OSError):
                _remove_folder(each)


def _create_folder(parent: Path, made: list[Path]) -> tuple[Path, int | None]:
    """Create a folder; a descriptor that holds its lock, where there are locks.

    Parameters
    ----------
    made:
        Gets the name before there is a folder, for whom a signal may stop before it is known.
    """
    while True:
        folder = parent / f".{uuid.uuid4().hex}.hsrt.stage"
        made.append(folder)
        folder.mkdir(parents=True)
        file = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if fcntl is None:
            os.close(file)
            return folder, None
        free = try_lock(file)
        if free is None or (free and (folder / _LOCK).exists()):
            return folder, file
        os.close(file)  # another run took the new folder for a leftover before it was locked


def _remove_abandoned_folder(folder: Path) -> None:
    if fcntl is None:
        return
    file = os.open(folder / _LOCK, os.O_RDWR)
    try:
        if try_lock(file):  # until it is gone, lest its creator locks what is about to go
            _remove_folder(folder)
    finally:
        os.close(file)


def _remove_folder(folder: Path) -> None:
    """Remove a staging folder; what was to be replaced and was not goes back to its place."""
    for old in folder.glob(f"{_OLD}/*"):
        place = folder.parent / old.name
        if not place.exists():
            old.rename(place)
    shutil.rmtree(folder, ignore_errors=True)


def _create(directory: Path, suffix: str, made: list[Path]) -> tuple[Path, int | None]:
    """Create an empty file; a descriptor that holds its lock, where there are locks.

    Parameters
    ----------
    made:
        As for :func:`_create_folder`.
    """
    while True:
        path = directory / f".{uuid.uuid4().hex}.hsrt{suffix}"
        made.append(path)
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
