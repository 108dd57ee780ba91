"""Workers that die, hang and are told to stop; the queue before them."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from threading import Event

import pytest
from command_line import run_python
from hyperstyle_rt.errors import BackendError, HyperStyleError
from hyperstyle_rt.serving.jobs import Job, Progress
from hyperstyle_rt.serving.pool import Busy, Pool
from hyperstyle_rt.serving.render_jobs import AdaptJob
from hyperstyle_rt.serving.settings import ModelSettings, ServiceSettings
from hyperstyle_rt.serving.tickets import JobFailed, OutOfTime, ShuttingDown, Ticket, WorkerLost
from hyperstyle_rt.serving.worker_process import WorkerProcess
from serving_jobs import Die, Fault, Hang, Sleep

PATIENCE = 120.0  # seconds on a machine that others use, too


@pytest.fixture(scope="module")
def pool(settings: ServiceSettings) -> Iterator[Pool]:
    with Pool(settings.model, workers=2, waiting=3, seconds=PATIENCE) as pool:
        pool.start()
        yield pool


def submit(pool: Pool, job: Job) -> Ticket:
    return pool.submit(job, lambda _progress: None)


def result(pool: Pool, job: Job) -> object:
    return submit(pool, job).future.result(PATIENCE)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that will be so."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def begun(pool: Pool, job: Job) -> Ticket:
    """A job that is at work."""
    at_work = Event()

    def on_progress(progress: Progress) -> None:
        at_work.set()

    ticket = pool.submit(job, on_progress)
    assert at_work.wait(PATIENCE)
    return ticket


def test_a_job_whose_worker_dies_is_done_by_another(pool: Pool, tmp_path: Path) -> None:
    before = pool.state.restarts
    assert result(pool, Die(tmp_path / "once")) == "survived"
    assert pool.state.restarts == before + 1


def test_workers_that_die_while_they_wait_are_opened_anew(settings: ServiceSettings) -> None:
    others = set(multiprocessing.active_children())
    with Pool(settings.model, workers=2, waiting=1, seconds=PATIENCE) as pool:
        pool.start()
        until(lambda: pool.state.ready == 2)
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()
            worker.join(PATIENCE)
        assert result(pool, Sleep(0)), "none of them has died of the job"
        until(lambda: pool.state.restarts == 2)


def test_a_job_that_kills_is_given_up(pool: Pool) -> None:
    with pytest.raises(WorkerLost):
        result(pool, Die())
    assert result(pool, Sleep(0)), "the pool goes on"


def test_faults_and_sentences(pool: Pool) -> None:
    with pytest.raises(JobFailed):
        result(pool, Fault())
    with pytest.raises(HyperStyleError, match="no adapted bundle 'toon'"):
        result(pool, AdaptJob(file=b"", bundle="toon"))


def test_a_signal_to_all_processes_lets_jobs_end(pool: Pool) -> None:
    before = pool.state.restarts
    ticket = begun(pool, Sleep(0.5))
    workers = {child.pid for child in multiprocessing.active_children()}
    for worker in workers:
        assert worker is not None
        os.kill(worker, signal.SIGTERM)
    assert ticket.future.result(PATIENCE) in workers
    assert pool.state.restarts == before


def test_a_process_ends_with_its_workers(settings: ServiceSettings) -> None:
    """Even one that has not stopped them, such as those that are just being opened."""
    program = (
        "import sys; from pathlib import Path; "
        "from hyperstyle_rt.serving.settings import ModelSettings; "
        "from hyperstyle_rt.serving.worker_process import WorkerProcess; "
        "worker = WorkerProcess(ModelSettings(bundle=Path(sys.argv[1]), threads=1))"
    )
    ended = run_python("-c", program, settings.model.bundle)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_minutes_never_occupy_the_last_worker(pool: Pool) -> None:
    first = begun(pool, Sleep(PATIENCE, takes_minutes=True))
    second = submit(pool, Sleep(PATIENCE, takes_minutes=True))
    assert result(pool, Sleep(0)), "a short job passes by"
    assert pool.state.waiting == 1
    second.cancel()
    first.cancel()
    with pytest.raises((JobFailed, CancelledError)):
        first.future.result(PATIENCE)
    assert second.future.cancelled()
    assert pool.state.waiting == 0


def test_a_full_queue_says_when_to_come_again(pool: Pool) -> None:
    working = [begun(pool, Sleep(PATIENCE)) for _ in range(2)]
    waiting = [submit(pool, Sleep(PATIENCE)) for _ in range(3)]
    with pytest.raises(Busy) as busy:
        submit(pool, Sleep(0))
    assert busy.value.seconds >= 1
    for ticket in (*waiting, *working):
        ticket.cancel()
    for ticket in working:
        with pytest.raises((JobFailed, CancelledError)):
            ticket.future.result(PATIENCE)
    assert result(pool, Sleep(0))


def test_a_job_that_takes_too_long_is_stopped(settings: ServiceSettings) -> None:
    with Pool(settings.model, workers=1, waiting=1, seconds=0.5) as pool:
        pool.start()
        with pytest.raises(OutOfTime):
            result(pool, Hang())
        began = time.monotonic()
    assert time.monotonic() - began < PATIENCE


def test_a_bundle_that_cannot_be_opened_is_told_at_the_start(tmp_path: Path) -> None:
    pool = Pool(ModelSettings(bundle=tmp_path), workers=1, waiting=1, seconds=1)
    with pytest.raises(BackendError, match="bundle"):
        pool.start()


def test_a_system_without_room_for_a_worker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As what cannot be opened, so that a pool which has lost a worker tries it again."""

    def refuse(*_asked: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    context = multiprocessing.get_context("spawn")
    monkeypatch.setattr(context, "Pipe", refuse)
    with pytest.raises(BackendError, match="Too many open files"):
        WorkerProcess(ModelSettings(bundle=Path("unused")))


def test_a_worker_that_hangs_does_not_hold_up_the_end(settings: ServiceSettings) -> None:
    pool = Pool(settings.model, workers=1, waiting=1, seconds=PATIENCE)
    pool.start()
    ticket = submit(pool, Hang())
    while pool.state.working == 0:
        time.sleep(0.01)
    pool.close()
    with pytest.raises(ShuttingDown):
        ticket.future.result(0)
    pool._threads[0].join(PATIENCE / 2)
    assert not pool._threads[0].is_alive(), "long before the job would run out of time"
