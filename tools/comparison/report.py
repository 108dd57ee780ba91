"""A comparison as tables, JSON, a plot of quality against time, and a contact sheet."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from evaluation.report import FORMATS, TITLES
from figures.sheets import headed_sheet
from hyperstyle_rt.cli.terminal import Table, columns_table
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.imaging.pictures import read_picture, resize_bilinear
from hyperstyle_rt.types import Picture

from .pictures import Sample
from .results import MEASURED, SPENT, Comparison, RowResult
from .store import Store

ON_PROCESSORS = ("cpu", "openvino")  # backends that compute all on processors as we open them
PLOTTED = ("identity", "ms_ssim", "lpips", "l2")
HEADINGS = {**TITLES, "identity": "ID", "cpu": "CPU s"}
STYLES = {**FORMATS, "seconds": ".2f", "cpu": ".2f"}
SHEET_SIDE = 256  # largest side of a picture on the sheet


def headings(comparison: Comparison) -> list[str]:
    """Of the table."""
    return ["method", "n", "steps", *(HEADINGS[name] for name in _figures(comparison)), "peak MB"]


def table_rows(comparison: Comparison, among: Sequence[str] | None = None) -> list[list[str]]:
    """One row a method: over its own pictures, or over those with the digests in `among`."""
    rows = []
    for result in comparison.rows:
        own = result.digests if among is None else [d for d in result.digests if d in among]
        mean = result.mean(own) if own else {}
        figures = [_shown(mean.get(name), STYLES[name]) for name in _figures(comparison)]
        peak = f"{result.peak / 1e6:.0f}" if result.peak else "–"
        rows.append([result.row.name, str(len(own)), _steps(result), *figures, peak])
    return rows


def terminal_table(comparison: Comparison) -> Table:
    """The table for a terminal."""
    titles = headings(comparison)
    table = columns_table(comparison.title, *titles, right=tuple(titles[1:]))
    for row in table_rows(comparison):
        table.add_row(*row)
    return table


def markdown(comparison: Comparison) -> str:
    """The tables in Markdown, and what went wrong."""
    lines = [f"# {comparison.title}", "", *_markdown_table(comparison, None), ""]
    lines += [
        "Means over n pictures; medians of distances, which are those of unit embeddings, and of "
        "times: seconds by the clock and of the processor, of a picture in the process's memory to "
        "its inversion. Peak memory is that of the process that runs this method alone.",
        "",
    ]
    if comparison.uneven and comparison.common:
        count = len(comparison.common)
        lines += [f"## The {count} that all methods have", ""]
        lines += [*_markdown_table(comparison, comparison.common), ""]
    if comparison.strangers is not None:
        lines += [f"identity similarity of different inputs: {comparison.strangers:.3f}", ""]
    if comparison.problems:
        lines += ["## What has no result", "", *(f"- {text}" for text in comparison.problems), ""]
    return "\n".join(lines)


def document(comparison: Comparison) -> dict[str, Any]:
    """All figures as JSON: means, and every picture's own, on the way too."""
    return {
        "title": comparison.title,
        "settings": dict(comparison.settings),
        "common": comparison.common,
        "strangers": comparison.strangers,
        "problems": comparison.problems,
        "rows": [_row_document(result, comparison.common) for result in comparison.rows],
    }


def plot(comparison: Comparison) -> bytes:
    """Quality against time as PNG: a panel a figure, a point a method, a line its way there.

    All points are of the same pictures, those that every method has. Time is the processor's where
    it computes all, for it does not depend on what else the machine does.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    clock = "cpu" if comparison.settings["backend"] in ON_PROCESSORS else "seconds"
    label = "processor seconds a picture" if clock == "cpu" else "seconds a picture"

    shown = [name for name in PLOTTED if name in _figures(comparison)]
    figure = Figure(figsize=(3.9 * len(shown), 4.2), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, name in zip(panels, shown, strict=True):
        for number, result in enumerate(comparison.rows):
            course = result.mean_course(comparison.common)
            if not course:
                continue
            colour = f"C{number % 10}"
            axes.plot(course[clock], course[name], "-", color=colour, alpha=0.4, lw=1)
            axes.plot(
                course[clock][-1:],
                course[name][-1:],
                "o" if number < 10 else "s",
                color=colour,
                label=result.row.name,
            )
        axes.set(xscale="log", xlabel=label, title=HEADINGS[name])
        # Seconds as numbers: powers of ten have labels that lie over each other within a decade.
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3, which="both")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def sheet(
    comparison: Comparison, samples: Sequence[Sample], store: Store, count: int
) -> Picture | None:
    """The first pictures that all methods have beside their inversions; None without any."""
    rows = []
    results = [result.row for result in comparison.rows if result.digests]
    for sample in [s for s in samples if s.digest in comparison.common][:count]:
        paths = [sample.path, *(store.rendering(sample, row) for row in results)]
        try:
            rows.append([_small(read_picture(path)) for path in paths])
        except HyperStyleError:  # altered since; the table says so
            continue
    if not rows:
        return None
    return headed_sheet(["input", *(row.name for row in results)], rows)


def _figures(comparison: Comparison) -> list[str]:
    return [
        name
        for name in (*MEASURED, *SPENT)
        if any(name in result.values for result in comparison.rows)
    ]


def _steps(result: RowResult) -> str:
    if result.row.preset is None:
        return "–"
    done = result.steps_done
    return f"{result.row.steps}" if done in (0, result.row.steps) else f"≤ {done}"


def _shown(value: float | None, style: str) -> str:
    return "–" if value is None or math.isnan(value) else format(value, style)


def _markdown_table(comparison: Comparison, among: Sequence[str] | None) -> list[str]:
    titles = headings(comparison)
    rows = table_rows(comparison, among)
    return [
        "| " + " | ".join(titles) + " |",
        "|---" + "|---:" * (len(titles) - 1) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _row_document(result: RowResult, common: Sequence[str]) -> dict[str, Any]:
    row = result.row
    return {
        "row": row.name,
        "method": row.method,
        "iterations": row.iterations,
        "preset": row.preset,
        "steps": row.steps,
        "steps_done": result.steps_done,
        "peak_bytes": result.peak,
        "pictures": result.names,
        "missing": result.missing,
        "mean": _plain(result.mean(result.digests)) if result.digests else {},
        "mean_of_common": _plain(result.mean(common)) if common and result.digests else {},
        "course_of_common": {
            name: [_number(value) for value in values]
            for name, values in result.mean_course(common).items()
        },
        "values": {
            name: [_number(value) for value in values] for name, values in result.values.items()
        },
    }


def _plain(figures: dict[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in figures.items()}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)


def _small(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    scale = min(1.0, SHEET_SIDE / max(height, width))
    return resize_bilinear(picture, (round(height * scale), round(width * scale)))
