"""What the C library holds for native code, and what of it is given back."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from ..errors import BackendError

_M_ARENA_MAX = -8  # of malloc.h
_MADV_DONTNEED = 4  # of sys/mman.h
_SHORT_OF_MEMORY = (
    "bad_alloc",
    "bad allocation",
    "Resource temporarily unavailable",
    "pthread_create failed",  # the stack of a thread found no place
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of a native library, or of Python, means that there was too little memory.

    ONNX Runtime and OpenVINO raise types of their own that share no base; their texts tell.
    """
    text = str(error)
    return isinstance(error, MemoryError) or any(said in text for said in _SHORT_OF_MEMORY)


def too_little_memory(purpose: str) -> BackendError:
    """The error of what failed for want of memory: ``load PATH``, ``run the graph encoder``."""
    return BackendError(
        f"there is not enough memory to {purpose}; free some, or allow the process more (ulimit -v)"
    )


def return_freed_memory() -> None:
    """Return the memory freed since a graph was loaded: glibc keeps tens of megabytes a session."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def let_go_of_pages(files: Iterable[BinaryIO]) -> None:
    """Take the pages of files that are mapped and only read out of this process's memory.

    What is needed of them again is read again, and what is not is memory to others.
    """
    if sys.platform != "linux":
        return
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    paths = {str(Path(f"/proc/self/fd/{file.fileno()}").readlink()) for file in files}
    for line in Path("/proc/self/maps").read_text("utf-8", "surrogateescape").splitlines():
        addresses, access, *_, path = line.split(maxsplit=5)
        if path in paths and "w" not in access:
            start, end = (int(each, 16) for each in addresses.split("-"))
            advise(start, end - start, _MADV_DONTNEED)


def share_heaps_where_addresses_are_few() -> None:
    """Let threads share two heaps in a process whose address space is limited (``ulimit -v``).

    To be called before a native library starts its threads: glibc reserves 64 MB of addresses for
    a heap of each, which ends such a process long before its memory is used.
    """
    if sys.platform != "linux":
        return
    import resource

    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
        if set_option is not None:
            set_option(_M_ARENA_MAX, 2)


def addresses_left() -> int | None:
    """Bytes of addresses that the process may still take; None where nothing limits them.

    The limit is that of ``ulimit -v``, as Linux keeps it.
    """
    if sys.platform != "linux":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    return max(0, limit - pages * resource.getpagesize())
