"""The queue before the workers, with workers that wait for the test to end their job."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest
from hyperstyle_rt.serving.jobs import InvertJob
from hyperstyle_rt.serving.pool import Busy, Pool
from hyperstyle_rt.serving.settings import ModelSettings
from hyperstyle_rt.serving.tickets import JobFailed, ShuttingDown, Ticket
from services import PATIENCE
from waiting_worker import Waiting


@pytest.fixture
def worker() -> Iterator[Waiting]:
    worker = Waiting()
    yield worker
    worker.end.set()


@pytest.fixture
def pool(worker: Waiting) -> Iterator[Pool]:
    """One worker, and two places in the queue."""
    settings = ModelSettings(bundle=Path("unused"))
    pool = Pool(settings, workers=1, waiting=2, seconds=PATIENCE, open_worker=lambda _: worker)
    pool.start()
    yield pool
    worker.end.set()
    pool.close()


def submit(pool: Pool, *, minutes: bool = False) -> Ticket:
    job = InvertJob(picture=bytes(1000), takes_minutes=minutes)
    return pool.submit(job, lambda _progress: None)


@pytest.mark.parametrize("minutes", [False, True])
def test_who_gives_up_a_job_in_the_queue_leaves_nothing(
    pool: Pool, worker: Waiting, minutes: bool
) -> None:
    first = submit(pool)
    assert worker.at_work.wait(PATIENCE)
    gc.collect()
    gc.disable()
    try:
        given_up = submit(pool, minutes=minutes)
        job = weakref.ref(given_up.job)
        given_up.cancel()
        assert given_up.future.cancelled()
        del given_up
        assert job() is None, "the picture does not stay until its turn would have come"
    finally:
        gc.enable()
    for _ in range(2):
        submit(pool, minutes=minutes)
    with pytest.raises(Busy):
        submit(pool)
    worker.end.set()
    assert first.future.result(PATIENCE) == "done"


def test_a_job_that_waits_for_its_second_worker_can_be_given_up() -> None:
    pool = Pool(ModelSettings(bundle=Path("unused")), workers=1, waiting=2, seconds=PATIENCE)
    ticket = submit(pool)
    assert ticket.begin(), "by a worker that has died"
    ticket.cancel()
    with pytest.raises(JobFailed, match="cancelled"):
        ticket.future.result(0)
    assert pool.state.waiting == 0


def test_what_does_not_end_in_time_is_abandoned(pool: Pool, worker: Waiting) -> None:
    tickets = [submit(pool), submit(pool)]
    assert worker.at_work.wait(PATIENCE)
    pool.close()
    for ticket in tickets:
        with pytest.raises(ShuttingDown):
            ticket.future.result(0)
    with pytest.raises(ShuttingDown):
        submit(pool)
    worker.end.set()
    pool._threads[0].join(PATIENCE)
    assert not pool._threads[0].is_alive(), "a result that comes too late is no fault"
    assert pool.state.working == 0


def test_what_waits_and_works_may_end_first(pool: Pool, worker: Waiting) -> None:
    tickets = [submit(pool), submit(pool)]
    assert worker.at_work.wait(PATIENCE)
    Timer(0.1, worker.end.set).start()
    pool.close(grace=PATIENCE)
    assert [ticket.future.result(0) for ticket in tickets] == ["done"] * 2
