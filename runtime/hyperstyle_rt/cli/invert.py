"""``hyperstyle-rt invert``: pictures, folders and photos to reconstructions and inversion files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch.streams import is_pipe_out, write_pipe
from ..errors import HyperStyleError
from . import options
from .invert_descent import check_descent, mask_of, total_steps
from .invert_export import check_export, export_bundle, tuned_file
from .invert_film import films_of, invert_films
from .invert_methods import ALL_METHODS, all_settings, tasks_of_methods
from .invert_options import InvertRequest
from .invert_ray import check_cluster, plan_on_ray
from .invert_report import Report
from .outputs import (
    check_report,
    first_files,
    is_directory_for,
    plan_tasks,
    refuse_existing,
    several_to_pipe,
    write_report,
)
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
    from ..batch.pipeline import Failure
    from ..batch.results import Settings
    from ..batch.run import Batch, Finished, Task
    from ..batch.sources import Found
    from ..model import Model
    from ..scale.run import RayBatch

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt invert face.png

hyperstyle-rt invert face.png --out result.jpg --save-inversion

hyperstyle-rt invert photos --out results --resume --report results.json

hyperstyle-rt invert 'photos/**/*.jpg' --out results --coupled --jobs 4

hyperstyle-rt invert party.jpg --bundle faces --face all --paste

hyperstyle-rt invert face.png --iterations 20 --until 0.001 --save-steps

hyperstyle-rt invert face.png --then refine --steps 60 --save-inversion

hyperstyle-rt invert face.png --method pti --steps 200

hyperstyle-rt invert face.png --bundle portraits --method hyperstyle --then pti

hyperstyle-rt invert face.png --method pti --export-bundle engines/face

hyperstyle-rt invert face.png --bundle engines/ffhq --method restyle-e4e

hyperstyle-rt invert face.png --bundle engines/ffhq --method all --coupled

hyperstyle-rt invert face.png --bundle engines/cars --backend cuda --json

hyperstyle-rt invert photos --out results --ray local --resume

hyperstyle-rt invert s3://bucket/photos --ray auto --parquet s3://bucket/inversions --no-files

hyperstyle-rt invert film.mp4 --paste
"""


def invert(request: InvertRequest) -> None:
    """Invert pictures: find the latents and weight offsets that reproduce them.

    Writes NAME.inverted.png, with --method all NAME.METHOD.inverted.png. A
    picture that cannot be inverted does not stop the others: its error is
    printed at the end, and the exit status is 2. Of a film NAME.inverted.mp4,
    with its sound, and the folder NAME.inversions, which `edit` takes.
    """
    check_cluster(request)
    if films := films_of(request.pictures):
        invert_films(request, films)
        return
    from ..batch.keeping import keeping_files
    from ..batch.run import Batch
    from ..batch.sources import find_sources
    from ..model import Model

    if request.cluster.ray is not None:
        _invert_on_ray(request)
        return
    out, folders, printing = request.written.out, request.folders, request.printing
    running = request.running
    found = find_sources(request.pictures)
    model = Model.load(request.search.bundle, running.backend, **running.settings())
    mask = mask_of(request)
    every = all_settings(request, model, mask)
    settings = every[0]
    _check_photos(settings, model)
    for each in every:
        check_descent(each, model)
    if is_pipe_out(out):
        _check_pipe(found, out, request, printing.json_)
    elif folders.resume and not is_directory_for(out, found):
        raise HyperStyleError(f"--resume needs a directory, and --out {out} is a picture")
    with instead_of_pipe(out) as file:
        planned = tasks_of_methods(request, plan_tasks(found, file, settings), every)
        every_task = [task for _, tasks in planned for task in tasks]
        files = [p for s, tasks in planned for t in tasks for p in first_files(t, s)]
        if not request.force and not folders.resume:
            refuse_existing(files)
        if folders.report is not None:
            used = [*(task.picture for task in every_task), *files, tuned_file(every_task[0])]
            check_report(folders.report, folders.resume, request.force, used)
        check_export(request, model, every_task, every)
        results = Report(every_task, found.passed_over, None if file == out else out)
        root = out if folders.resume else None
        batches = [
            Batch(
                model,
                s,
                tasks,
                keeping_files(s, [t.target for t in tasks], root=root, force=request.force),
                mask=mask,
            )
            for s, tasks in planned
        ]
        exported: dict[str, str] = {}
        try:
            _run(batches, every, results, folders.jobs, printing, to_pipe=file != out)
            exported = _export(request, model, results)
        finally:
            if folders.report is not None:
                write_report(folders.report, {**results.to_json(model), **exported})
        for _, done in results.done if file != out else ():
            write_pipe(out, done.outputs.result.read_bytes())
    if printing.json_:
        print_json({**results.to_json(model), **exported})
    _conclude(results, printing)


