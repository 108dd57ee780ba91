"""``hyperstyle-rt invert``: pictures, folders and photos to reconstructions and inversion files."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..batch.pipeline import JOBS
from ..batch.streams import is_pipe_out, write_pipe
from ..errors import HyperStyleError
from ..formats.manifest import BASE_PRECISION
from ..formats.methods import MAX_ITERATIONS
from . import options
from .invert_report import Report
from .outputs import check_report, first_files, is_directory_for, plan_tasks, refuse_existing
from .pipes import instead_of_pipe, refuse_json_to_pipe
from .terminal import (
    batch_progress,
    exit_with_errors,
    print_json,
    print_line,
    print_note,
    print_passed_over,
    printable,
    progress_bar,
)

if TYPE_CHECKING:
    from ..batch.results import Settings
    from ..batch.run import Batch
    from ..batch.sources import Found
    from ..model import Model

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt invert face.png

hyperstyle-rt invert face.png --out result.jpg --save-inversion

hyperstyle-rt invert photos --out results --resume --report results.json

hyperstyle-rt invert 'photos/**/*.jpg' --out results --coupled --jobs 4

hyperstyle-rt invert party.jpg --bundle engines/faces --face all --paste

hyperstyle-rt invert face.png --iterations 20 --until 0.001 --steps

hyperstyle-rt invert face.png --refine 60 --save-inversion

hyperstyle-rt invert face.png --method hyperstyle

hyperstyle-rt invert face.png --bundle engines/cars --backend cuda --json
"""


class RefineVariable(str, Enum):
    """What the gradient steps of a refinement change."""

    CHANNEL_OFFSETS = "channel_offsets"
    CODES = "codes"


