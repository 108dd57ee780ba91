"""Tensors from and for other libraries without a copy: DLPack capsules, through ctypes.

The structures are those of dlpack.h 0.8, which every library exchanges unless a newer version is
asked for. A capsule named ``dltensor`` owns its tensor until a consumer renames it.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import BackendError

CPU, CUDA = 1, 2  # DLDeviceType
_NAME = b"dltensor"
_KINDS = {0: "i", 1: "u", 2: "f"}  # DLDataTypeCode -> numpy's kind
_CODES = {kind: code for code, kind in _KINDS.items()}


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("index", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("type", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)  # Python calls it, with its lock held

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, _Destructor)
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype = ctypes.c_void_p
_pointer.argtypes = (ctypes.c_void_p, ctypes.c_char_p)

_exported: dict[int, tuple[_Managed, Any, Any]] = {}
"""Address of an exported tensor -> it, its shape and the memory's owner, until its deletion."""


@dataclass(frozen=True)
class View:
    """Where a contiguous tensor of another library lies, for as long as its capsule is held."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def view(capsule: Any) -> View:
    """Read a capsule without taking it over: it deletes its tensor when it is dropped.

    Raises
    ------
    BackendError
        If the tensor is not contiguous, or of a type numpy does not have.
    """
    managed = _Managed.from_address(_pointer(id(capsule), _NAME))
    tensor = managed.tensor
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    kind = _KINDS.get(tensor.type.code)
    if kind is None or tensor.type.lanes != 1:
        raise BackendError("a device array must be contiguous float32; convert it first")
    if tensor.strides and not is_contiguous(shape, tensor.strides):
        raise BackendError("a device array must be contiguous float32; convert it first")
    dtype = np.dtype(f"{kind}{tensor.type.bits // 8}")
    return View((tensor.data or 0) + tensor.byte_offset, shape, dtype)


def is_contiguous(shape: tuple[int, ...], strides: Any) -> bool:
    """Whether strides, in elements, are those of rows after one another."""
    expected = 1
    for axis in reversed(range(len(shape))):
        if shape[axis] != 1 and strides[axis] != expected:
            return False
        expected *= shape[axis]
    return True


def capsule_of(
    address: int, shape: tuple[int, ...], dtype: np.dtype[Any], device: tuple[int, int], owner: Any
) -> Any:
    """Make a capsule of a contiguous tensor; `owner` is kept until the consumer deletes it."""
    managed = _Managed()
    extent = (ctypes.c_int64 * max(len(shape), 1))(*shape)
    managed.tensor = _Tensor(
        data=address,
        device=_Device(*device),
        ndim=len(shape),
        type=_Type(_CODES[dtype.kind], 8 * dtype.itemsize, 1),
        shape=ctypes.cast(extent, ctypes.POINTER(ctypes.c_int64)),
    )
    managed.deleter = ctypes.cast(_DELETE, ctypes.c_void_p)
    place = ctypes.addressof(managed)
    _exported[place] = managed, extent, owner
    return _new_capsule(place, _NAME, _DROP)


def _forget(place: int) -> None:
    _exported.pop(place, None)


def _drop(capsule: int) -> None:
    """Delete the tensor of a capsule that no consumer has taken over."""
    if _is_valid(capsule, _NAME):
        _forget(_pointer(capsule, _NAME))


_DELETE = _Deleter(_forget)
_DROP = _Destructor(_drop)
