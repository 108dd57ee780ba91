"""The processes that invert: one a row, started anew where it dies."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from hyperstyle_rt.files import reason
from processes import how_it_ended

from .errors import ComparisonError
from .rows import Row

Answer = dict[str, Any]


@dataclass(frozen=True)
class Engine:
    """What inverts: as of `Model.load`."""

    bundle: Path
    backend: str
    threads: int | None
    precision: str


class RowProcess:
    """A process that inverts pictures as one row says.

    Parameters
    ----------
    engine:
        What it inverts with.
    row:
        How it inverts.
    said:
        File that takes what the process writes on standard error.

    Attributes
    ----------
    failure:
        Why there is none: what its first answer, or its end, said; None while it serves.
    """

    def __init__(self, engine: Engine, row: Row, said: Path) -> None:
        command = [sys.executable, "-c", "from comparison.worker import main; main()"]
        try:
            with said.open("ab") as errors:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    encoding="utf-8",
                )
        except OSError as error:
            raise ComparisonError(f"cannot start a process: {reason(error)}") from None
        job = {"engine": asdict(engine) | {"bundle": str(engine.bundle)}, "row": asdict(row)}
        answer = self._ask(job)
        self.failure: str | None = answer.get("error")

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def invert(self, task: Mapping[str, str]) -> Answer:
        """Have a picture inverted.

        Returns
        -------
        What was measured, or ``error`` and a sentence.
        """
        answer = self._ask(dict(task))
        if self._process.poll() is not None:
            self.failure = answer["error"]
        return answer

    def close(self) -> None:
        """End the process, in the middle of a picture if need be."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was not yet read by the process is lost
                    stream.close()

    def _ask(self, content: dict[str, Any]) -> Answer:
        to, back = self._pipes()
        try:
            to.write(json.dumps(content) + "\n")
            to.flush()
            line = back.readline()
        except OSError:
            line = ""
        if line:
            answer: Answer = json.loads(line)
            return answer
        return {"error": f"the process that inverts {how_it_ended(self._process.wait())}"}

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        to, back = self._process.stdin, self._process.stdout
        assert to is not None and back is not None
        return to, back
