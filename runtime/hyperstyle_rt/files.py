"""Reading untrusted files, and writing files that appear complete or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import HyperStyleError
from .temporaries import replacing

_HASHED_AT_ONCE = 1 << 20
_READ_AT_ONCE = 1 << 20


def read_regular(path: Path, limit: int, error: type[HyperStyleError]) -> bytes:
    """Read the whole of a regular file of at most ``limit`` bytes.

    Directories, devices and pipes are refused before they are opened (a pipe would block for ever).

    Parameters
    ----------
    path:
        The file; symbolic links are followed.
    limit:
        Largest size accepted, in bytes.
    error:
        What to raise, in one sentence, when the file cannot be read or is too large.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise error(f"{path} is not a regular file; give the path of a file")
        with path.open("rb") as file:
            data = read_stream(file, limit)
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
        raise error(f"cannot read {path}: {reason(problem)}") from problem
    except MemoryError:
        raise error(f"there is not enough memory to read {path}; allow more") from None
    if data is None:
        raise error(f"{path} is larger than {limit} bytes, so it is not the kind of file expected")
    return data


def read_stream(file: BinaryIO, limit: int) -> bytes | None:
    """Read an open file or pipe to its end; None if it has more than ``limit`` bytes.

    What is allocated follows what is there, not the limit.
    """
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= limit:
        data = file.read(status.st_size + 1)
        if len(data) == status.st_size:
            return data
    else:
        data = b""
    parts, length = [data], len(data)  # a pipe, or a file that grows or tells no size
    while length <= limit and (block := file.read(_READ_AT_ONCE)):
        parts.append(block)
        length += len(block)
    return b"".join(parts) if length <= limit else None


def sha256(path: Path) -> str:
    """SHA-256 of a file of any size, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASHED_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes, error: type[HyperStyleError]) -> None:
    """Write ``data`` to ``path``: under a temporary name beside it, then renamed over it.

    Parameters
    ----------
    path:
        The file to write; an existing file is replaced as a whole or left as it was.
    data:
        The whole content.
    error:
        What to raise, in one sentence, when the file cannot be written.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    except (OSError, ValueError) as problem:
        raise error(f"cannot write {path}: {reason(problem)}") from problem


def make_directory(path: Path, error: type[HyperStyleError]) -> None:
    """Create a directory and those above it, if they are not there; ``error`` if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise error(f"cannot create {path}: {reason(problem)}") from problem


def is_directory(path: Path) -> bool:
    """Whether there is such a directory; unlike pathlib's, for every text, overlong names too."""
    return os.path.isdir(path)  # noqa: PTH112


def visible_files(directory: Path) -> Iterator[Path]:
    """Walk the files below a directory in sorted order; hidden files and directories are none."""
    for folder, below, names in os.walk(directory):
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def reason(problem: OSError | ValueError) -> str:
    """Return the system's own words for what went wrong, without numbers and without the path."""
    return getattr(problem, "strerror", None) or str(problem)
