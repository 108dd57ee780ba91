"""A worker for tests of what is before the workers: it opens no model."""

from __future__ import annotations

from threading import Event
from typing import Any, ClassVar

from hyperstyle_rt.serving.tickets import Ticket
from services import PATIENCE


class Waiting:
    """A worker whose job ends when the test says so."""

    computed: ClassVar[dict[str, str]] = {}
    alive = True

    def __init__(self) -> None:
        self.at_work, self.end = Event(), Event()
        self.result: Any = "done"

    def do(self, ticket: Ticket, deadline: float) -> Any:
        self.at_work.set()
        assert self.end.wait(PATIENCE)
        return self.result

    def stop(self) -> None:
        pass
