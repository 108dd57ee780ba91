"""Arrays from other people's files, .npy, .npz, .pt and pickles, of which nothing is ever run."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hyperstyle_export.torch_files import CheckpointError, read_torch_object
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.files import read_regular
from numpy.typing import NDArray
from torch import Tensor

MAX_FILE_SIZE = 1 << 31
NUMPY_SUFFIXES = (".npy", ".npz")
TORCH_SUFFIXES = (".pt", ".pth")

_PLAIN_TYPES = frozenset(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"])
_BYTE_ORDERS = frozenset("<>=|")


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
    if suffix in TORCH_SUFFIXES:
        try:
            return _without_tensors(read_torch_object(path))
        except CheckpointError as error:
            raise EditError(str(error)) from None
    return unpickle_arrays(read_regular(path, MAX_FILE_SIZE, EditError), path)


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
            loaded = np.load(file, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise EditError(f"{path} is no file of plain arrays ({error})") from None


def _without_tensors(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().float().numpy()
    if isinstance(value, Mapping):
        return {key: _without_tensors(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_tensors(item) for item in value]
    return value


def unpickle_arrays(data: bytes, path: Path) -> Any:
    """Read a pickle of arrays and plain values.

    Raises
    ------
    EditError
        If it is damaged or names anything else: nothing is run.
    """
    try:
        return _finished(_Unpickler(data).load())
    except EditError as error:
        raise EditError(f"{path} {error}") from None
    except Exception as error:  # in a damaged pickle any operation of the reader may fail
        raise EditError(f"{path} is damaged or no pickle of arrays") from error


class _Type:
    """Stands for `numpy.dtype`, which trusts what a file says of its memory and can be crashed."""

    def __init__(self, code: Any, *_flags: object) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def to_numpy(self) -> np.dtype[Any]:
        if self.code not in _PLAIN_TYPES or self.order not in _BYTE_ORDERS:
            raise ValueError(f"an array of type {self.code!r}")
        plain: np.dtype[Any] = np.dtype(self.order + self.code)
        return plain


class _Array:
    """Stands for `numpy.ndarray` until its bytes have been counted."""

    def __init__(self, *_arguments: object) -> None:
        self.array: NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, is_fortran, data = state
        raw = data.encode("latin1") if isinstance(data, str) else data
        flat = np.frombuffer(raw, kind.to_numpy())
        self.array = flat.reshape(shape, order="F" if is_fortran else "C").copy()


def _scalar(kind: _Type, data: Any) -> Any:
    """Stands for NumPy's function that makes a scalar from its bytes."""
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, kind.to_numpy()).item()


def _from_buffer(
    data: bytes, kind: _Type, shape: tuple[int, ...], order: str, axes: Any = None
) -> NDArray[Any]:
    """Stands for NumPy's function of protocol 5, which makes an array from its bytes."""
    flat = np.frombuffer(data, kind.to_numpy())
    if axes is not None:
        return flat.reshape(shape).transpose(axes).copy()
    return flat.reshape(shape, order="F" if order == "F" else "C").copy()


def _encoded(text: str, _encoding: str) -> bytes:
    """Stands for `_codecs.encode`, as which Python 2's bytes are stored."""
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encoded,
    ("collections", "OrderedDict"): dict,
}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _Array
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _Unpickler(pickle.Unpickler):
    """Finds nothing but the stand-ins above."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in _ALLOWED:
            raise EditError(
                f"holds a {module}.{name}, more than arrays and plain values, and nothing in it "
                "was run; save its arrays with numpy.savez and use that file"
            )
        return _ALLOWED[module, name]


def _finished(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, dict):
        return {key: _finished(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finished(item) for item in value]
    return value
