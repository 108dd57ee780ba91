"""Pipes in the place of files: ``-``, ``/dev/stdin``, ``/dev/stdout``, process substitution.

What comes through a pipe can be read once, and ends when its writer is done.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from pathlib import Path

from ..errors import HyperStyleError, PictureError
from ..files import reason

STANDARD = Path("-")
"""Standard input or standard output; a file of this name is named with its whole path."""

INVERSION_SUFFIX = ".safetensors"

LARGEST = 1 << 29  # bytes, as of picture files

_INPUTS = ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
_OUTPUTS = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def is_pipe(path: Path) -> bool:
    """Whether a path is read to its end, once, instead of being a file."""
    return path == STANDARD or stat.S_ISFIFO(_mode(path)) or _is_standard(path, _INPUTS)


def is_pipe_out(path: Path) -> bool:
    """Whether a path is written to as it is, where files are replaced as a whole."""
    mode = _mode(path)
    kinds = stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)
    return path == STANDARD or kinds or str(path) in _OUTPUTS


def spoken(path: Path) -> str:
    """Name a path in a sentence."""
    return "standard input" if path == STANDARD else str(path)


def read_pipe(path: Path, error: type[HyperStyleError] = PictureError) -> bytes:
    """Read a pipe to its end.

    Raises
    ------
    HyperStyleError
        Of type `error`, if nothing or too much comes, or standard input is a terminal or closed.
    """
    try:
        if path == STANDARD or str(path) in _INPUTS:
            if sys.stdin is None or sys.stdin.isatty():
                raise error("standard input is no pipe; send a file into it, or name the file")
            data = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with path.open("rb") as file:
                data = file.read(LARGEST + 1)
    except (OSError, ValueError) as problem:
        raise error(f"cannot read {spoken(path)}: {reason(problem)}") from problem
    if not data:
        raise error(f"{spoken(path)} is empty; check the command that writes into it")
    if len(data) > LARGEST:
        raise error(f"{spoken(path)} gives more than {LARGEST} bytes; give a file")
    return data


def read_picture_source(path: Path) -> bytes:
    """Read the bytes of a picture from a file or a pipe; raises as :func:`read_picture_file`."""
    from ..imaging.pictures import read_picture_file  # numpy, which help does without

    return read_pipe(path) if is_pipe(path) else read_picture_file(path)


def write_pipe(path: Path, data: bytes) -> None:
    """Write a picture to where it is not kept as a file.

    Raises
    ------
    PictureError
        If it cannot be written; the reader may be gone.
    """
    try:
        if path == STANDARD or str(path) in _OUTPUTS:
            _write_to_standard_output(data)
        else:
            with path.open("wb", buffering=0) as file:
                _write_all(file.fileno(), data)
    except (OSError, ValueError) as problem:
        name = "standard output" if path == STANDARD else str(path)
        raise PictureError(f"cannot write {name}: {reason(problem)}") from problem


def _write_to_standard_output(data: bytes) -> None:
    if sys.stdout is None:
        raise OSError(None, "it is closed")
    sys.stdout.flush()
    try:
        descriptor = sys.stdout.fileno()
    except io.UnsupportedOperation:  # replaced by a stream of the host application
        sys.stdout.buffer.write(data)
    else:
        _write_all(descriptor, data)  # with no buffer that would be flushed again at exit


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _is_standard(path: Path, names: tuple[str, ...]) -> bool:
    return str(path) in names and not stat.S_ISREG(_mode(path))


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return 0
