"""The command line, ``hyperstyle-rt``.

Help is instant because commands import what they work with when they run, and nothing before.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from . import (
    adapt,
    align,
    bench,
    check,
    doctor,
    edit,
    fetch,
    info,
    interpolate,
    invert,
    invert_options,
    serve,
    triton,
)
from .option_groups import command
from .program import Command, CommandGroup
from .terminal import print_line

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt invert face.png --save-inversion

hyperstyle-rt edit face.safetensors smile=2

hyperstyle-rt interpolate anna.png bert.png --out morph.mp4

hyperstyle-rt adapt face.safetensors --bundle engines/toon

hyperstyle-rt align photo.jpg

hyperstyle-rt info face.safetensors

hyperstyle-rt check --bundle engines/ffhq --candidate cuda

hyperstyle-rt bench --backend cpu,cuda

hyperstyle-rt fetch hf:someone/hyperstyle-ffhq

hyperstyle-rt serve

hyperstyle-rt triton --bundle faces

hyperstyle-rt doctor
"""


app = typer.Typer(
    name="hyperstyle-rt",
    cls=CommandGroup,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXAMPLES,
)
app.command(cls=Command, epilog=invert.EXAMPLES)(
    command(invert_options.InvertRequest, invert.invert)
)
app.command(cls=Command, epilog=edit.EXAMPLES)(command(edit.EditRequest, edit.edit))
app.command(cls=Command, epilog=interpolate.EXAMPLES)(
    command(interpolate.InterpolateRequest, interpolate.interpolate)
)
app.command(cls=Command, epilog=adapt.EXAMPLES)(command(adapt.AdaptRequest, adapt.adapt))
app.command(cls=Command, epilog=align.EXAMPLES)(align.align)
app.command(cls=Command, epilog=info.EXAMPLES)(info.info)
app.command(cls=Command, epilog=check.EXAMPLES)(check.check)
app.command(cls=Command, epilog=bench.EXAMPLES)(bench.bench)
app.command(cls=Command, epilog=fetch.EXAMPLES)(fetch.fetch)
app.command(cls=Command, epilog=serve.EXAMPLES)(command(serve.ServeRequest, serve.serve))
app.command(cls=Command, epilog=triton.EXAMPLES)(command(triton.TritonRequest, triton.triton))
app.command(cls=Command, epilog=doctor.EXAMPLES)(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"hyperstyle-rt {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            metavar="",
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Invert photos of faces, and edit them: HyperStyle and its relatives, without PyTorch.

    Exit status: 0; 1 of `check` where a tensor is out of bounds; 2 after an
    error, or where output was lost; after a signal 128 and its number, so 130
    after Ctrl-C.
    """


def main() -> None:
    """Run the command line: the console script ``hyperstyle-rt``."""
    app(prog_name="hyperstyle-rt")