def invert(
    pictures: options.Pictures,
    out: options.ResultsOut = Path(),
    save_inversion: Annotated[
        bool, options.flag("--save-inversion", says="Also write NAME.safetensors.")
    ] = False,
    steps: Annotated[
        bool, options.flag("--steps", says="Also write every iteration: NAME.step1.png, ...")
    ] = False,
    coupled: Annotated[
        bool,
        options.flag(
            "--coupled", says="Also write input and iterations side by side: NAME.coupled.png."
        ),
    ] = False,
    bundle: options.Bundle = None,
    method: options.Method = None,
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
    ] = None,
    until: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Stop when the reconstruction moves by less (mean difference; -1 is black, "
            "1 white).",
            metavar="X",
        ),
    ] = None,
    refine: Annotated[
        int,
        typer.Option(
            min=0,
            help="Gradient steps on the weight offsets afterwards: closer, but slower.",
            metavar="N",
        ),
    ] = 0,
    refine_variable: Annotated[
        RefineVariable,
        typer.Option(
            help="What they change: channel offsets, or the codes, which change less.",
        ),
    ] = RefineVariable.CHANNEL_OFFSETS,
    backend: options.Backend = "auto",
    precision: options.Precision = BASE_PRECISION,
    threads: options.Threads = None,
    force: options.Force = False,
    align: options.Align = options.When.AUTO,
    face: options.Face = "largest",
    paste: Annotated[
        bool,
        options.flag(
            "--paste",
            says="Also write the photo with what was found set back in: NAME.pasted.png.",
            panel=options.PHOTOS,
        ),
    ] = False,
    resume: options.Resume = False,
    jobs: Annotated[
        int,
        typer.Option(
            min=1,
            help="Threads that read and write pictures beside the inference.",
            metavar="N",
            rich_help_panel=options.FOLDERS,
        ),
    ] = JOBS,
    report: options.ReportTo = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Invert pictures: find the latents and weight offsets that reproduce them.

    Writes NAME.inverted.png. A picture that cannot be inverted does not stop the
    others: its error is printed at the end, and the exit status is 2.
    """
    from ..batch.results import Settings
    from ..batch.run import Batch
    from ..batch.sources import find_sources
    from ..inverting.inverter import count_iterations
    from ..model import Model

    found = find_sources(pictures)
    model = Model.load(bundle, backend, threads=threads, precision=precision)
    settings = Settings(
        bundle=model.bundle.digest,
        method=method or model.bundle.manifest.default_method or "",
        precision=precision,
        iterations=count_iterations(model.bundle.manifest, method, iterations, until),
        until=until,
        align=align.value,
        face=face,
        steps=steps,
        coupled=coupled,
        inversion=save_inversion,
        paste=paste,
        refine=refine,
        refine_variable=refine_variable.value,
    )
    _check_photos(settings, model)
    if is_pipe_out(out):
        _check_pipe(found, out, settings, resume, json_)
    elif resume and not is_directory_for(out, found):
        raise HyperStyleError(f"--resume needs a directory, and --out {out} is a picture")
    with instead_of_pipe(out) as file:
        tasks = plan_tasks(found, file, settings)
        if not force and not resume:
            refuse_existing([path for task in tasks for path in first_files(task, settings)])
        if report is not None:
            check_report(report, resume, force)
        results = Report(tasks, found.passed_over, None if file == out else out)
        batch = Batch(model, settings, tasks, root=out if resume else None, force=force)
        try:
            _run(batch, settings, results, jobs, quiet or file != out, json_)
        finally:
            if report is not None:
                results.write(report, model)
        for _, done in results.done if file != out else ():
            write_pipe(out, done.outputs.result.read_bytes())
    if json_:
        print_json(results.to_json(model))
    _conclude(results, quiet, json_)


def _check_pipe(found: Found, out: Path, settings: Settings, resume: bool, json_: bool) -> None:
    from ..photos.portraits import ALL

    refuse_json_to_pipe(out, json_)
    more = settings.steps or settings.coupled or settings.inversion or settings.paste or resume
    if more or len(found.sources) > 1 or settings.face == ALL:
        raise HyperStyleError(
            f"--out {out} takes the one result of one picture; give a directory for more files"
        )


def _check_photos(settings: Settings, model: Model) -> None:
    from ..inverting.preparing import looks_for_faces
    from ..photos.portraits import ALL, LARGEST

    if settings.face not in (LARGEST, ALL) and not settings.face.isdecimal():
        raise HyperStyleError(
            f"--face must be {LARGEST}, {ALL} or a number from 0, not {settings.face!r}"
        )
    manifest = model.bundle.manifest
    if settings.paste and not looks_for_faces(manifest, settings.align):
        raise HyperStyleError(
            f"--paste needs faces that were found and aligned, and with --align {settings.align} "
            f"bundle {manifest.name} looks for none; add --align always"
        )


def _run(
    batch: Batch, settings: Settings, results: Report, jobs: int, quiet: bool, json_: bool
) -> None:
    """Work through the batch; a bar counts pictures, or the iterations of a single one."""
    from ..photos.portraits import ALL

    many = len(results.tasks) > 1 or settings.face == ALL
    with batch_progress(quiet) if many else progress_bar(quiet) as progress:
        total = len(results.tasks) if many else settings.iterations + settings.refine
        bar = progress.add_task("", total=total, rate="")

        def advance(said: str) -> None:
            progress.update(bar, advance=1, description=said)

        # Only where a bar is shown: without a callback a backend may replay a recording, which is
        # faster.
        watch = None if many or progress.disable else advance
        for task, outcome in batch.run(jobs, watch):
            lines = results.add(task.picture, outcome)
            for line in [] if quiet or json_ else lines:
                print_line(line)
            if many:
                progress.update(
                    bar,
                    description=printable(task.picture.name),
                    completed=results.worked_on,
                    total=total - len(results.skipped),  # skipped pictures would raise the rate
                    rate=results.rate,
                )


def _conclude(results: Report, quiet: bool, json_: bool) -> None:
    """Print the summary of all pictures; exits with the status."""
    if not quiet:
        for notice in results.notices:
            print_note(notice)
        print_passed_over(results.passed_over)
    if len(results.tasks) > 1 and not quiet and not json_:
        print_line(results.summary())
    exit_with_errors(results.failed.values())
