"""Subjects that come through pipes: kept as files while a command works on them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..batch.streams import INVERSION_SUFFIX, STANDARD, is_pipe, is_pipe_out, read_pipe, spoken
from ..errors import HyperStyleError
from ..files import reason

_TENSORS = b'{"'  # how the header of a safetensors file begins, after its length of 8 bytes


@contextmanager
def as_file(path: Path) -> Iterator[Path]:
    """Give a file with what comes through a pipe, for the time of the block; other paths as is.

    Its suffix tells an inversion from a picture, whatever the pipe is called.

    Raises
    ------
    HyperStyleError
        If nothing comes, or it cannot be kept; and those of the block, in which the pipe is called
        by its own name.
    """
    if not is_pipe(path):
        yield path
        return
    data = read_pipe(path)
    with _temporary_folder() as folder:
        suffix = INVERSION_SUFFIX if data[8:10] == _TENSORS else ".png"
        file = folder / f"pipe{suffix}"
        try:
            file.write_bytes(data)
        except OSError as problem:
            raise _without_room(problem) from problem
        with called_by_its_name(file, path):
            yield file


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="hyperstyle-rt-")
    except OSError as problem:
        raise _without_room(problem) from problem
    with folder as name:
        yield Path(name)


def _without_room(problem: OSError) -> HyperStyleError:
    return HyperStyleError(
        f"cannot write a temporary file, which pipes need: {reason(problem)}; set TMPDIR to a "
        "folder with room"
    )


@contextmanager
def called_by_its_name(file: Path, pipe: Path) -> Iterator[None]:
    """Have the errors of the block speak of the pipe, not of the file that stands for it.

    Raises
    ------
    HyperStyleError
        Those of the block.
    """
    try:
        yield
    except HyperStyleError as error:
        raise type(error)(str(error).replace(str(file), spoken(pipe))) from error


@contextmanager
def instead_of_pipe(out: Path) -> Iterator[Path]:
    """Give the name of a PNG that a result may be written to before it goes into a pipe.

    It is gone after the block; for another path than a pipe this is the path itself.
    """
    if not is_pipe_out(out):
        yield out
        return
    with _temporary_folder() as folder:
        yield folder / "result.png"


def name_of(subject: Path) -> str:
    """What the results of a subject are called."""
    return "stdin" if subject == STANDARD else subject.stem


def refuse_json_to_pipe(out: Path, json_: bool) -> None:
    """Refuse to write a picture and a document to the same place.

    Raises
    ------
    HyperStyleError
        If both are asked for.
    """
    if json_ and is_pipe_out(out):
        raise HyperStyleError(f"--json and --out {out} would mix; give --out a file, or no --json")
