"""Reading files that strangers wrote, and writing files that nobody ever sees half done."""

from __future__ import annotations

import contextlib
import stat
import uuid
from pathlib import Path

from .errors import HyperStyleError


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
            data = file.read(limit + 1)
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
        raise error(f"cannot read {path}: {reason(problem)}") from problem
    if len(data) > limit:
        raise error(f"{path} is larger than {limit} bytes, so it is not the kind of file expected")
    return data


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
    temporary = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(path)
    except (OSError, ValueError) as problem:
        raise error(f"cannot write {path}: {reason(problem)}") from problem
    finally:
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink()


def reason(problem: OSError | ValueError) -> str:
    """Return the system's own words for what went wrong, without numbers and without the path."""
    return getattr(problem, "strerror", None) or str(problem)
