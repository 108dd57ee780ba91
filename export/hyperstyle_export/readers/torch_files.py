"""Reading files written by torch.save without running anything in them."""

from __future__ import annotations

import argparse
import re
import reprlib
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import reason
from torch import Tensor

from .file_kinds import kind_of_file

# What torch's own text says of a type that is not among them; the rest of it advises to trust it.
_REFUSED_TYPE = re.compile(r"\bGLOBAL ([\w.]+)")


# Plain numbers of NumPy: floats, integers, booleans.
_SCALARS = frozenset(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"])
_BYTE_ORDERS = frozenset("<>=|")

# Types of tensors that torch computes with in full: quantised ones, 8-bit floats and bits are not.
_NUMBERS = frozenset(
    [
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.bool,
    ]
)

# A tensor may have more elements than numbers are stored, as an expanded one does. No network needs
# that, and a few bytes could stand for more than any memory holds once they are converted.
MAX_EXPANDED = 1 << 30  # bytes, of a tensor that need not be converted

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 1, 60, 60


class CheckpointError(HyperStyleError):
    """A checkpoint that cannot be read, or is not what it was given as."""


def read_torch_file(path: Path) -> dict[str, Any]:
    """Load the dictionary in a torch file, zip or legacy container, its tensors on the CPU.

    Raises
    ------
    CheckpointError
        As :func:`read_torch_object`, and if the file holds something other than a dictionary, or
        tensors in it that are not plain arrays of numbers.
    """
    contents = read_torch_object(path)
    if not isinstance(contents, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(contents).__name__}, not a dictionary; give the file that the "
            "training wrote."
        )
    for name, tensor in _tensors(contents):
        if wrong := flaw(tensor):
            raise CheckpointError(
                f"{path}: {shown(name)} is {wrong}; give the file that the training wrote."
            )
    return dict(contents)


def shown(value: object) -> str:
    """A value of a file as a sentence shows it: short, on one line, however deep it may be."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes out no integer of more than 4300 digits
        return "a value with an integer of too many digits"


def _tensors(contents: Mapping[Any, Any]) -> Iterator[tuple[object, Tensor]]:
    """Those in a file's dictionary, and in the dictionaries in it."""
    for key, value in contents.items():
        if isinstance(value, Tensor):
            yield key, value
        elif isinstance(value, Mapping):
            yield from ((k, v) for k, v in value.items() if isinstance(v, Tensor))


def flaw(tensor: Tensor) -> str | None:
    """Why a tensor is no plain array of real numbers; None if it is one."""
    if tensor.layout != torch.strided or tensor.is_nested:
        return f"a tensor of layout {tensor.layout}"
    if tensor.dtype not in _NUMBERS:
        return f"a tensor of {tensor.dtype}"
    if tensor.is_meta:
        return "a tensor without values"
    is_expanded = tensor.nbytes > tensor.untyped_storage().nbytes()
    if is_expanded and (tensor.dtype != torch.float32 or tensor.nbytes > MAX_EXPANDED):
        return f"said to have {tensor.numel():,} elements, of which few are stored"
    return None


def read_torch_object(path: Path) -> Any:
    """Load whatever tensors and plain values a torch file holds.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, no torch file, or holds more than tensors and plain values.
    """
    _check_regular(path)
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch thinks of files that it then refuses
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_mappable(path))
    except Exception as error:  # in a damaged pickle any operation of torch's reader may fail
        if kind := kind_of_file(path):
            raise CheckpointError(f"{path} {kind}.") from error
        if refused := _REFUSED_TYPE.search(str(error)):
            raise CheckpointError(
                f"{path} holds a {refused[1]}, more than tensors and plain values, and nothing in "
                "it was run; save its state dict with torch.save and use that file."
            ) from error
        raise CheckpointError(
            f"{path} is damaged or no torch file; download or copy it again."
        ) from error


class _ScalarType:
    """Stands for `numpy.dtype`, which trusts what a file says of its memory and can be crashed."""

    __module__, __qualname__ = "numpy", "dtype"  # the name by which torch finds it

    def __init__(self, code: str, *_flags: object) -> None:
        self.code = code
        self.byte_order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.byte_order = state[1]


def _scalar(kind: _ScalarType, data: bytes) -> bool | int | float:
    """Stands for NumPy's function that makes a scalar from its bytes; gives a Python number."""
    if kind.code not in _SCALARS or kind.byte_order not in _BYTE_ORDERS:
        raise ValueError(f"a NumPy scalar of type {kind.code!r}")
    number: bool | int | float = np.frombuffer(data, kind.byte_order + kind.code).item()
    return number


def _path(*parts: str) -> str:
    """Stands for a class of `pathlib`; gives the path as text."""
    return str(PurePosixPath(*map(str, parts)))


def _stand_in(path: str, function: Callable[..., object]) -> Callable[..., object]:
    """A function that torch finds where a file names `path`."""

    def stand_in(*args: object) -> object:
        return function(*args)

    stand_in.__module__, _, stand_in.__qualname__ = path.rpartition(".")
    return stand_in


# Harmless types that option dictionaries in real files hold beside tensors and plain values.
_SAFE_GLOBALS: list[Any] = [
    argparse.Namespace,
    _ScalarType,
    _stand_in("numpy._core.multiarray.scalar", _scalar),
    _stand_in("numpy.core.multiarray.scalar", _scalar),  # NumPy 1, as in the official files
    *(
        _stand_in(f"{module}.{kind}", _path)
        for module in ("pathlib", "pathlib._local")  # the latter in Python 3.13
        for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    ),
]


def _check_regular(path: Path) -> None:
    """Refuse what is missing or closed to us, what would block, and what torch cannot open."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            path.open("rb").close()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise CheckpointError(f"cannot read {path}: {reason(error)}.") from error
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise CheckpointError(f"{path} is {kind}; give the checkpoint file itself.")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise CheckpointError(
            f"{path} has a path that is no UTF-8, and torch opens no such file; rename it."
        ) from None


def _is_mappable(path: Path) -> bool:
    """Whether the tensors lie in the file as they are: a zip container without compression.

    Mapping it instead of copying saves the 1.3 GB of a hypernetwork.
    """
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as container:
        return all(entry.compress_type == zipfile.ZIP_STORED for entry in container.infolist())
