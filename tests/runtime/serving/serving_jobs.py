"""Jobs that misbehave, for the tests of the pool; workers import them from here."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from hyperstyle_rt.serving.desk import Desk
from hyperstyle_rt.serving.jobs import Job, Progress, Tell


@dataclass(frozen=True)
class Sleep(Job):
    """Sleeps, telling that it does."""

    seconds: float
    takes_minutes: bool = False

    def run(self, desk: Desk, tell: Tell) -> int:
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            tell(Progress("step"))
            time.sleep(0.01)
        return os.getpid()


@dataclass(frozen=True)
class Hang(Job):
    """Never ends, and tells nothing."""

    def run(self, desk: Desk, tell: Tell) -> None:
        while True:
            time.sleep(1)


@dataclass(frozen=True)
class Die(Job):
    """Kills its worker, and the first time alone where there is a file to remember it by."""

    once: Path | None = None

    def run(self, desk: Desk, tell: Tell) -> str:
        if self.once is not None and self.once.exists():
            return "survived"
        if self.once is not None:
            self.once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
        return "unreachable"


@dataclass(frozen=True)
class Fault(Job):
    """Raises what no user causes."""

    def run(self, desk: Desk, tell: Tell) -> None:
        raise ZeroDivisionError("a fault of the program")
