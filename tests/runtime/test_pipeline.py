"""Work on many items, with threads before and after."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from hyperstyle_rt.batch.pipeline import overlap, what_is_left
from hyperstyle_rt.errors import BackendError, PictureError


def same(value: int) -> int:
    return value


def until_interrupted(outcomes: Iterator[tuple[int, object]]) -> list[tuple[int, object]]:
    """What is handed over before the interruption is raised."""
    found = []
    with pytest.raises(KeyboardInterrupt):
        for each in outcomes:
            found.append(each)
    return found


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_everything_comes_out_in_order(jobs: int) -> None:
    outcomes = overlap(range(20), lambda n: n + 1, lambda n: n * n, lambda n: -n, jobs)
    assert list(outcomes) == [(n, -((n + 1) ** 2)) for n in range(20)]


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_what_is_bad_stops_nothing(stage: int) -> None:
    def fail_at_3(value: int) -> int:
        if value == 3:
            raise PictureError("three is bad")
        return value

    stages = [fail_at_3 if n == stage else same for n in range(3)]
    outcomes = dict(overlap(range(6), *stages, 2))
    assert str(outcomes.pop(3)) == "three is bad"
    assert outcomes == {n: n for n in (0, 1, 2, 4, 5)}


@pytest.mark.parametrize("error", [BackendError("no GPU"), ZeroDivisionError()])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_every_other_error_stops_all(stage: int, error: Exception) -> None:
    def fail(value: int) -> int:
        raise error

    stages = [fail if n == stage else same for n in range(3)]
    with pytest.raises(type(error)):
        list(overlap(range(3), *stages, 1))


@pytest.mark.parametrize("jobs", [1, 3])
def test_items_are_taken_as_they_are_needed(jobs: int) -> None:
    """However slow the consumer or the finishing is, few items are between the two ends."""
    taken, finished, most = 0, 0, 0
    lock = threading.Lock()

    def items() -> Iterator[int]:
        nonlocal taken, most
        for number in range(50):
            with lock:
                taken += 1
                most = max(most, taken - finished)
            yield number

    def finish(value: int) -> int:
        nonlocal finished
        with lock:
            finished += 1
        return value

    assert len(list(overlap(items(), same, same, finish, jobs))) == 50
    assert jobs < most <= 2 * jobs + 2


def test_work_waits_for_the_finishing_of_others() -> None:
    """With one thread, what is finished is at most one item behind what is worked on."""
    gate, worked = threading.Semaphore(0), []

    def finish(value: int) -> int:
        gate.acquire()
        return value

    outcomes = overlap(range(9), same, lambda n: worked.append(n) or n, finish, 1)
    for number in range(9):
        gate.release()
        assert next(outcomes) == (number, number)
        assert len(worked) <= number + 3


def test_an_interrupted_wait_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes while items are being finished, and all are worked on."""
    go, begun, worked = threading.Event(), threading.Semaphore(0), []
    result = Future.result

    def finish(value: int) -> int:
        begun.release()
        assert go.wait(5)
        if value == 1:
            raise PictureError("one is bad")
        return value

    def wait(future: Future[int], timeout: float | None = None) -> int:
        if len(worked) == 3 and not go.is_set():
            assert all(begun.acquire(timeout=5) for _ in range(3))
            go.set()
            raise KeyboardInterrupt
        return result(future, timeout)

    monkeypatch.setattr(Future, "result", wait)
    outcomes = overlap(range(3), same, lambda n: worked.append(n) or n, finish, 3)
    assert [(number, str(found)) for number, found in until_interrupted(outcomes)] == [
        (0, "0"),
        (1, "one is bad"),
        (2, "2"),
    ]


def test_an_interruption_finishes_what_is_being_finished_and_starts_nothing() -> None:
    begun, finished, prepared = threading.Event(), [], []
    go = threading.Event()
    others = set(threading.enumerate())  # of tests before this one

    def prepare(value: int) -> int:
        prepared.append(value)
        return value

    def work(value: int) -> int:
        if value == 1:
            assert begun.wait(5)  # the first item is being written
            threading.Timer(0.05, go.set).start()
            raise KeyboardInterrupt
        return value

    def finish(value: int) -> int:
        begun.set()
        assert go.wait(5)
        finished.append(value)
        return value

    outcomes = overlap(range(100), prepare, work, finish, 2)
    assert until_interrupted(outcomes) == [(0, 0)]  # what was written is in the report
    assert finished == [0]
    assert len(prepared) <= 5
    left = set(threading.enumerate()) - others
    assert not [thread for thread in left if "ThreadPool" in thread.name]


def test_an_interrupted_consumer_gets_what_is_being_finished() -> None:
    worked, finishing = threading.Event(), threading.Event()

    def work(value: int) -> int:
        if value == 1:
            worked.set()
        return value

    def finish(value: int) -> int:
        assert worked.wait(5)  # so that another item is behind the first one that is handed over
        if value == 1:
            finishing.set()
        return value

    outcomes = overlap(range(100), same, work, finish, 1)
    assert next(outcomes) == (0, 0)
    assert finishing.wait(5)
    stopped = KeyboardInterrupt()
    assert list(what_is_left(outcomes, stopped)) == [(1, 1)]
    assert list(what_is_left(outcomes, stopped)) == []


def test_nothing_is_left_of_what_has_stopped_itself() -> None:
    def fail(value: int) -> int:
        raise BackendError("no GPU")

    outcomes = overlap(range(3), same, fail, same, 1)
    with pytest.raises(BackendError) as stopped:
        next(outcomes)
    assert list(what_is_left(outcomes, stopped.value)) == []
