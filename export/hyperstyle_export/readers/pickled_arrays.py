"""Arrays from pickles, of which nothing is ever run."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .torch_files import CheckpointError

_PLAIN_TYPES = frozenset(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"])
_OBJECT_TYPES = frozenset(["O4", "O8"])
_BYTE_ORDERS = frozenset("<>=|")
_MEMO_WRITERS = frozenset(["PUT", "BINPUT", "LONG_BINPUT"])


def unpickle_arrays(data: bytes, path: Path) -> Any:
    """Read a pickle of arrays and plain values.

    Raises
    ------
    CheckpointError
        If it is damaged or names anything else: nothing is run.
    """
    try:
        check_memo(data)
        return finished(_Unpickler(data).load())
    except CheckpointError as error:
        raise CheckpointError(f"{path} {error}") from None
    except Exception as error:  # in a damaged pickle any operation of the reader may fail
        raise CheckpointError(f"{path} is damaged or no pickle of arrays") from error


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
    """Stands for `numpy.ndarray` until its bytes have been counted.

    Of an array of objects a list of them is left; of one without axes, the object.
    """

    def __init__(self, *_arguments: object) -> None:
        self.array: Any = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, is_fortran, data = state
        if kind.code in _OBJECT_TYPES and isinstance(data, list):
            self.array = data if shape else data[0]
            return
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


ARRAY_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encoded,
}
"""Names in pickles of arrays -> what stands for them; see :func:`finished`."""

for _core in ("numpy.core", "numpy._core"):
    ARRAY_NAMES[f"{_core}.multiarray", "_reconstruct"] = _Array
    ARRAY_NAMES[f"{_core}.multiarray", "scalar"] = _scalar
    ARRAY_NAMES[f"{_core}.numeric", "_frombuffer"] = _from_buffer

_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    **ARRAY_NAMES,
    ("collections", "OrderedDict"): dict,
}


class _Unpickler(pickle.Unpickler):
    """Finds nothing but the stand-ins above."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in _ALLOWED:
            raise CheckpointError(
                f"holds a {module}.{name}, more than arrays and plain values, and nothing in it "
                "was run; save its arrays with numpy.savez and use that file"
            )
        return _ALLOWED[module, name]


def check_memo(data: bytes) -> None:
    """Refuse a pickle that remembers a value under a number larger than any writer gives.

    Python's reader makes a table of as many entries, and a few bytes could ask for more than any
    memory holds.

    Raises
    ------
    ValueError
        If there is such a number, or the data are no pickle.
    """
    for position, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if operation.name in _MEMO_WRITERS and int(argument or 0) > position:
            raise ValueError(f"a value remembered as number {argument}")


def finished(value: Any) -> Any:
    """Replace the stand-ins of arrays, in dictionaries and lists, by the arrays themselves.

    What stands in several places is replaced once, as there may be more places than can be counted.
    """
    return _finished(value, {})


def _finished(value: Any, done: dict[int, Any]) -> Any:
    """The same; `done` has what replaces the containers met so far, by their identity."""
    if isinstance(value, _Array):
        array = value.array
        return array if isinstance(array, np.ndarray) else _finished(array, done)
    if not isinstance(value, dict | list | tuple):
        return value
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, dict):
        plain: dict[Any, Any] = {}
        done[id(value)] = plain
        plain.update((key, _finished(item, done)) for key, item in value.items())
        return plain
    items: list[Any] = []
    done[id(value)] = items
    items.extend(_finished(item, done) for item in value)
    return items
