"""Options and arguments that several commands have, declared once: ``options.Bundle`` and so on.

The dataclasses at the end are groups of them; :mod:`.option_groups` makes commands of such.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..backends.registry import BACKEND_NAMES, BACKENDS, PRECISIONS
from ..errors import HyperStyleError
from ..formats.precisions import BASE_PRECISION
from ..optimising.names import AUTO, BEST, FAST

# Panels of the help.
PHOTOS = "Photos"
FOLDERS = "Folders"
FILMS = "Films"
DESCENT = "Gradient steps"
CLUSTERS = "Clusters"


class When(str, Enum):
    """When pictures are searched for faces that are then cut out and aligned."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Effort(str, Enum):
    """How much is done for a picture, as `optimising.names.EFFORT_LINES` says."""

    FAST = FAST
    AUTO = AUTO
    BEST = BEST


def listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them: ``a, b or c``."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def flag(*names: str, says: str, panel: str | None = None) -> Any:
    """Declare a switch that is off unless named; its help shows no value and no opposite."""
    return typer.Option(*names, help=says, metavar="", rich_help_panel=panel)


def finite(value: float | None) -> float | None:
    """Refuse infinity, which is above every `min`; the callback of an option."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


def check_face(face: str, *words: str) -> None:
    """Refuse a ``--face`` that is neither a number nor one of the words, before any work.

    Raises
    ------
    HyperStyleError
        If so.
    """
    if face not in words and not (face.isascii() and face.isdecimal()):
        raise HyperStyleError(f"--face must be {listed([*words, 'a number from 0'])}, not {face!r}")


# What is read is not tried by typer (readable): one picture of many would end the command.
Pictures = Annotated[
    list[Path],
    typer.Argument(
        metavar="PICTURE",
        help="Pictures, folders of pictures, quoted patterns, or - for standard input.",
        readable=False,
        show_default=False,
    ),
]
Subject = Annotated[
    Path,
    typer.Argument(
        metavar="INVERSION|PICTURE",
        help="An inversion file (.safetensors), or a picture.",
        readable=False,
        show_default=False,
    ),
]
ResultsOut = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        help="Directory for the results; pictures found in a folder keep their place below it. "
        "For one picture also the name of its result, .png, .jpg or .webp, or - for "
        "standard output.",
    ),
]
FilmOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="A picture (.png, .jpg, .webp; several are set in rows), a film (.mp4, .webm, .webp, "
        ".gif), a folder for the frames, or - for a picture to standard output.",
        show_default=False,
    ),
]
Rate = Annotated[
    float, typer.Option(min=0.1, max=240, help="Frames a second of a film.", metavar="N")
]
Bundle = Annotated[
    str | None,
    typer.Option(help="Bundle directory or name. Default: the embedded one.", metavar="BUNDLE"),
]
SubjectBundle = Annotated[
    str | None,
    typer.Option(
        help="Bundle directory or name. Default: that of the inversion file, or the embedded one.",
        metavar="BUNDLE",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        help="How pictures are inverted: a method of the bundle, as `info` lists them. Default: "
        "the bundle's.",
        metavar="NAME",
    ),
]
BACKENDS_LISTED = listed([entry.name for entry in BACKENDS])
DEVICE_BACKENDS = [entry.name for entry in BACKENDS if entry.chooses_device]
Backend = Annotated[
    str, typer.Option(help=f"{listed(BACKEND_NAMES)}.", show_choices=False, metavar="NAME")
]
Precision = Annotated[
    str,
    typer.Option(
        help=f"{listed(PRECISIONS)}: fp16 for a GPU, if the bundle has it; bf16 for OpenVINO, if "
        "the CPU has it.",
        metavar="NAME",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads at most. Default: as many as the processors this process may use.",
        metavar="N",
    ),
]
Device = Annotated[
    int | None,
    typer.Option(
        min=0,
        help=f"Which of several, for {listed(DEVICE_BACKENDS)}. Default: the first, 0.",
        metavar="N",
    ),
]
Force = Annotated[bool, flag("--force", says="Replace existing files.")]
Align = Annotated[
    When,
    typer.Option(
        help="Find the face and align it as the networks were trained: always, never, or auto: "
        "where the bundle is for faces and the picture is not aligned already.",
        show_choices=False,
        metavar="WHEN",
        rich_help_panel=PHOTOS,
    ),
]
Face = Annotated[
    str,
    typer.Option(
        help="Of several faces: largest, all (results NAME.face1, NAME.face2, ...) or a number "
        "from 0, the largest.",
        metavar="WHICH",
        rich_help_panel=PHOTOS,
    ),
]
PasteInto = Annotated[
    Path | None,
    typer.Option(
        "--paste",
        help="Photo that the face was cut out of: set the result back into it.",
        metavar="PHOTO",
        readable=False,
        show_default=False,
        rich_help_panel=PHOTOS,
    ),
]
Resume = Annotated[
    bool,
    flag(
        "--resume",
        says="Skip pictures that have a result of this content and these settings; replace "
        "results of others.",
        panel=FOLDERS,
    ),
]
ReportTo = Annotated[
    Path | None,
    typer.Option(
        "--report",
        help="Also write what --json prints into a file, after an interruption, too.",
        metavar="FILE",
        show_default=False,
        rich_help_panel=FOLDERS,
    ),
]
Json = Annotated[bool, flag("--json", says="Print one JSON document instead of text.")]
Quiet = Annotated[bool, flag("--quiet", "-q", says="No progress bar, no lines; errors only.")]


@dataclass(frozen=True, kw_only=True)
class Running:
    """What the graphs run on."""

    backend: Backend = "auto"
    precision: Precision = BASE_PRECISION
    threads: Threads = None
    device: Device = None

    def settings(self) -> dict[str, Any]:
        """How a backend is opened, by the names that `Model.load` gives its parameters."""
        return {"threads": self.threads, "precision": self.precision, "device": self.device}


@dataclass(frozen=True, kw_only=True)
class Printing:
    """What is printed."""

    json_: Json = False
    quiet: Quiet = False

    @property
    def shows_lines(self) -> bool:
        """Whether people read along: neither silence nor JSON is asked for."""
        return not (self.quiet or self.json_)
