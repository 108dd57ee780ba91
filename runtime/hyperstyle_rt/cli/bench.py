"""``hyperstyle-rt bench``: how long a bundle takes on the backends of this machine."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import HyperStyleError
from . import options
from .terminal import Table, cell, columns_table, error_console, print_json, print_tables

if TYPE_CHECKING:
    from rich.text import Text

    from ..checking.timing import Timing, Timings

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt bench

hyperstyle-rt bench --backend all

hyperstyle-rt bench --backend cpu,cuda,cuda-fp16 --bundle engines/ffhq

hyperstyle-rt bench --threads 1 --rounds 10 --json
"""

ALL = "all"
COSTS = ("GMAC", "MB", "MAC/B", "GMAC/s")  # columns of a graph's costs


def bench(
    bundle: options.Bundle = None,
    backends: Annotated[
        str,
        typer.Option(
            "--backend",
            help=f"One or several with commas, of {options.BACKENDS_LISTED}; with -fp16 for "
            "fp16 graphs, openvino-bf16 for bfloat16; all for those that this machine has.",
            metavar="NAME,...",
        ),
    ] = "cpu",
    method: options.Method = None,
    rounds: Annotated[
        int, typer.Option("--rounds", "-n", min=1, help="Rounds after the first.", metavar="N")
    ] = 5,
    edits: Annotated[
        int, typer.Option(min=1, help="Pictures of one face that are rendered.", metavar="N")
    ] = 8,
    threads: options.Threads = None,
    device: options.Device = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Time a bundle: an inversion, edits, a refinement step, and every graph.

    Backends take turns. The first time, which opens the graphs, is told apart
    from the median of the others. Run it on an idle machine, and compare only
    what one run has measured.
    """
    from ..backends.processors import useful_threads
    from ..checking.comparison import contenders_at_hand, open_contender, sample_picture
    from ..checking.peak import product_rate
    from ..checking.timing import peak_memory, time_contenders
    from ..formats.bundle import Bundle
    from ..formats.bundle_lookup import find_bundle

    opened = Bundle.open(find_bundle(bundle))
    names = contenders_at_hand(opened) if backends == ALL else _names(backends)
    opened.manifest.method(method)
    openers = {name: partial(open_contender, name, opened, threads, device) for name in names}
    console = error_console()
    console.quiet = quiet
    with console.status("making a picture") as status:
        picture = sample_picture(opened, 0)
        timings = time_contenders(openers, opened, picture, rounds, edits, status.update, method)
        on_cpu = any(timing.on_cpu for timing in timings)
        rate = product_rate(threads) if on_cpu else None
    # The peak is of the whole process: of several backends nobody could tell whose it is.
    peak = peak_memory() if len(names) == 1 else None
    if json_:
        print_json(
            {
                "bundle": opened.manifest.name,
                "resolution": opened.manifest.resolution,
                "method": method or opened.manifest.default_method,
                "rounds": rounds,
                "threads": useful_threads(threads),
                "processors": os.cpu_count(),
                "peak_memory": peak,
                "matrix_product_macs_per_second": rate,
                "results": [timing.to_json() for timing in timings],
            }
        )
    elif not quiet:
        print_tables(*(timings_table(timing, peak, rate) for timing in timings))


def timings_table(timings: Timings, peak: int | None, rate: float | None = None) -> Table:
    """Make the table of one contender.

    Parameters
    ----------
    peak:
        Bytes; None if unknown.
    rate:
        Multiply-accumulates a second of the processor's float32 matrix product; None without one.
    """
    computed = timings.computed
    title = f"{timings.contender}: {computed['provider']}, {computed['precision']}"
    rate = rate if timings.on_cpu else None
    columns: tuple[str, ...] = ("first", "median", "runs")
    if timings.macs:
        columns += (*COSTS, "of peak") if rate else COSTS
    table = columns_table(title, "", *columns, right=columns)

    def add(name: str | Text, *cells: str) -> None:
        table.add_row(name, *cells, *[""] * (len(columns) - len(cells)))

    for name, timing in timings.tasks.items():
        add(name, *_cells(timing))
    for role, timing in timings.graphs.items():
        add(cell(f"graph {role}", "cyan"), *_cells(timing), *_cost_cells(timings, role, rate))
    if timings.macs and rate:
        add("peak: product of matrices", *[""] * 6, f"{rate / 1e9:.1f}", "100%")
    if peak is not None:
        add("peak memory", f"{peak / 1e6:.0f} MB")
    return table


def _cost_cells(timings: Timings, role: str, rate: float | None) -> list[str]:
    """Work of a run, bytes it moves, how much work a second, and its share of the peak."""
    found = timings.rate(role)
    if found is None:
        return []
    share = [f"{found / rate:.0%}"] if rate else []
    moved, intensity = timings.bytes_moved.get(role), timings.intensity(role)
    size = "" if moved is None else f"{moved / 1e6:.1f}"
    per_byte = "" if intensity is None else f"{intensity:.1f}"
    return [f"{timings.macs[role] / 1e9:.2f}", size, per_byte, f"{found / 1e9:.1f}", *share]


def _names(listed: str) -> list[str]:
    """The contenders of a list with commas, each once."""
    names = list(dict.fromkeys(name for name in map(str.strip, listed.split(",")) if name))
    if not names:
        raise HyperStyleError("no backend is named; give one or several, as --backend cpu,cuda")
    return names


def _cells(timing: Timing) -> tuple[str, str, str]:
    median = timing.median
    shown = "" if median is None else _seconds(median)
    return _seconds(timing.first), shown, str(len(timing.warm) + 1)


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"
