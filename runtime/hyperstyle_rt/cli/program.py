"""What every command does as a process: output that may fail, signals, help that can be copied.

A command works on files that take long to make. So nothing that happens to what it merely *says*
may stop it: a name that the terminal's encoding lacks, a reader that went away (``| head -1``), a
full disk behind ``>``, a stream that was closed from the start. The exit status then tells.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from ..errors import HyperStyleError
from ..files import reason
from .terminal import EXIT_ERROR, print_error, print_examples

EXIT_SIGNAL = 128  # and the signal's number, as shells have it

_STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")


class SurvivingStream:
    """A text stream that can always be written to.

    Characters that its encoding lacks become ``?``. Once the stream itself has failed, everything
    more is dropped, and its descriptor is that of the null device, since Python and C libraries
    flush at exit.

    Parameters
    ----------
    stream:
        None where the process was started without.

    Attributes
    ----------
    problem:
        Why something could not be written; None if all was.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.problem: OSError | ValueError | None = None

    @property
    def encoding(self) -> str:
        """Of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:
        """How characters that the encoding lacks are dealt with."""
        return "replace"

    def write(self, text: str) -> int:
        """Write what can be written."""
        encodable = text.encode(self.encoding, "replace").decode(self.encoding, "replace")
        if text:
            self._attempt(lambda stream: stream.write(encodable))
        return len(text)

    def flush(self) -> None:
        """Hand over what was written."""
        if self._stream is not None:
            self._attempt(lambda stream: stream.flush())

    def isatty(self) -> bool:
        """Whether this is a terminal."""
        with suppress(ValueError):  # it has been closed
            return self._stream is not None and self._stream.isatty()
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _attempt(self, do: Callable[[TextIO], object]) -> None:
        if self.problem is not None:
            return
        try:
            if self._stream is None:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            do(self._stream)
        except (OSError, ValueError) as problem:  # ValueError: it has been closed
            self.problem = problem
            self._disconnect()

    def _disconnect(self) -> None:
        with suppress(AttributeError, OSError, ValueError):
            descriptor = self._stream.fileno()  # type: ignore[union-attr]
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


@contextmanager
def surviving_output() -> Iterator[tuple[SurvivingStream, SurvivingStream]]:
    """Make standard output and standard error streams that can always be written to."""
    before = sys.stdout, sys.stderr
    streams = SurvivingStream(sys.stdout), SurvivingStream(sys.stderr)
    sys.stdout, sys.stderr = streams
    try:
        yield streams
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before


def occupy_standard_descriptors() -> None:
    """Open descriptors 0, 1 and 2 if closed: a file opened as one of them would get C's output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def status_of_output(out: SurvivingStream, err: SurvivingStream) -> int:
    """Tell, on standard error and by the status, whether something could not be written."""
    out.flush()
    if out.problem is not None and getattr(out.problem, "errno", None) != errno.EPIPE:
        print_error(
            f"cannot write to standard output: {reason(out.problem)}; results are written all the "
            "same"
        )
    err.flush()
    return EXIT_ERROR if out.problem or err.problem else 0


class Stopped(KeyboardInterrupt):
    """Raised for a signal other than SIGINT that ends the process; the clean-up is Ctrl-C's."""


@contextmanager
def stopping_signals() -> Iterator[list[signal.Signals]]:
    """Raise :class:`Stopped` in the main thread where SIGTERM or SIGHUP would end the process.

    For SIGINT it is KeyboardInterrupt, as Python has it. A signal that is ignored (``nohup``) stays
    so. After the first, all are ignored until the process ends: Ctrl-C pressed once more would
    break off the cleaning up, or the end of the interpreter.

    Yields
    ------
    The signals that came.
    """
    came: list[signal.Signals] = []
    before: dict[signal.Signals, Any] = {}

    def stop(number: int, _frame: FrameType | None) -> None:
        came.append(signal.Signals(number))
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else Stopped

    if threading.current_thread() is threading.main_thread():
        for name in _STOPPING:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            usual = (signal.SIG_DFL, signal.default_int_handler)
            if number is not None and signal.getsignal(number) in usual:
                before[number] = signal.signal(number, stop)
    try:
        yield came
    finally:
        for number, handler in before.items() if not came else ():
            signal.signal(number, handler)


def _is_somewhere() -> bool:
    """Whether there is a current folder, which names without folders are relative to."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


class _Program:
    """The part that groups and commands share."""

    epilog: str | None

    def main(self, *arguments: Any, **options: Any) -> Any:
        occupy_standard_descriptors()
        with surviving_output() as streams, stopping_signals() as came:
            try:
                return super().main(*arguments, **options)  # type: ignore[misc]
            except SystemExit as ended:
                lost = status_of_output(*streams)
                if came:
                    raise SystemExit(EXIT_SIGNAL + came[0]) from None
                raise SystemExit(ended.code or lost) from None

    def invoke(self, ctx: Any) -> Any:
        """Turn the errors a user can make into one line; bugs keep their traceback."""
        try:
            return super().invoke(ctx)  # type: ignore[misc]
        except HyperStyleError as error:
            print_error(str(error))
            raise typer.Exit(EXIT_ERROR) from None
        except FileNotFoundError:
            if _is_somewhere():
                raise
            print_error("the current folder has been deleted; change into another")
            raise typer.Exit(EXIT_ERROR) from None
        except Stopped:
            print_error("stopped by a signal")
            raise typer.Exit(EXIT_SIGNAL) from None
        except KeyboardInterrupt:
            print_error("interrupted")
            raise typer.Exit(EXIT_SIGNAL + signal.SIGINT) from None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the examples as lines of their own: in a panel they would be wrapped."""
        examples, self.epilog = self.epilog, None
        try:
            super().format_help(ctx, formatter)  # type: ignore[misc]
        finally:
            self.epilog = examples
        if examples is not None:
            print_examples(examples)


class Command(_Program, TyperCommand):
    """A command, alone or of a group."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse empty texts, as scripts give them: a path without text is the folder one is in."""
        for before, argument in pairwise(["", *args]):
            option = argument.removesuffix("=") if argument else before
            if argument and (argument == option or not self._takes_value(option)):
                continue
            named = option if self._takes_value(option) else "an argument"
            raise HyperStyleError(f"{named} is empty; give it a value, or leave it out")
        return list(super().parse_args(ctx, args))

    def _takes_value(self, option: str) -> bool:
        flags = (getattr(each, "is_flag", True) for each in self.params if option in each.opts)
        return not all(flags)


class CommandGroup(_Program, TyperGroup):
    """The program whose first argument is the command."""
