"""Options that several commands have, declared once."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

PHOTOS = "Photos"  # panel of the help


class Align(str, Enum):
    """When pictures are searched for faces that are then cut out and aligned."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class RefineSpace(str, Enum):
    """What the gradient steps of a refinement change."""

    CHANNELS = "channels"
    CODES = "codes"


AlignOption = Annotated[
    Align,
    typer.Option(
        help="Find the face and align it as the networks were trained: always, never, or auto: "
        "where the bundle is for faces and the picture is not aligned already.",
        show_choices=False,
        metavar="WHEN",
        rich_help_panel=PHOTOS,
    ),
]
PasteOption = Annotated[
    Path | None,
    typer.Option(
        help="Photo that the face was cut out of: set the result back into it.",
        metavar="PHOTO",
        show_default=False,
        rich_help_panel=PHOTOS,
    ),
]
BundleOption = Annotated[
    str | None,
    typer.Option(
        help="Bundle directory or name. Default: that of the inversion file, or the embedded one.",
        metavar="BUNDLE",
    ),
]
BackendOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda, tensorrt or ort-tensorrt.", metavar="NAME")
]
PrecisionOption = Annotated[
    str, typer.Option(help="fp32, or fp16 for a GPU if the bundle has it.", metavar="NAME")
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads. Default: one per core.", metavar="N")
]
FilmOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="A picture (.png, .jpg, .webp; several are set in rows), a film (.mp4, .gif), or a "
        "folder for the frames.",
        show_default=False,
    ),
]
RateOption = Annotated[
    float, typer.Option(min=0.1, max=240, help="Frames a second of a film.", metavar="N")
]
ForceOption = Annotated[bool, typer.Option("--force", metavar="", help="Replace existing files.")]
JsonOption = Annotated[
    bool, typer.Option("--json", metavar="", help="Print one JSON document instead of lines.")
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", metavar="", help="No progress bar, no lines; errors only.")
]
