"""OpenVINO as this package uses it: imported when needed, silent, reporting to nobody.

Importing the package ``openvino`` would tell Intel, through Google Analytics, that it was imported,
and leave a file in the user's home. Its reports go through the package ``openvino-telemetry``;
where that is missing, stand-ins that do nothing take its place. So it is missing while ``openvino``
is imported here.

Its threads are TBB's, one pool for the process. A child made by ``os.fork`` has the pool and none
of the threads, and a lock that one of them held stays held: new cores usually work there, and
rarely wait for ever.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import BackendError
from .native_memory import (
    addresses_left,
    share_heaps_where_addresses_are_few,
    too_little_memory,
)

MODULE = "openvino"
DEVICE = "CPU"
BFLOAT16 = "BF16"  # as OpenVINO names it among a device's abilities
_REPORTS = "openvino_telemetry"
_ROOM_TO_START = 600_000_000
_ROOM_TO_COMPILE = 400_000_000
"""Addresses that must be left before OpenVINO is started, and before a graph is compiled.

It takes 200 MB to start, beside what is loaded after it, and about 100 for a small graph, 300 for
one of gradients. Where it gets none it may crash, so it is given no occasion to.
"""

_process: int | None = None  # that has the threads, once there are some


def load_openvino() -> Any:
    """Import OpenVINO.

    Raises
    ------
    BackendError
        If it is not installed, cannot be imported, or the process may take too little memory.
    """
    if MODULE not in sys.modules:
        share_heaps_where_addresses_are_few()
        _require_room("start OpenVINO", _ROOM_TO_START)
    try:
        with _without_reports():
            return import_module(MODULE)
    except ModuleNotFoundError as error:
        if error.name != MODULE:
            raise _broken(error) from error
        raise BackendError(
            "OpenVINO is not installed; pip install 'hyperstyle-rt[openvino]', or use --backend cpu"
        ) from None
    except ImportError as error:  # one of its libraries
        raise _broken(error) from error


def version() -> str:
    """OpenVINO's version without its build: ``2026.4.1``; raises as :func:`load_openvino`."""
    return str(load_openvino().__version__).split("-")[0]


def new_core() -> Any:
    """Give an ``openvino.Core`` whose settings are nobody else's.

    It maps files. OpenVINO keeps the constants of a graph beside what it packs for its kernels;
    those that are mapped take no memory that the system could not have back.

    Raises
    ------
    BackendError
        If OpenVINO is missing, or has no support for this machine's CPU; in a child of a process
        that had a core before it forked.
    """
    global _process
    openvino = load_openvino()
    if _process is None:
        _process = os.getpid()
    elif _process != os.getpid():
        raise BackendError(
            "OpenVINO was in use before the process forked and may hang in the child; start "
            "processes by spawn or forkserver, or use --backend cpu"
        )
    core = openvino.Core()
    if DEVICE not in core.available_devices:
        raise BackendError(
            f"OpenVINO {version()} does not support this CPU; use --backend cpu, which is ONNX "
            "Runtime's"
        )
    core.set_property({"ENABLE_MMAP": True})
    return core


def computes_bfloat16(core: Any) -> bool:
    """Whether OpenVINO has bfloat16 instructions to use on this CPU: AVX-512 BF16, AMX, or Arm's.

    ``ONEDNN_MAX_CPU_ISA``, which keeps OpenVINO from using some instructions, counts.
    """
    return BFLOAT16 in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")


def cause_of(error: Exception) -> str:
    """What an error of OpenVINO says in the end: it tells from where to where it was passed first.

    At most 300 characters.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from ", "Check '"))]
    return ((told or lines)[-1] if lines else type(error).__name__)[:300]


def require_room_to_compile(path: Path, size: int) -> None:
    """Refuse to compile a graph in a process whose limit of addresses (``ulimit -v``) is too near.

    Parameters
    ----------
    path:
        The graph's.
    size:
        Of its file and the tensors beside it, which are held as they are and as kernels want them.

    Raises
    ------
    BackendError
        If so.
    """
    _require_room(f"load {path}", _ROOM_TO_COMPILE + 4 * size)


def _require_room(purpose: str, wanted: int) -> None:
    left = addresses_left()
    if left is not None and left < wanted:
        raise too_little_memory(purpose)


@contextmanager
def _without_reports() -> Iterator[None]:
    """Let the package that reports be missing for a while, unless it is in use already."""
    if _REPORTS in sys.modules:
        yield
        return
    sys.modules[_REPORTS] = None  # type: ignore[assignment]  # as Python marks a missing module
    try:
        yield
    finally:
        del sys.modules[_REPORTS]


def _broken(error: ImportError) -> BackendError:
    return BackendError(
        f"OpenVINO cannot be imported ({error}); run: pip install --force-reinstall {MODULE}"
    )


def nodes_of(model: Any, *kinds: str) -> list[Any]:
    """The operators of an ``openvino.Model`` of these kinds, each after those that it reads from.

    The model may then be altered.
    """
    return [node for node in model.get_ordered_ops() if node.get_type_name() in kinds]


def constant_of(source: Any) -> Any:
    """The array that an operator's output is, or None if it is no constant."""
    node = source.get_node()
    return node.data if node.get_type_name() == "Constant" else None


def integers(*values: int) -> Any:
    """A constant vector, as operators take shapes and axes."""
    openvino = load_openvino()
    return openvino.opset13.constant(list(values), openvino.Type.i64)


def replace_node(node: Any, other: Any) -> None:
    """Have what reads an operator's only output read another's, which takes the name as well."""
    name = node.get_friendly_name()
    node.output(0).replace(other.output(0))
    other.set_friendly_name(name)
