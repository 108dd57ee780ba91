"""What tools say of processes: the memory that one has taken, and how one has ended."""

from __future__ import annotations

import signal
from pathlib import Path


def peak_memory() -> int:
    """Peak resident bytes of this process.

    Not `ru_maxrss`, which starts at the size of the process that spawned this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def how_it_ended(status: int) -> str:
    """The end of a process in words, by its exit status; of a signal the status is negative."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = ", which the system sends where memory is short" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"
