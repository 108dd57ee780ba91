"""Graph files for libraries that open them by path themselves: they get what was verified."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import BundleError
from ..files import reason
from .native_memory import let_go_of_pages

_BETWEEN = 0.05
"""Seconds between two looks at the pages of files that are read once."""


@contextmanager
def unaltered_files(directory: Path, names: Sequence[str]) -> Iterator[str]:
    """Give a path of a directory under which files can be opened while they are verified and read.

    Parameters
    ----------
    directory:
        Where they are: a bundle's.
    names:
        Theirs. None may be a symbolic link: what a link leads to cannot be watched.

    Raises
    ------
    BundleError
        If a file is not there; at the end, if one was altered, replaced or moved meanwhile: what
        was read may then be something else than what was verified.
    """
    files = [directory / name for name in names]
    identities = [_identity(path) for path in files]
    for path, identity in zip(files, identities, strict=True):
        if identity is None:
            raise BundleError(f"cannot open {path}, which is not there; restore the bundle")
    with as_folder(directory) as folder:
        yield folder
        _require_unchanged([Path(folder) / name for name in names], identities, files)
    _require_unchanged(files, identities, files)


class MappedFiles:
    """Files that a library has mapped: what is written to them later changes what it computes."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._files: list[tuple[Path, BinaryIO, tuple[int, int]]] = []
        for path in paths:
            file = path.open("rb")
            self._files.append((path, file, _content_stamp(file)))

    def check(self) -> None:
        """Refuse to go on if a file was written to; one that was replaced is mapped as it was.

        Raises
        ------
        BundleError
            If so.
        """
        for path, file, stamp in self._files:
            if _content_stamp(file) != stamp:
                raise BundleError(
                    f"{path} was changed while it was in use; load the model again, and replace "
                    "files of a bundle by others instead of writing to them"
                )

    @contextmanager
    def read_once(self) -> Iterator[None]:
        """Let a library read through the files in the block without holding them in memory whole.

        What it has made of a page, packed or converted, it needs no more of.
        """
        files = [file for _, file, _ in self._files]
        if not files:
            yield
            return
        done = threading.Event()

        def let_go() -> None:
            while not done.wait(_BETWEEN):
                let_go_of_pages(files)

        worker = threading.Thread(target=let_go, name="pages of graph files", daemon=True)
        worker.start()
        try:
            yield
        finally:
            done.set()
            worker.join()
            let_go_of_pages(files)

    def close(self) -> None:
        """Let go of them."""
        for _, file, _ in self._files:
            file.close()


def _content_stamp(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _require_unchanged(
    paths: Iterable[Path], identities: Iterable[tuple[int, ...] | None], names: Iterable[Path]
) -> None:
    """Refuse files that were altered, replaced or moved since.

    Every change of a file sets its status-change time (ctime), which no program can set back.
    """
    for path, identity, name in zip(paths, identities, names, strict=True):
        if identity is None or _identity(path) != identity:
            raise BundleError(
                f"{name} was changed while it was opened; wait until nothing writes to the "
                "bundle, and load it again"
            )


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


@contextmanager
def as_folder(directory: Path) -> Iterator[str]:
    """A path of a directory that any locale can encode, where the system has such paths."""
    if sys.platform != "linux":
        yield str(directory)
        return
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BundleError(
            f"cannot open {directory} ({reason(error)}); restore the bundle"
        ) from error
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
