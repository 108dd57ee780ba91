"""What a user did wrong, told as the runtime's commands tell it, and before any work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from hyperstyle_rt.cli.outputs import check_writable
from hyperstyle_rt.cli.terminal import EXIT_ERROR, print_error
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import is_directory, make_directory


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn the errors that a user can make into one line and exit status 2.

    Also a decorator of commands: ``@one_sentence()``.
    """
    try:
        yield
    except HyperStyleError as error:
        print_error(str(error))
        raise typer.Exit(EXIT_ERROR) from None


def check_place(path: Path, option: str = "--out") -> None:
    """Refuse a file that could not be written later; its folder is made.

    Parameters
    ----------
    option:
        That names it.

    Raises
    ------
    HyperStyleError
        If it is such.
    """
    if is_directory(path):
        raise HyperStyleError(f"{option} {path} is a directory; name a file in it")
    check_writable(path.parent, option)
    make_directory(path.parent, HyperStyleError)


def check_picture_place(path: Path, option: str = "--out") -> None:
    """The same of a picture, whose suffix names its format."""
    from hyperstyle_rt.imaging.pictures import PICTURE_SUFFIXES

    if path.suffix.lower() not in PICTURE_SUFFIXES:
        kinds = ", ".join(PICTURE_SUFFIXES)
        raise HyperStyleError(f"{option} {path} must end in one of {kinds}")
    check_place(path, option)
