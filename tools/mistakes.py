"""What a user did wrong, told as the runtime's commands tell it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from hyperstyle_rt.cli.terminal import EXIT_ERROR, print_error
from hyperstyle_rt.errors import HyperStyleError


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
