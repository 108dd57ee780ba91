"""Arrays of untrusted files (.npy, .npz, .pt, pickles), read without executing anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from hyperstyle_export.readers.pickled_arrays import unpickle_arrays
from hyperstyle_export.readers.torch_files import CheckpointError, flaw, read_torch_object
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.files import read_regular
from numpy.lib.format import (
    MAGIC_PREFIX,
    read_array_header_1_0,
    read_array_header_2_0,
    read_magic,
)
from numpy.typing import NDArray
from torch import Tensor

MAX_FILE_SIZE = 1 << 31
NUMPY_SUFFIXES = (".npy", ".npz")
MAX_DEPTH, MAX_VALUES = 20, 100_000  # of lists and dictionaries in each other; in all of them
TORCH_SUFFIXES = (".pt", ".pth")


def read_arrays(path: Path) -> Any:
    """Read a file of arrays: an array, or dictionaries, lists and tuples of arrays.

    Raises
    ------
    EditError
        If the file cannot be read, is damaged, or holds more than arrays and plain values.
    """
    suffix = path.suffix.lower()
    if suffix in NUMPY_SUFFIXES:
        return _read_numpy(path)
    try:
        if suffix in TORCH_SUFFIXES:
            return _Plain(path).plain(read_torch_object(path))
        return _Plain(path).plain(
            unpickle_arrays(read_regular(path, MAX_FILE_SIZE, EditError), path)
        )
    except CheckpointError as error:
        raise EditError(str(error)) from None


def named_array(contents: Any, path: Path, *names: str) -> NDArray[np.float32]:
    """The first of these entries that a dictionary of arrays has, as float32.

    Raises
    ------
    EditError
        If it is no dictionary or has none of them.
    """
    if isinstance(contents, Mapping):
        for name in names:
            if name in contents:
                return as_floats(contents[name], path)
    raise EditError(f"{path} has no entry {' or '.join(names)}; is it a file of another kind?")


def as_floats(array: Any, path: Path) -> NDArray[np.float32]:
    """Numbers as float32.

    Raises
    ------
    EditError
        If these are no numbers, or not finite ones.
    """
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or array.size == 0:
        raise EditError(f"{path} holds something other than an array of numbers")
    if not np.isfinite(array).all():
        raise EditError(f"{path} holds NaN or infinity")
    return array.astype(np.float32)


def _read_numpy(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            if _holds_objects(file):  # a pickle follows, which NumPy would run
                return unpickle_arrays(file.read(MAX_FILE_SIZE), path)
            file.seek(0)
            loaded = np.load(file, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except CheckpointError as error:
        raise EditError(str(error)) from None
    except Exception as error:  # in a damaged file any operation of NumPy's reader may fail
        raise EditError(f"{path} is no file of plain arrays ({str(error)[:200]})") from None


def _holds_objects(file: BinaryIO) -> bool:
    """Whether a file is an ``.npy`` of objects; it then stands behind the header."""
    if file.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:
        return False  # an .npz, or no file of NumPy's
    file.seek(0)
    version = read_magic(file)
    read_header = read_array_header_1_0 if version == (1, 0) else read_array_header_2_0
    _, _, kind = read_header(file)
    return bool(kind.hasobject)


class _Plain:
    """Makes dictionaries, lists and arrays of what a file holds, up to a depth and a number.

    A list may hold itself, or the same list twice and so on: more places than can be visited.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._visited = path, 0

    def plain(self, value: Any, depth: int = 0) -> Any:
        """A value of the file; EditError if it is too deep, of too many, or no plain tensor."""
        self._visited += 1
        if depth > MAX_DEPTH or self._visited > MAX_VALUES:
            raise EditError(
                f"{self._path} holds more than {MAX_VALUES:,} values or lists deeper than "
                f"{MAX_DEPTH}; give a file of directions"
            )
        if isinstance(value, Tensor):
            if wrong := flaw(value):
                raise EditError(f"an entry of {self._path} is {wrong}; give plain arrays")
            return value.detach().cpu().float().numpy()
        if isinstance(value, Mapping):
            return {key: self.plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(item, depth + 1) for item in value]
        return value
