"""The command line, ``hyperstyle-rt``.

Help is instant because commands import what they work with when they run, and nothing before.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import HyperStyleError
from . import adapt, align, check, doctor, edit, info, interpolate, invert
from .terminal import EXIT_ERROR, print_error

EXIT_INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt invert face.png --save-inversion

hyperstyle-rt edit face.safetensors smile=2

hyperstyle-rt interpolate anna.png bert.png --out morph.mp4

hyperstyle-rt adapt face.safetensors --bundle engines/toon

hyperstyle-rt align photo.jpg

hyperstyle-rt info face.safetensors

hyperstyle-rt check --bundle engines/faces --candidate cuda

hyperstyle-rt doctor
"""


class _Commands(TyperGroup):
    """Turns the errors a user can make into one line; bugs keep their traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except HyperStyleError as error:
            print_error(str(error))
            raise typer.Exit(EXIT_ERROR) from None
        except KeyboardInterrupt:
            print_error("interrupted")
            raise typer.Exit(EXIT_INTERRUPTED) from None


app = typer.Typer(
    name="hyperstyle-rt",
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXAMPLES,
)
app.command(epilog=invert.EXAMPLES)(invert.invert)
app.command(epilog=edit.EXAMPLES)(edit.edit)
app.command(epilog=interpolate.EXAMPLES)(interpolate.interpolate)
app.command(epilog=adapt.EXAMPLES)(adapt.adapt)
app.command(epilog=align.EXAMPLES)(align.align)
app.command(epilog=info.EXAMPLES)(info.info)
app.command(epilog=check.EXAMPLES)(check.check)
app.command(epilog=doctor.EXAMPLES)(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hyperstyle-rt {__version__}")
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
    """Invert portraits into StyleGAN2 with HyperStyle.

    Exit status: 0, or 2 after an error, or 130 after Ctrl-C.
    """


def main() -> None:
    """Run the command line: the console script ``hyperstyle-rt``."""
    app(prog_name="hyperstyle-rt")
