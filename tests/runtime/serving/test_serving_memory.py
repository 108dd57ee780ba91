"""What a service keeps is all that it keeps: pictures go when they are done with, at once."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.serving.jobs import Inverted, InvertJob, Job, Progress
from hyperstyle_rt.serving.settings import Keeping, ModelSettings, ServiceSettings
from hyperstyle_rt.serving.store import DONE, FAILED, Kept
from hyperstyle_rt.serving.tickets import Ticket

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")


@pytest.fixture(autouse=True)
def _no_search_for_circles() -> Iterator[None]:
    """Python looks for circles of old objects only now and then, and pictures are large."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Desk:
    """In the place of the pool: jobs are done when the test says so."""

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []

    def submit(self, job: Job, on_progress: Any) -> Ticket:
        ticket = Ticket(job, on_progress)
        on_progress(Progress("crop", picture=bytes(1000)))
        self.tickets.append(ticket)
        return ticket

    def end(self, outcome: Inverted | Exception) -> weakref.ref[Ticket]:
        ticket = self.tickets.pop()
        if isinstance(outcome, Exception):
            ticket.future.set_exception(outcome)
        else:
            ticket.future.set_result(outcome)
        return weakref.ref(ticket)


async def _ended(service: Any, kept: Kept) -> None:
    await service.ended(kept)
    for _ in range(5):  # what is still to be run of the tasks
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "outcome", [Inverted(b"file", b"picture", b"crop", {}), ZeroDivisionError("a fault")]
)
def test_pictures_go_when_they_are_done_with(
    outcome: Inverted | Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hyperstyle_rt.serving.service import Service
    from hyperstyle_rt.serving.tickets import JobFailed

    fails = isinstance(outcome, Exception)
    settings = ServiceSettings(
        model=ModelSettings(bundle=find_bundle("portraits")), keeping=Keeping()
    )
    service, desk = Service(settings), Desk()
    monkeypatch.setattr(service, "pool", desk)

    async def invert() -> tuple[Kept, weakref.ref[Ticket]]:
        kept = service.begin(InvertJob(picture=bytes(1 << 20)))
        ticket = desk.end(JobFailed("a fault") if fails else outcome)
        await _ended(service, kept)
        return kept, ticket

    async def run() -> None:
        kept, ticket = await invert()
        assert kept.state == (FAILED if fails else DONE)
        assert ticket() is None, "the upload is not kept with the inversion"
        assert all(told.picture is None for told in kept.told)
        service.store.remove(kept.id)
        gone = weakref.ref(kept)
        del kept
        assert gone() is None, "what is forgotten is gone"

    asyncio.run(run())
