"""What ``hyperstyle-rt invert`` is asked for: its options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..batch.pipeline import JOBS
from ..formats.methods import MAX_ITERATIONS
from ..optimising.names import (
    AUTO,
    BEST,
    EFFORT_LINES,
    FAST,
    MAX_STEPS,
    PRESET_LINES,
    VARIABLE_NAMES,
)
from ..video.names import FOLLOWING, SMOOTHED_OVER
from . import options


@dataclass(frozen=True, kw_only=True)
class Written:
    """What is written, and where."""

    out: options.ResultsOut = Path()
    save_inversion: Annotated[
        bool, options.flag("--save-inversion", says="Also write NAME.safetensors.")
    ] = False
    save_steps: Annotated[
        bool, options.flag("--save-steps", says="Also write every iteration: NAME.step1.png, ...")
    ] = False
    coupled: Annotated[
        bool,
        options.flag(
            "--coupled",
            says="Also write input and iterations, or all methods, side by side: NAME.coupled.png.",
        ),
    ] = False
    export_bundle: Annotated[
        Path | None,
        typer.Option(
            "--export-bundle",
            help="Write the generator as this inversion has tuned it as a bundle of its own, and "
            "NAME.safetensors and NAME.tuned.safetensors, the inversion for either.",
            metavar="DIRECTORY",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Search:
    """How latents and weight offsets are found."""

    bundle: options.Bundle = None
    method: Annotated[
        str | None,
        typer.Option(
            help="A method of the bundle, as `info` lists them, or all of them; or gradient steps, "
            "as --then has them. Default: the bundle's.",
            metavar="NAME|all",
        ),
    ] = None
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
            callback=options.finite,
            help="Stop when the reconstruction moves by less (mean difference; -1 is black, "
            "1 white).",
            metavar="X",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How gradient steps bring it closer."""

    effort: Annotated[
        options.Effort | None,
        typer.Option(
            help=f"fast: {EFFORT_LINES[FAST]}; auto: {EFFORT_LINES[AUTO]}; best: "
            f"{EFFORT_LINES[BEST]}. Default: auto, or fast with --method, --iterations or --until.",
            rich_help_panel=options.DESCENT,
        ),
    ] = None
    then: Annotated[
        str | None,
        typer.Option(
            help="Gradient steps after the method, closer but slower: "
            f"{options.listed(list(PRESET_LINES))}.",
            metavar="METHOD",
            rich_help_panel=options.DESCENT,
        ),
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MAX_STEPS,
            help="At most so many. Default: the method's.",
            metavar="N",
            rich_help_panel=options.DESCENT,
        ),
    ] = None
    variables: Annotated[
        str | None,
        typer.Option(
            help="What `refine` changes, one or several with commas: "
            f"{options.listed(list(VARIABLE_NAMES))}. Default: channel_offsets.",
            metavar="NAMES",
            rich_help_panel=options.DESCENT,
        ),
    ] = None
    mask: Annotated[
        str | None,
        typer.Option(
            help="A picture laid over what is inverted: white counts, black does not; or `face`.",
            metavar="PICTURE",
            rich_help_panel=options.DESCENT,
        ),
    ] = None


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
    unaligned: Annotated[
        bool,
        options.flag(
            "--unaligned",
            says="Also write what was found turned as in the photo: NAME.unaligned.png. For "
            "generators that can move their pictures: StyleGAN3's.",
            panel=options.PHOTOS,
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Films:
    """What is for films."""

    smooth: Annotated[
        float,
        typer.Option(
            min=0,
            max=5,
            help="Seconds over which the face's place is smoothed; 0 for as it is found.",
            metavar="SECONDS",
            rich_help_panel=options.FILMS,
        ),
    ] = SMOOTHED_OVER
    following: Annotated[
        int,
        typer.Option(
            min=1,
            max=MAX_ITERATIONS,
            help="Iterations of a frame, which goes on from the one before it.",
            metavar="N",
            rich_help_panel=options.FILMS,
        ),
    ] = FOLLOWING
    independent: Annotated[
        bool,
        options.flag(
            "--independent",
            says="Invert every frame by itself, from nothing.",
            panel=options.FILMS,
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
class OnCluster:
    """What is for more pictures than one machine inverts."""

    ray: Annotated[
        str | None,
        typer.Option(
            help="Invert on a Ray cluster: `local` for one of this machine alone, `auto` for the "
            "one that it belongs to, or HOST:PORT. Pictures may then be URLs (s3:, gs:, https:, "
            "...), or tables of them (.parquet with the columns name and bytes).",
            metavar="ADDRESS",
            rich_help_panel=options.CLUSTERS,
        ),
    ] = None
    ray_workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Models at once, of --threads each. Default: as many as the cluster has "
            "processors, or GPUs with a backend for these.",
            metavar="N",
            rich_help_panel=options.CLUSTERS,
        ),
    ] = None
    ray_gpus: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="GPUs of each: 0.5 lets two share one. Default: 1 with a backend for GPUs.",
            metavar="X",
            rich_help_panel=options.CLUSTERS,
        ),
    ] = None
    parquet: Annotated[
        Path | None,
        typer.Option(
            help="With --ray: also write latents, codes and figures as Parquet into this directory "
            "or URL, and errors beside them.",
            metavar="DIR",
            show_default=False,
            rich_help_panel=options.CLUSTERS,
        ),
    ] = None
    no_files: Annotated[
        bool,
        options.flag(
            "--no-files",
            says="With --parquet: write nothing but that.",
            panel=options.CLUSTERS,
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class InvertRequest:
    """Everything that `invert` is asked for."""

    pictures: options.Pictures
    written: Written
    search: Search
    descent: Descent
    running: options.Running
    force: options.Force = False
    photos: Photos
    films: Films
    folders: Folders
    cluster: OnCluster
    printing: options.Printing
