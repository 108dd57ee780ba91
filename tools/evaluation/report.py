"""Measured figures as tables, JSON, a plot and contact sheets."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from figures.sheets import headed_sheet
from hyperstyle_rt.cli.terminal import Table, columns_table
from hyperstyle_rt.types import Picture

from .measure import FIGURES, Measured
from .metrics import average

TITLES = {
    "l2": "L2",
    "psnr": "PSNR dB",
    "ms_ssim": "MS-SSIM",
    "lpips": "LPIPS",
    "identity": "identity",
    "distance": "distance",
    "seconds": "seconds",
}
FORMATS = {
    "l2": ".4f",
    "psnr": ".2f",
    "ms_ssim": ".3f",
    "lpips": ".4f",
    "identity": ".3f",
    "distance": ".3f",
}
PLOTTED = ("l2", "ms_ssim", "lpips")


def means(measured: Measured) -> dict[str, list[float]]:
    """Of every figure the average over pictures for every result, as `average` takes it."""
    return {
        name: [average(name, column) for column in measured.values[name].T]
        for name in FIGURES
        if name in measured.values
    }


def rows_of(measured: Measured) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table of one method."""
    figures = means(measured)
    headings = ["iterations", *(TITLES[name] for name in figures)]
    rows = [
        [label, *(format(figures[name][at], FORMATS.get(name, ".3f")) for name in figures)]
        for at, label in enumerate(measured.labels)
    ]
    return headings, rows


def counted(measured: Measured) -> str:
    """How many pictures it stands for."""
    count = len(measured.names)
    return f"{count} picture" + "s" * (count != 1)


def terminal_table(measured: Measured) -> Table:
    """The table of one method for a terminal."""
    headings, rows = rows_of(measured)
    title = f"{measured.method}: {counted(measured)}"
    table = columns_table(title, *headings, right=tuple(headings[1:]))
    for row in rows:
        table.add_row(*row)
    return table


def markdown(all_measured: Sequence[Measured]) -> str:
    """The tables of all methods, in Markdown."""
    lines: list[str] = []
    for measured in all_measured:
        headings, rows = rows_of(measured)
        lines += [f"## {measured.method}", "", f"{counted(measured)}.", ""]
        lines += ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        lines.append("")
        if measured.strangers is not None:
            lines += [strangers_line(measured.strangers), ""]
    return "\n".join(lines)


def strangers_line(similarity: float) -> str:
    """What identity similarities are to be compared with."""
    return f"identity similarity of different inputs: {similarity:.3f}"


def finite(document: Any) -> Any:
    """A document without what JSON does not know: NaN and infinity become None."""
    if isinstance(document, Mapping):
        return {name: finite(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [finite(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document


def document(all_measured: Sequence[Measured]) -> dict[str, Any]:
    """All figures as JSON: means, and every picture's own."""
    methods = [
        {
            "method": measured.method,
            "labels": list(measured.labels),
            "pictures": list(measured.names),
            "mean": means(measured),
            "strangers": measured.strangers,
            "values": {
                name: np.round(values, 6).tolist() for name, values in measured.values.items()
            },
        }
        for measured in all_measured
    ]
    return {"methods": finite(methods)}


def plot(all_measured: Sequence[Measured]) -> bytes:
    """Quality against time as PNG: a panel a figure, a line a method, a point an iteration."""
    from matplotlib.figure import Figure

    shown = [name for name in PLOTTED if all(name in m.values for m in all_measured)]
    figure = Figure(figsize=(4.2 * len(shown), 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for measured in all_measured:
            figures = means(measured)
            axes.plot(figures["seconds"], figures[name], marker="o", label=measured.method)
            points = zip(figures["seconds"], figures[name], strict=True)
            for label, point in zip(measured.labels, points, strict=True):
                axes.annotate(label, point, (4, 4), textcoords="offset points", fontsize=8)
        axes.set(xlabel="seconds a picture", ylabel=TITLES[name])
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()


def sheet(measured: Measured) -> Picture:
    """Rows of input and results, under headings."""
    return headed_sheet(["input", *measured.labels], measured.rows)
