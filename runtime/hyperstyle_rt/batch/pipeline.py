"""Work on many pictures, with what comes before and after the inference done beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from ..errors import InversionError, PictureError

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Made = TypeVar("Made")
Result = TypeVar("Result")

JOBS = 2
"""Threads that read and write beside the inference; more of them help where decoding is slow."""

Failure = PictureError | InversionError
"""Errors of one item, which do not stop the others; all other errors do."""


def overlap(
    items: Iterable[Item],
    prepare: Callable[[Item], Prepared],
    work: Callable[[Prepared], Made],
    finish: Callable[[Made], Result],
    jobs: int,
) -> Generator[tuple[Item, Result | Failure], None, None]:
    """Prepare, work on and finish every item; while one is worked on, others are in threads.

    Parameters
    ----------
    items:
        Taken one by one, as they are needed.
    prepare, finish:
        Called in threads, several at a time.
    work:
        Called in the caller's thread, for one item after the other, in their order.
    jobs:
        Number of threads, from 1. At most as many items are prepared ahead, and at most as many
        wait to be finished: that bounds the memory, however many items there are.

    Yields
    ------
    item, result:
        In the order of the items; the error in the result's place where one failed. Where an error
        or an interruption ends the work, what is being finished still is, and is handed over before
        that is raised; where the consumer stops early, it is finished, too. Nothing else is begun.
        A consumer that is interrupted itself gets it by :func:`what_is_left`.
    """
    pool = ThreadPoolExecutor(jobs)
    ahead: deque[tuple[Item, Future[Prepared]]] = deque()
    behind: deque[tuple[Item, Future[Result]]] = deque()

    def advance() -> None:
        item, prepared = ahead.popleft()
        try:
            computed = work(prepared.result())
        except (PictureError, InversionError) as error:
            failed: Future[Result] = Future()
            failed.set_exception(error)
            behind.append((item, failed))
        else:
            behind.append((item, pool.submit(finish, computed)))

    def outcome() -> tuple[Item, Result | Failure]:
        item, finished = behind[0]
        result: Result | Failure
        try:
            result = finished.result()
        except (PictureError, InversionError) as error:
            result = error.with_traceback(None)  # whose frames would hold the pixels
        behind.popleft()  # only now: an interruption of the waiting leaves it to be handed over
        return item, result

    def is_known(finished: Future[Result]) -> bool:
        """Whether there is a result, or an error of the item alone."""
        if finished.cancelled():
            return False
        error = finished.exception()
        return error is None or isinstance(error, (PictureError, InversionError))

    try:
        for item in items:
            ahead.append((item, pool.submit(prepare, item)))
            if len(ahead) > jobs:
                advance()
            while behind and (len(behind) > jobs or behind[0][1].done()):
                yield outcome()
        while ahead or behind:
            if ahead:
                advance()
            while behind and (not ahead or behind[0][1].done()):
                yield outcome()
    except GeneratorExit:  # there is nobody to hand anything to
        raise
    except BaseException:
        pool.shutdown(cancel_futures=True)
        behind = deque(each for each in behind if is_known(each[1]))
        while behind:
            yield outcome()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def what_is_left(
    outcomes: Generator[tuple[Item, Result], None, None], stopped: BaseException
) -> Iterator[tuple[Item, Result]]:
    """Take what is being finished while the consumer of :func:`overlap` was interrupted.

    Parameters
    ----------
    outcomes:
        Of :func:`overlap`; nothing is left of them where they have raised the error themselves.
    stopped:
        What has interrupted the consumer: Ctrl-C may come while it waits for a terminal.
    """
    with suppress(type(stopped), StopIteration):
        yield outcomes.throw(stopped)
        yield from outcomes
