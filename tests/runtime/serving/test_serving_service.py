"""What clients are told of their jobs, without a worker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hyperstyle_rt.serving.jobs import InvertJob, Progress
from hyperstyle_rt.serving.settings import ServiceSettings
from hyperstyle_rt.serving.tickets import JobFailed

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")


@pytest.fixture
def service(settings: ServiceSettings) -> Any:
    """Its pool is not started: jobs stay in the queue."""
    from hyperstyle_rt.serving.service import Service

    return Service(settings)


def test_what_comes_while_an_event_is_sent_is_sent_too(service: Any) -> None:
    async def run() -> list[int]:
        kept = service.begin(InvertJob(picture=b""))
        (ticket,) = service.pool._short
        ticket.on_progress(Progress("iteration", 1))
        sent = []
        async for progress in service.progress_of(kept):
            sent.append(progress.number)
            if sent == [1]:  # the client reads slowly
                for number in (2, 3):
                    ticket.on_progress(Progress("iteration", number))
                ticket.future.set_exception(JobFailed("the end"))
                await service.ended(kept)
        return sent

    assert asyncio.run(run()) == [1, 2, 3]


def test_a_request_that_is_refused_costs_no_inversion(service: Any) -> None:
    from fastapi import HTTPException
    from hyperstyle_rt.serving.store import DONE

    limits, keeping = service.settings.limits, service.settings.keeping
    done = [service.store.add() for _ in range(keeping.most - limits.waiting)]
    for kept in done:
        kept.state = DONE

    async def run() -> None:
        begun = [service.begin(InvertJob(picture=b"")) for _ in range(limits.waiting)]
        for _ in range(keeping.most):
            with pytest.raises(HTTPException, match="queue is full"):
                service.begin(InvertJob(picture=b""))
        assert all(service.store.get(kept.id) is kept for kept in done + begun)
        await service.stop()

    asyncio.run(run())
