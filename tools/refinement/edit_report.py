"""What edits do before and after refinement, as a table, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from directions.factor_regressor import Renders
from directions.judge import SEEN, Judge
from hyperstyle_rt.cli.terminal import Table as TerminalTable
from hyperstyle_rt.cli.terminal import columns_table

from .edits import STATES, Readings, Table, Trial, mean_face, stranger_figures, summarise, tabulate

Means = Mapping[str, Mapping[str, Mapping[str, float]]]

# Figure -> (what it is called, format), in the order they are shown.
FIGURES = {
    "own": ("own attribute", "+.2f"),
    "own_sd": ("in sd", "+.2f"),
    "right_way": ("right way", ".0%"),
    "identity": ("identity", ".3f"),
    "identity_centred": ("identity, centred", ".3f"),
    "likeness": ("likeness", ".3f"),
    "likeness_centred": ("likeness, centred", ".3f"),
    "cosine": ("change, cosine", ".2f"),
    "size": ("change, size", ".2f"),
}

LEGEND = """\
Of every edit, the first column is the unrefined inversion.

- *own attribute*: change of the attribute that the edit is named for, in steps of its direction, as
  a network reads it that has learnt factors from renders (what it reads shrinks towards the mean by
  about *seen*); *in sd*: in standard deviations of the attribute over the renders; *right way*:
  share of pictures on which it moves as asked.
- *identity*: similarity of the edited to the unedited result, the cosine of embeddings; *likeness*:
  to the picture itself. *centred*: the same about the mean embedding of the set's pictures.
- *change*, *cosine* and *size*: what the edit changes in the refined result, pixel by pixel, beside
  what it changes in the unrefined one.
"""


@dataclass(frozen=True)
class EditReport:
    """All results.

    Attributes
    ----------
    bundle:
        Its name.
    trial:
        What was done.
    names:
        Of the pictures of the set.
    means, table:
        Means over the set, and every picture's own figures.
    photos:
        Name -> means of a picture that was given by itself.
    strangers:
        Identity similarities of different pictures of the set; empty without a network.
    seen:
        Direction -> share of its attribute's variance that the judge explains on the set; empty
        without a judge, or where the set has no factors.
    """

    bundle: str
    trial: Trial
    names: list[str]
    means: Means
    table: Table
    photos: Mapping[str, Means]
    strangers: Mapping[str, float]
    seen: Mapping[str, float]

    @property
    def title(self) -> str:
        """What the tables are about."""
        done = f"{self.trial.iterations} iterations, refined by {self.trial.steps} steps"
        return f"{self.bundle}: {done} on {self.trial.variable}"

    def groups(self) -> dict[str, Means]:
        """Heading of a table -> its figures."""
        return {f"{len(self.names)} pictures": self.means, **self.photos}

    def remarks(self) -> list[str]:
        """Lines below the tables."""
        lines = []
        if self.strangers:
            plain, about = self.strangers["identity"], self.strangers["identity_centred"]
            lines.append(f"identity of different pictures: {plain:.3f}, centred {about:.3f}")
        if self.seen:
            shares = [
                f"{name} {share:.2f}" + (", too little to judge it" if share < SEEN else "")
                for name, share in self.seen.items()
            ]
            lines.append(f"seen by the judge: {'; '.join(shares)}")
        return lines

    def document(self) -> dict[str, Any]:
        """All of it for JSON."""
        return {**asdict(self), "trial": {**asdict(self.trial), "edits": dict(self.trial.edits)}}


def report_of(
    bundle: str,
    trial: Trial,
    names: Sequence[str],
    readings: Sequence[Readings],
    photos: Mapping[str, Readings],
    judge: Judge | None,
    renders: Renders | None,
) -> EditReport:
    """Put together what was read.

    Parameters
    ----------
    bundle:
        Its name.
    names, readings:
        Of the set.
    photos:
        Name -> readings of a picture by itself, which is centred on the set.
    judge:
        Who read the attributes.
    renders:
        Held-out renders with factors, to judge the judge.
    """
    mean = mean_face(readings)
    spread: dict[str, float] = {}
    seen: dict[str, float] = {}
    if judge is not None:
        shares = None if renders is None else judge.seen(renders)
        for name in trial.edits:
            column = judge.names.index(name)
            spread[name] = float(judge.spread[column])
            if shares is not None:
                seen[name] = float(shares[column])
    table = tabulate(readings, trial, mean)
    return EditReport(
        bundle=bundle,
        trial=trial,
        names=list(names),
        means=summarise(table, trial, spread),
        table=table,
        photos={
            name: summarise(tabulate([one], trial, mean), trial, spread)
            for name, one in photos.items()
        },
        strangers=stranger_figures(readings, mean),
        seen=seen,
    )


def _rows(means: Means) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: two columns an edit, one row a figure."""
    columns = [found for states in means.values() for found in states.values()]
    rows = [
        [title, *(format(found[name], style) if name in found else "" for found in columns)]
        for name, (title, style) in FIGURES.items()
        if any(name in found for found in columns)
    ]
    return ["", *(heading for label in means for heading in (label, STATES[1]))], rows


def terminal_tables(report: EditReport) -> list[TerminalTable]:
    """One table a group."""
    tables = []
    for group, means in report.groups().items():
        headings, rows = _rows(means)
        title = f"{report.title}: {group}"
        table = columns_table(title, *headings, right=tuple(headings[1:]))
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    return tables


def markdown(report: EditReport) -> str:
    """The tables as a page."""
    lines = [f"# Edits after refinement: {report.title}", "", LEGEND]
    for group, means in report.groups().items():
        headings, rows = _rows(means)
        lines += [f"## {group}", "", "| " + " | ".join(headings) + " |"]
        lines += ["|" + "---|" * len(headings)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        lines.append("")
    lines += [f"- {remark}" for remark in report.remarks()]
    return "\n".join(lines).rstrip() + "\n"
