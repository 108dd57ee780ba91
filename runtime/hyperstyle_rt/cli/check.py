"""``hyperstyle-rt check``: whether two ways of computing a bundle agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..batch.streams import read_picture_source
from ..formats.methods import MAX_ITERATIONS
from . import options
from .terminal import (
    Table,
    cell,
    columns_table,
    error_console,
    print_error,
    print_json,
    print_tables,
)

if TYPE_CHECKING:
    from ..checking.comparison import Contender
    from ..checking.differences import Comparison
    from ..formats.bundle import Bundle

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt check --candidate cuda

hyperstyle-rt check face.png --bundle engines/ffhq --candidate tensorrt-fp16

hyperstyle-rt check --bundle engines/ffhq --candidate cpu-fp16 --json
"""

EXIT_DIFFERENT = 1
SAMPLES = 2  # pictures the bundle makes itself when none is given


PicturesArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Aligned pictures. Default: some that the bundle makes itself.",
        metavar="PICTURE...",
        show_default=False,
    ),
]
IterationsOption = Annotated[
    int | None,
    typer.Option(
        "--iterations",
        "-n",
        min=1,
        max=MAX_ITERATIONS,
        help="Of the whole inversions. Default: the method's.",
        metavar="N",
    ),
]


def check(
    candidate: Annotated[
        str,
        typer.Option(
            help=f"{options.BACKENDS_LISTED}; with -fp16 for its fp16 graphs, openvino-bf16 for "
            "bfloat16.",
            metavar="NAME",
        ),
    ],
    pictures: PicturesArgument = None,
    bundle: options.Bundle = None,
    reference: Annotated[
        str, typer.Option(help="What it is compared with.", metavar="NAME")
    ] = "cpu",
    method: options.Method = None,
    iterations: IterationsOption = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Compare two backends on a bundle, graph by graph and over whole inversions.

    On a CPU fp16 graphs are computed in float32: cpu-fp16 shows that they are
    right, not how a GPU rounds. --device is the candidate's. The exit status is 1
    if a tensor is out of bounds.
    """
    from ..checking.comparison import open_contender

    request = CheckRequest(reference, candidate, pictures or [], method, iterations)
    open_candidate = partial(open_contender, device=device)
    compare_and_show(open_contender, bundle, request, json_, open_candidate)


@dataclass(frozen=True)
class CheckRequest:
    """What is to be compared; None is the bundle's or the method's default."""

    reference: str
    candidate: str
    pictures: Sequence[Path]
    method: str | None
    iterations: int | None


def compare_and_show(
    open_one: Callable[[str, Bundle], Contender],
    bundle: str | None,
    request: CheckRequest,
    json_: bool,
    open_candidate: Callable[[str, Bundle], Contender] | None = None,
) -> None:
    """Do what `check` is asked for, with contenders that are opened by name.

    Parameters
    ----------
    open_candidate:
        Opens the candidate, which may be the reference on another device; None for `open_one`.
    """
    from ..checking.comparison import compare, sample_picture
    from ..formats.bundle import Bundle
    from ..formats.bundle_lookup import find_bundle
    from ..imaging.pictures import decode_picture

    opened = Bundle.open(find_bundle(bundle))
    opened.manifest.method(request.method)  # refused before anything is opened
    with error_console().status("opening the graphs") as status:
        expected = open_one(request.reference, opened)
        actual = (open_candidate or open_one)(request.candidate, opened)
        given = [decode_picture(read_picture_source(path), path) for path in request.pictures]
        comparison = compare(
            expected,
            actual,
            opened,
            given or [sample_picture(opened, seed) for seed in range(SAMPLES)],
            request.iterations,
            status.update,
            method=request.method,
        )
    show(comparison, json_)


def show(comparison: Comparison, json_: bool) -> None:
    """Print a comparison; exit with 1, naming the worst tensor, if one is out of bounds."""
    if json_:
        print_json(comparison.to_json())
    else:
        print_tables(comparison_table(comparison))
    outside = comparison.outside()
    if outside:
        first = outside[0]
        print_error(
            f"{len(outside)} of {len(comparison.differences)} tensors of {comparison.candidate} "
            f"differ too much from {comparison.reference}, the most {first.tensor} "
            f"({first.stage}, picture {first.picture}: {first.relative:.2g} of its largest value)"
        )
        raise typer.Exit(EXIT_DIFFERENT)


def comparison_table(comparison: Comparison) -> Table:
    """Make a table with the worst picture of every tensor."""
    columns = ("max abs", "mean abs", "relative", "PSNR", "cosine")
    title = f"{comparison.candidate} against {comparison.reference}"
    table = columns_table(title, "stage", "tensor", *columns, "", right=columns)
    for difference in comparison.worst():
        state = cell("ok", "green") if difference.within else cell("differs", "bold red")
        table.add_row(
            difference.stage,
            cell(difference.tensor, "cyan"),
            f"{difference.max_abs:.2e}",
            f"{difference.mean_abs:.2e}",
            f"{difference.relative:.2e}",
            f"{difference.psnr:.1f} dB",
            f"{difference.cosine:.7f}",
            state,
        )
    return table
