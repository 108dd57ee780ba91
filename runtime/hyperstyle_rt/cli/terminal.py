"""What the commands write to a terminal, with rich imported on the first line written.

What a person may copy (a path, a digest, a command) stands whole in its line, however narrow the
terminal is: nothing here wraps or cuts, a terminal breaks long lines by itself. That a stream may
fail or lack a character is dealt with in :mod:`program`, for all that is written.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from logging import Handler, LogRecord
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.text import Text

EXIT_ERROR = 2

_GAP = 2  # spaces between columns
_NAMED = 10  # files that a note names


def printable(text: str) -> str:
    """Replace what would break the line or move the cursor: names and manifests are untrusted."""
    return "".join(character if character.isprintable() else "?" for character in text)


def print_error(sentence: str) -> None:
    """Write ``error: <sentence>`` as one line on standard error."""
    _print_labelled("error:", "bold red", sentence)


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
    _print_labelled("note:", "bold yellow", sentence)


def _print_labelled(label: str, style: str, sentence: str) -> None:
    from rich.text import Text

    line = Text.assemble((label, style), " ", printable(sentence))
    error_console().print(line, soft_wrap=True)


def print_passed_over(paths: Sequence[Path]) -> None:
    """Say, as a note, what of the folders is not worked on; without any, say nothing."""
    if not paths:
        return
    kinds = Counter(path.suffix.lower() or "no suffix" for path in paths)
    counted = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    named = ", ".join(map(str, paths[:_NAMED]))
    more = f", and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    things = "1 file was" if len(paths) == 1 else f"{len(paths)} files were"
    print_note(f"{things} passed over ({counted}): {named}{more}")


class NoteHandler(Handler):
    """Writes log records as notes."""

    def emit(self, record: LogRecord) -> None:
        """Write one."""
        print_note(record.getMessage())


def print_line(text: str) -> None:
    """Write one line on standard output."""
    _write_line(printable(text))


def print_examples(examples: str) -> None:
    """Write examples of commands on standard output, each line as it is but for rich's markup."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for line in examples.rstrip().splitlines():
        console.print(Text.from_markup(f" {line}" if line else ""), soft_wrap=True)


def print_json(document: Mapping[str, Any]) -> None:
    """Write a JSON document on standard output; ASCII, which every encoding has."""
    _write_line(json.dumps(document, indent=2))


def _write_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_done(document: Mapping[str, Any], line: str, json_: bool, quiet: bool) -> None:
    """Say what a command has done: in a JSON document if it is asked for, else in a line."""
    if json_:
        print_json(document)
    elif not quiet:
        print_line(line)


@dataclass
class Table:
    """Rows under a title, in columns as wide as what they hold.

    Attributes
    ----------
    title:
        Above the rows.
    names:
        Of the columns; no line of names where all are empty.
    right:
        Columns that are aligned at their right side.
    rows:
        With a cell for every column.
    """

    title: str
    names: tuple[str, ...]
    right: tuple[str, ...] = ()
    rows: list[list[Text]] = field(default_factory=list)

    def add_row(self, *cells: str | Text) -> None:
        """Add a row."""
        self.rows.append([cell(each) if isinstance(each, str) else each for each in cells])

    def lines(self) -> list[Text]:
        """Lay out the table, every row as one line."""
        from rich.text import Text

        header = [[cell(name, "dim") for name in self.names]] if any(self.names) else []
        rows = header + self.rows
        widths = [max(each.cell_len for each in column) for column in zip(*rows, strict=True)]
        return [Text(self.title, "bold"), *(self._line(row, widths) for row in rows)]

    def _line(self, row: Sequence[Text], widths: Sequence[int]) -> Text:
        from rich.text import Text

        line = Text()
        for name, each, width in zip(self.names, row, widths, strict=True):
            blank = " " * (width - each.cell_len)
            before, after = (blank, "") if name and name in self.right else ("", blank)
            line = Text.assemble(line, " " * _GAP if len(line) else "", before, each, after)
        line.rstrip()
        return line


def print_tables(*tables: Table, to_error: bool = False) -> None:
    """Write tables, a blank line before each, on standard output or standard error."""
    from rich.console import Console

    console = Console(stderr=to_error)
    for table in tables:
        console.print()
        for line in table.lines():
            console.print(line, soft_wrap=True)


def error_console() -> Console:
    """Make a console on standard error."""
    from rich.console import Console

    return Console(stderr=True)


def cell(text: str, style: str = "") -> Text:
    """Make a table cell that shows the text as it is: no markup, no control characters."""
    from rich.text import Text

    return Text(printable(text), style)


def bar(share: float, width: int = 24) -> Text:
    """Make a table cell with a bar that is full for 1 and empty for 0."""
    return cell("=" * round(share * width), "cyan")


def facts_table(title: str, facts: Mapping[str, str | Text]) -> Table:
    """Make a table of names and what is known under them."""
    table = Table(title, ("", ""))
    for name, fact in facts.items():
        table.add_row(cell(name, "cyan"), fact)
    return table


def figures_table(title: str, figures: Mapping[str, Any]) -> Table:
    """Make a table of what a manifest holds in free form; numbers with three digits.

    What is an object in it has a row for each of its members: ``fp16 image_psnr_db``.
    """
    return facts_table(title, dict(_rows_of(figures)))


def _rows_of(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from ((f"{name} {inner}", text) for inner, text in _rows_of(value))
        else:
            yield name, _said(value)


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    return value if isinstance(value, str) else json.dumps(value)


def columns_table(title: str, *names: str, right: tuple[str, ...] = ()) -> Table:
    """Make a table without rows; the columns in ``right`` are aligned there."""
    return Table(title, names, right)


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
