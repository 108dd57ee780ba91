"""What the commands write to a terminal, with rich imported on the first line written."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table
    from rich.text import Text

EXIT_ERROR = 2


def printable(text: str) -> str:
    """Replace what would break the line or move the cursor; names and manifests are strangers'."""
    return "".join(character if character.isprintable() else "?" for character in text)


def print_error(sentence: str) -> None:
    """Write ``error: <sentence>`` as one line on standard error."""
    from rich.text import Text

    line = Text.assemble(("error:", "bold red"), " ", printable(sentence))
    error_console().print(line, soft_wrap=True)


def exit_with_errors(sentences: Collection[str]) -> None:
    """Write each like :func:`print_error` and exit with 2; without any, do nothing.

    Raises
    ------
    typer.Exit
        If there are sentences.
    """
    for sentence in sentences:
        print_error(sentence)
    if sentences:
        raise typer.Exit(EXIT_ERROR)


def print_note(sentence: str) -> None:
    """Write ``note: <sentence>`` as one line on standard error."""
    from rich.text import Text

    line = Text.assemble(("note:", "bold yellow"), " ", printable(sentence))
    error_console().print(line, soft_wrap=True)


def print_line(text: str) -> None:
    """Write one line on standard output."""
    typer.echo(printable(text))


def print_json(document: Mapping[str, Any]) -> None:
    """Write a JSON document on standard output; ASCII, so that it survives every encoding."""
    typer.echo(json.dumps(document, indent=2))


def print_done(document: Mapping[str, Any], line: str, json_: bool, quiet: bool) -> None:
    """Say what a command has done: in a JSON document if it is asked for, else in a line."""
    if json_:
        print_json(document)
    elif not quiet:
        print_line(line)


def print_tables(*tables: Table) -> None:
    """Write tables on standard output, a blank line before each."""
    from rich.console import Console

    console = Console()
    for table in tables:
        console.print()
        console.print(table)


def error_console() -> Console:
    """Make a console on standard error."""
    from rich.console import Console

    return Console(stderr=True)


def cell(text: str, style: str = "") -> Text:
    """Make a table cell that shows the text as it is: no markup, no control characters."""
    from rich.text import Text

    return Text(printable(text), style, overflow="fold")


def facts_table(title: str, facts: Mapping[str, str | Text]) -> Table:
    """Make a table of names and what is known under them."""
    table = columns_table(title, "", "")
    table.show_header = False
    for name, fact in facts.items():
        table.add_row(cell(name, "cyan"), cell(fact) if isinstance(fact, str) else fact)
    return table


def columns_table(title: str, *names: str, right: tuple[str, ...] = ()) -> Table:
    """Make a table without rows; the columns in ``right`` are aligned there."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in names:
        table.add_column(
            name,
            justify="right" if name in right else "left",
            header_style="dim",
            overflow="fold",
        )
    return table


def progress_bar(quiet: bool) -> Progress:
    """Make a progress bar on standard error that is gone when done.

    Parameters
    ----------
    quiet:
        Show nothing, which is also the case where standard error is no terminal.
    """
    from rich.progress import MofNCompleteColumn, TimeElapsedColumn

    return _progress(quiet, MofNCompleteColumn(), TimeElapsedColumn())


def batch_progress(quiet: bool) -> Progress:
    """Make a progress bar like :func:`progress_bar` that shows the rate and the time left.

    The rate is a field of the task: ``progress.update(task, rate="3.1/s")``.
    """
    from rich.progress import MofNCompleteColumn, TextColumn, TimeRemainingColumn

    rate = TextColumn("{task.fields[rate]}", markup=False)
    return _progress(quiet, MofNCompleteColumn(), rate, TimeRemainingColumn(), TextColumn("left"))


def _progress(quiet: bool, *columns: ProgressColumn) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *columns,
        console=error_console(),
        transient=True,
        disable=quiet or not sys.stderr.isatty(),
        # rich moves lines printed meanwhile above the bar, to standard error: not those for a pipe.
        redirect_stdout=sys.stdout.isatty(),
    )