def _invert_on_ray(request: InvertRequest) -> None:
    """The same on a cluster; pictures are told in the order in which they are done."""
    on_ray = plan_on_ray(request)
    _check_photos(on_ray.settings, on_ray.model)
    results, folders, printing = on_ray.results, request.folders, request.printing

    def document() -> dict[str, Any]:
        results.sort()
        return {**results.to_json(on_ray.model), "provider": on_ray.provider}

    try:
        _run([on_ray.batch], [on_ray.settings], results, folders.jobs, printing, to_pipe=False)
    finally:
        if folders.report is not None:
            write_report(folders.report, document())
    if printing.json_:
        print_json(document())
    _conclude(results, printing)


def _export(request: InvertRequest, model: Model, results: Report) -> dict[str, str]:
    """Export the tuned generator where that is asked for; what the document says of it."""
    directory = request.written.export_bundle
    if directory is None or results.failed:
        return {}
    line = export_bundle(request, model, results.tasks[0])
    if request.printing.shows_lines:
        print_line(line)
    return {"exported_bundle": str(directory)}


def _check_pipe(found: Found, out: Path, request: InvertRequest, json_: bool) -> None:
    from ..photos.portraits import ALL

    refuse_json_to_pipe(out, json_)
    written, photos = request.written, request.photos
    more = written.save_steps or written.coupled or written.save_inversion
    more = more or photos.paste or photos.unaligned
    many = len(found.sources) > 1 or photos.face == ALL or request.search.method == ALL_METHODS
    if more or many or request.folders.resume:
        raise several_to_pipe(out)


def _check_photos(settings: Settings, model: Model) -> None:
    from ..inverting.preparing import looks_for_faces
    from ..photos.portraits import ALL, LARGEST
    from ..rendering import check_moves

    options.check_face(settings.face, LARGEST, ALL)
    manifest = model.bundle.manifest
    if settings.unaligned:
        check_moves(manifest)
    wanted = "--paste" if settings.paste else "--unaligned" if settings.unaligned else None
    if wanted is not None and not looks_for_faces(manifest, settings.align):
        raise HyperStyleError(
            f"{wanted} needs faces that were found and aligned, and with --align {settings.align} "
            f"bundle {manifest.name} looks for none; add --align always"
        )


def _run(
    batches: Sequence[Batch | RayBatch],
    settings: Sequence[Settings],
    results: Report,
    jobs: int,
    printing: options.Printing,
    to_pipe: bool,
) -> None:
    """Work through the batches; a bar counts pictures, or the iterations of a single one."""
    from ..batch.pipeline import what_is_left
    from ..photos.portraits import ALL

    many = len(results.tasks) > len(batches) or settings[0].face == ALL
    quiet = printing.quiet or to_pipe
    with batch_progress(quiet) if many else progress_bar(quiet) as progress:
        total = len(results.tasks) if many else sum(map(total_steps, settings))
        bar = progress.add_task("", total=total, rate="")

        def advance(said: str) -> None:
            progress.update(bar, advance=1, description=said)

        def take(task: Task, outcome: Finished | Failure) -> None:
            lines = results.add(task.picture, outcome)
            for line in lines if printing.shows_lines and not to_pipe else ():
                print_line(line)
            if many:
                progress.update(
                    bar,
                    description=printable(task.picture.name),
                    completed=results.worked_on,
                    total=total - len(results.skipped),  # skipped pictures would raise the rate
                    rate=results.rate,
                )

        # Only where a bar is shown: without a callback a backend may replay a recording, which is
        # faster.
        watch = None if many or progress.disable else advance
        for batch in batches:
            outcomes = batch.run(jobs, watch)
            try:
                for task, outcome in outcomes:
                    take(task, outcome)
            except BaseException as stopped:  # Ctrl-C may come while a line is printed
                for task, outcome in what_is_left(outcomes, stopped):
                    results.add(task.picture, outcome)
                raise


def _conclude(results: Report, printing: options.Printing) -> None:
    """Print the summary of all pictures; exits with the status."""
    if not printing.quiet:
        for notice in results.notices:
            print_note(notice)
        print_passed_over(results.passed_over)
    if len(results.tasks) > 1 and printing.shows_lines:
        print_line(results.summary())
    exit_with_errors(dict.fromkeys(text for _, text in results.failed))
