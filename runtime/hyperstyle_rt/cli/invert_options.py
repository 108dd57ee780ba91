"""What ``hyperstyle-rt invert`` is asked for: its options."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ..batch.pipeline import JOBS
from ..formats.methods import MAX_ITERATIONS
from . import options


class RefineVariable(str, Enum):
    """What the gradient steps of a refinement change."""

    CHANNEL_OFFSETS = "channel_offsets"
    CODES = "codes"


@dataclass(frozen=True, kw_only=True)
class Written:
    """What is written, and where."""

    out: options.ResultsOut = Path()
    save_inversion: Annotated[
        bool, options.flag("--save-inversion", says="Also write NAME.safetensors.")
    ] = False
    steps: Annotated[
        bool, options.flag("--steps", says="Also write every iteration: NAME.step1.png, ...")
    ] = False
    coupled: Annotated[
        bool,
        options.flag(
            "--coupled", says="Also write input and iterations side by side: NAME.coupled.png."
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Search:
    """How latents and weight offsets are found."""

    bundle: options.Bundle = None
    method: options.Method = None
    iterations: Annotated[
        int | None,
        typer.Option(
            "--iterations",
            "-n",
            min=0,
            max=MAX_ITERATIONS,
            help="Upper bound. Default: the method's.",
            metavar="N",
        ),
    ] = None
    until: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Stop when the reconstruction moves by less (mean difference; -1 is black, "
            "1 white).",
            metavar="X",
        ),
    ] = None
    refine: Annotated[
        int,
        typer.Option(
            min=0,
            help="Gradient steps on the weight offsets afterwards: closer, but slower.",
            metavar="N",
        ),
    ] = 0
    refine_variable: Annotated[
        RefineVariable,
        typer.Option(
            help="What they change: channel offsets, or the codes, which change less.",
        ),
    ] = RefineVariable.CHANNEL_OFFSETS


@dataclass(frozen=True, kw_only=True)
class Photos:
    """What is done with photos that are not aligned."""

    align: options.Align = options.When.AUTO
    face: options.Face = "largest"
    paste: Annotated[
        bool,
        options.flag(
            "--paste",
            says="Also write the photo with what was found set back in: NAME.pasted.png.",
            panel=options.PHOTOS,
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Folders:
    """What is for many pictures."""

    resume: options.Resume = False
    jobs: Annotated[
        int,
        typer.Option(
            min=1,
            help="Threads that read and write pictures beside the inference.",
            metavar="N",
            rich_help_panel=options.FOLDERS,
        ),
    ] = JOBS
    report: options.ReportTo = None


@dataclass(frozen=True, kw_only=True)
class InvertRequest:
    """Everything that `invert` is asked for."""

    pictures: options.Pictures
    written: Written
    search: Search
    running: options.Running
    force: options.Force = False
    photos: Photos
    folders: Folders
    printing: options.Printing
