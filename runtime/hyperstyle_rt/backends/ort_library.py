"""ONNX Runtime as this package uses it: imported when needed, silent, its threads not spinning.

Every session of the package is made with :func:`session_options`:

- Threads that wait do not spin. Spinning saves microseconds on an idle machine; with more threads
  than processors, or beside other work, it multiplies the time, as threads without work keep those
  with work from running.
- Each session has a pool of threads of its own. ONNX Runtime can share one among all sessions, but
  its Python interface does not let that one stop spinning (1.32: `set_global_thread_pool_sizes`
  takes sizes only), and a child made by fork could not replace it. Idle threads only wait.
- The number of threads is always named. Where it is not, ONNX Runtime pins threads to processors,
  and complains on standard error where the process may not use one of them.
- There are never more threads than processors that the process may use. An operator is done when
  its last thread is: on 2 processors beside other work, 64 threads took 5 times the time of 2.
- Sessions draw on one arena, so that the memory of one graph serves the next, and a memory pattern
  would add a block of its own beside it, planned after the first run. The arena takes addresses by
  the gigabyte, of which memory is only what has been written to: in regions of the size of one
  tensor each, a tensor finds no place where two smaller ones have been.
- ONNX Runtime's usage reports to its maker are turned off. They would start a thread, keep a file
  in the user's home, and a process that forks could not end its children in the ordinary way.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BackendError
from .native_memory import (
    addresses_left,
    return_freed_memory,
    share_heaps_where_addresses_are_few,
)
from .processors import useful_threads

if TYPE_CHECKING:
    import onnxruntime

MODULE = "onnxruntime"
NO_REPORTS = "ORT_DISABLE_TELEMETRY"  # read once, when the library is loaded
SILENT = 4  # log severity: errors are raised, too, and said once, by this package
_NO_SPINNING = ("session.intra_op.allow_spinning", "session.inter_op.allow_spinning")

_REGIONS = {
    "max_mem": 0,
    "arena_extend_strategy": 0,
    "initial_chunk_size_bytes": 1 << 20,  # of a first region, which is never given back
    "initial_growth_chunk_size_bytes": 1 << 30,
    "max_dead_bytes_per_chunk": 1 << 20,
}
"""An arena of large regions."""

_AS_REQUESTED = {
    "max_mem": 0,
    "arena_extend_strategy": 1,
    "initial_chunk_size_bytes": -1,
    "max_dead_bytes_per_chunk": -1,
}
"""An arena that grows by what is asked for, where addresses are few."""

# About the smallest ONNX model there is, in protocol buffers: y = -x, one float.
NEGATION = (
    b"\x08\x08"  # format version 8
    b"\x3a\x32"  # the graph, 50 bytes:
    b"\x0a\x0b\x0a\x01x\x12\x01y\x22\x03Neg"  # node x -> y, Neg
    b"\x12\x01g"  # name g
    b"\x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01"  # input x: float [1]
    b"\x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01"  # output y: float [1]
    b"\x42\x04\x0a\x00\x10\x0d"  # operator set 13
)


def load_onnxruntime() -> Any:
    """Import ONNX Runtime.

    Raises
    ------
    BackendError
        If it is not installed or cannot be imported.
    """
    loaded = MODULE in sys.modules
    os.environ.setdefault(NO_REPORTS, "1")
    if not loaded:
        share_heaps_where_addresses_are_few()
    try:
        ort = import_module(MODULE)
    except ModuleNotFoundError as error:
        if error.name != MODULE:
            raise _broken(error) from error
        raise BackendError(
            "ONNX Runtime is not installed; pip install 'hyperstyle-rt[cpu]' for CPUs, or "
            "'hyperstyle-rt[gpu]' for NVIDIA GPUs"
        ) from None
    except ImportError as error:  # one of its libraries
        raise _broken(error) from error
    if loaded:  # by other code, which may have left the reports on
        ort.disable_telemetry_events()
    ort.set_default_logger_severity(SILENT)
    return ort


def session_options(threads: int | None) -> onnxruntime.SessionOptions:
    """Options as the head of this module says, for at most so many threads; None for no bound."""
    _register_shared_arena()
    return _options(threads)


def shrink_arena() -> None:
    """Return memory that the shared arena holds for sessions that were destroyed.

    ONNX Runtime does so only at the end of a run, and only by whole regions: not where a tensor
    that is still in use lies in one.
    """
    _register_shared_arena()
    _shrink_arena()
    return_freed_memory()


def first_line(error: Exception) -> str:
    """The first line of an error's text, at most 300 characters."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _options(threads: int | None) -> onnxruntime.SessionOptions:
    ort = load_onnxruntime()
    options: onnxruntime.SessionOptions = ort.SessionOptions()
    options.log_severity_level = SILENT
    options.intra_op_num_threads = useful_threads(threads)
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.use_env_allocators", "1")
    for key in _NO_SPINNING:
        options.add_session_config_entry(key, "0")
    return options


def _shrink_arena() -> None:
    ort = load_onnxruntime()
    run = ort.RunOptions()
    run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    with contextlib.suppress(Exception):  # ONNX Runtime raises its own types, which share no base
        session = ort.InferenceSession(NEGATION, _options(1), providers=["CPUExecutionProvider"])
        session.run(None, {"x": np.zeros(1, np.float32)}, run)


@functools.cache
def _register_shared_arena() -> None:
    """One CPU arena for all sessions of the process."""
    ort = load_onnxruntime()
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    by_regions = addresses_left() is None
    settings = ort.OrtArenaCfg(_REGIONS if by_regions else _AS_REQUESTED)
    # Fails where the host application has registered an arena itself: then that one is shared.
    with contextlib.suppress(RuntimeError):
        ort.create_and_register_allocator(memory, settings)
    if by_regions:  # of that size only once the arena has been shrunk
        _shrink_arena()


def _broken(error: ImportError) -> BackendError:
    return BackendError(
        f"ONNX Runtime cannot be imported ({error}); run: pip install --force-reinstall {MODULE}"
    )
