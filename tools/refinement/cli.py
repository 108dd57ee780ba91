"""Quality and cost of refinement, on a bundle and aligned pictures.

`quality` inverts and refines pictures and measures every method: table, figures.json, quality.png
(quality against time) and sheet.png. With a checkpoint and LPIPS networks, pivotal tuning in torch
is beside it; LPIPS and identity as in tools/evaluate.py:

    python -m refinement quality set/test --limit 100 --steps 20,60 --out report
    python -m refinement quality set/test --limit 20 --steps 10,20,60,200 --out pti
        --checkpoint h.pt --w-encoder w.pt --backbone alexnet.ckpt --heads alex.pth

`edits` edits inversions before and after refinement: table, edits.json and edits.md with the change
of the attribute that an edit is named for, as a network reads it that learns factors from --train,
and identity similarity. Photos are measured beside the set:

    python -m refinement edits set/test --limit 100 --edits smile=2,yaw=1.5 --steps 60
        --photo astronaut.png --train set/train --recipe tools/directions/recipes/portraits.json
        --identity face_recognition_model-weights_manifest.json --out report

`sheet` draws rows of input, encoder only, iterations, refinements, and edits unrefined and refined:

    python -m refinement sheet portrait.png astronaut.png --edited 60 -o docs/refine.jpg

`cost` measures a step beside the generator and beside eager torch:

    python -m refinement cost examples/portrait_0.png --checkpoint h.pt --w-encoder w.pt
    python -m refinement cost examples/portrait_0.png --synthetic 1024
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from directions.factor_regressor import Renders, read_renders
from directions.find import read_recipes
from directions.judge import Judge, train_judge
from evaluation.cli import find_pictures, open_judges
from evaluation.identity import load_identity
from evaluation.report import finite
from hyperstyle_rt.batch.sources import find_sources
from hyperstyle_rt.cli.outputs import check_writable, refuse_existing
from hyperstyle_rt.cli.terminal import (
    batch_progress,
    columns_table,
    facts_table,
    print_json,
    print_line,
    print_note,
    print_tables,
    progress_bar,
)
from hyperstyle_rt.errors import EditError, HyperStyleError
from hyperstyle_rt.files import make_directory, write_atomically
from hyperstyle_rt.imaging.pictures import read_picture, resize_bilinear, write_picture
from hyperstyle_rt.model import Model
from hyperstyle_rt.optimising.presets import PRESETS
from mistakes import check_picture_place, one_sentence
from picture_sets.folders import FACTORS_FILE
from processes import peak_memory

from refinement import edit_report
from refinement.cost import CLOCKS, beside_torch, step_against_generator
from refinement.edits import EditJudges, Trial, measure_edits, parse_amounts
from refinement.quality import Methods, measure_quality, plot, sheet, summary
from refinement.showcase import Showcase, draw
from refinement.synthetic_bundle import write_synthetic

if TYPE_CHECKING:
    from hyperstyle_export.networks.hyperstyle import HyperStyle as Networks

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)

QUALITY_FILES = ("figures.json", "quality.png", "sheet.png")
EDITS_FILES = ("edits.json", "edits.md")
DEFAULT_EDITS = "smile=2,yaw=1.5"
SEEN_ON = 512  # renders on which the judge of attributes is judged, as directions/measure.py does

CheckpointOption = Annotated[
    Path | None, typer.Option(help="HyperStyle checkpoint of the same model, for torch.")
]
EncoderOption = Annotated[Path | None, typer.Option(help="Its W-encoder checkpoint.")]
BundleOption = Annotated[str | None, typer.Option(help="Directory or name. Default: embedded.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="CPU threads, of torch too.")]
IterationsOption = Annotated[int, typer.Option(min=0, max=100, help="Of the hypernetwork.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Take the first pictures only.")]
EditsOption = Annotated[str, typer.Option(help="Direction=amount, by commas; each by itself.")]
STEPS = PRESETS["refine"].steps

VariableOption = Annotated[str, typer.Option(help="What is refined: channel_offsets or codes.")]
VariablesOption = Annotated[str, typer.Option(help="What the refinements change.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def open_networks(checkpoint: Path | None, w_encoder: Path | None, threads: int) -> Networks | None:
    """The model in torch, if both files are given."""
    if checkpoint is None and w_encoder is None:
        return None
    if checkpoint is None or w_encoder is None:
        raise HyperStyleError("torch needs both files; give --checkpoint and --w-encoder")
    import torch
    from hyperstyle_export.readers.official import load_model

    torch.set_num_threads(threads)
    return load_model(checkpoint, w_encoder)


@app.command()
def quality(
    folder: Annotated[Path, typer.Argument(help="Folder of aligned pictures, or one picture.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for the report; none: table only.")
    ] = None,
    bundle: BundleOption = None,
    iterations: IterationsOption = 5,
    steps: Annotated[str, typer.Option(help="Gradient steps, one refinement each.")] = "20,60,200",
    variables: Annotated[
        str, typer.Option(help="What the refinements change.")
    ] = "channel_offsets,codes",
    tuning_steps: Annotated[int, typer.Option(min=0, help="Of pivotal tuning.")] = 200,
    limit: LimitOption = None,
    rows: Annotated[int, typer.Option(min=1, max=100, help="Pictures on the sheet.")] = 8,
    checkpoint: CheckpointOption = None,
    w_encoder: EncoderOption = None,
    backbone: Annotated[Path | None, typer.Option(help="AlexNet or VGG16, for LPIPS.")] = None,
    heads: Annotated[Path | None, typer.Option(help="LPIPS heads of the same network.")] = None,
    identity: Annotated[Path | None, typer.Option(help="Embedding network of faces.")] = None,
    threads: ThreadsOption = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing report.")] = False,
    json_: JsonOption = False,
) -> None:
    """Measure pictures after the encoder, every iteration, and refinements of several lengths.

    Example: python -m refinement quality set/test --limit 100 --out report
    """
    with one_sentence():
        marks = parse_marks(steps)
        judges = open_judges(backbone, heads, identity)
        model = Model.load(bundle, "cpu", threads=threads)
        networks = open_networks(checkpoint, w_encoder, threads)
        files = [] if out is None else [out / name for name in QUALITY_FILES]
        if out is not None:
            check_writable(out)
        if not force:
            refuse_existing(files)
        size = model.bundle.manifest.image_size
        targets = [
            resize_bilinear(read_picture(p), size) for p in find_pictures(folder, limit, out)
        ]
        methods = Methods(iterations, marks, tuple(variables.split(",")), networks, tuning_steps)
        with batch_progress(json_) as progress:
            task = progress.add_task("measuring", total=len(targets), rate="")
            table, done = measure_quality(
                model, targets, methods, judges, lambda n: progress.update(task, completed=n)
            )
        means = summary(table)
        if out is not None:
            make_directory(out, HyperStyleError)
            found = {"pictures": len(targets), "means": means, "all": table}
            text = json.dumps(finite(found), indent=1)
            write_atomically(files[0], text.encode(), HyperStyleError)
            write_atomically(files[1], plot(means), HyperStyleError)
            write_picture(files[2], sheet(done[:rows], list(means)))
    if json_:
        print_json({"pictures": len(targets), "means": finite(means)})
        return
    names = list(next(iter(means.values())))
    shown = columns_table(f"{len(targets)} pictures", "method", *names, right=tuple(names))
    for label, figures in means.items():
        shown.add_row(label, *(f"{figures[name]:.4g}" for name in names))
    print_tables(shown)


@app.command("edits")
def edits_command(
    folder: Annotated[Path, typer.Argument(help="Folder of aligned pictures, or one picture.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for the report; none: tables only.")
    ] = None,
    bundle: BundleOption = None,
    edits: EditsOption = DEFAULT_EDITS,
    iterations: IterationsOption = 5,
    steps: Annotated[int, typer.Option(min=1, help="Gradient steps.")] = STEPS,
    variable: VariableOption = "channel_offsets",
    photo: Annotated[
        list[Path] | None, typer.Option(help="Aligned picture to list by itself; repeatable.")
    ] = None,
    train_on: Annotated[
        Path | None, typer.Option("--train", help="Folder of renders with a factors.npz.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="Recipe of the directions.")] = None,
    renders: Annotated[int, typer.Option(min=1, help="Renders learnt from.")] = 12_000,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over them.")] = 8,
    identity: Annotated[Path | None, typer.Option(help="Embedding network of faces.")] = None,
    limit: LimitOption = None,
    threads: ThreadsOption = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing report.")] = False,
    json_: JsonOption = False,
) -> None:
    """Edit inversions before and after refinement, and measure what the edits do.

    Example: python -m refinement edits set/test --limit 100 --train set/train
    --recipe tools/directions/recipes/portraits.json --out report
    """
    with one_sentence():
        model = Model.load(bundle, "cpu", threads=threads)
        trial = Trial(iterations, steps, variable, parse_amounts(edits, model))
        files = [] if out is None else [out / name for name in EDITS_FILES]
        if out is not None:
            check_writable(out)
        if not force:
            refuse_existing(files)
        paths, photos = find_pictures(folder, limit, out), photo or []
        if len({path.name for path in photos}) < len(photos):
            raise EditError("two photos have one name; rename one, or give it once")
        size = model.bundle.manifest.image_size
        targets = [resize_bilinear(read_picture(path), size) for path in [*paths, *photos]]
        faces = None if identity is None else load_identity(identity)
        judge = open_judge(train_on, recipe, trial, renders, epochs)
        with watched("editing", len(targets), json_) as on_done:
            readings = measure_edits(model, targets, trial, EditJudges(judge, faces), on_done)
        report = edit_report.report_of(
            model.bundle.manifest.name,
            trial,
            [path.name for path in paths],
            readings[: len(paths)],
            dict(zip([path.name for path in photos], readings[len(paths) :], strict=True)),
            judge,
            seen_on(folder),
        )
        if out is not None:
            make_directory(out, HyperStyleError)
            text = json.dumps(report.document(), indent=1)
            write_atomically(files[0], text.encode(), HyperStyleError)
            write_atomically(files[1], edit_report.markdown(report).encode(), HyperStyleError)
    if json_:
        document = report.document()
        print_json({name: value for name, value in document.items() if name != "table"})
        return
    print_tables(*edit_report.terminal_tables(report))
    for remark in report.remarks():
        print_line(remark)


def open_judge(
    train_on: Path | None, recipe: Path | None, trial: Trial, renders: int, epochs: int
) -> Judge | None:
    """Train a judge of attributes, if renders and a recipe are given."""
    if train_on is None and recipe is None:
        return None
    if train_on is None or recipe is None:
        raise EditError("the judge of attributes needs both; give --train and --recipe")
    recipes = read_recipes(recipe)
    missing = [name for name in trial.edits if name not in recipes]
    if missing:
        raise EditError(f"{recipe} does not describe {missing[0]}; give the bundle's own recipe")
    known = read_renders(train_on, renders)
    return train_judge(
        recipes,
        known,
        [],
        epochs,
        lambda epoch, loss: print_note(f"judge, epoch {epoch + 1} of {epochs}: {loss:.3f}"),
    )


def seen_on(folder: Path) -> Renders | None:
    """Held-out renders to judge the judge on, if the pictures have factors."""
    return read_renders(folder, SEEN_ON) if (folder / FACTORS_FILE).is_file() else None


@app.command("sheet")
def sheet_command(
    pictures: Annotated[list[Path], typer.Argument(help="Aligned pictures, or folders of them.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The sheet: PNG, JPEG or WebP.")],
    bundle: BundleOption = None,
    edits: EditsOption = DEFAULT_EDITS,
    iterations: IterationsOption = 5,
    steps: Annotated[str, typer.Option(help="Gradient steps, one refinement each.")] = "20,60,200",
    variable: VariableOption = "channel_offsets",
    edited: Annotated[int, typer.Option(min=1, help="Steps before the edits.")] = STEPS,
    threads: ThreadsOption = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing sheet.")] = False,
) -> None:
    """Draw input, encoder only, iterations, refinements, and edits unrefined and refined.

    Example: python -m refinement sheet examples -o docs/refine.jpg
    """
    with one_sentence():
        marks = parse_marks(steps)
        model = Model.load(bundle, "cpu", threads=threads)
        showcase = Showcase(Trial(iterations, edited, variable, parse_amounts(edits, model)), marks)
        check_picture_place(out)
        if not force:
            refuse_existing([out])
        found = [read_picture(source.path) for source in find_sources(pictures)]
        with watched("drawing", len(found), quiet=False) as on_done:
            drawn = draw(model, found, showcase, on_done)
        write_picture(out, drawn)


@contextmanager
def watched(what: str, count: int, quiet: bool) -> Iterator[Callable[[], None]]:
    """A progress bar; gives what is to be called after each of `count` pictures."""
    with progress_bar(quiet) as progress:
        task = progress.add_task(what, total=count)
        yield lambda: progress.advance(task)


def parse_marks(text: str) -> tuple[int, ...]:
    """Read "20,60" as ascending numbers."""
    try:
        marks = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        marks = ()
    if not marks or marks[0] < 1:
        raise HyperStyleError(f"--steps must be numbers from 1 up, e.g. 20,60, not {text!r}")
    return marks


@app.command()
def cost(
    picture: Annotated[Path, typer.Argument(help="An aligned picture.")],
    bundle: BundleOption = None,
    synthetic: Annotated[
        int | None, typer.Option(help="Official layout of this size, weights of no meaning.")
    ] = None,
    checkpoint: CheckpointOption = None,
    w_encoder: EncoderOption = None,
    steps: Annotated[int, typer.Option(min=1, help="In a run beside torch.")] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="Medians are over so many.")] = 5,
    clock: Annotated[str, typer.Option(help="wall; cpu on a busy machine.")] = "wall",
    threads: ThreadsOption = 1,
    json_: JsonOption = False,
) -> None:
    """Time a step beside the generator and, with a checkpoint, beside eager torch.

    Example: python -m refinement cost examples/portrait_0.png
    """
    with one_sentence(), tempfile.TemporaryDirectory() as scratch:
        if clock not in CLOCKS:
            raise HyperStyleError(f"there is no clock {clock!r}; choose wall or cpu")
        name = bundle if synthetic is None else str(write_synthetic(synthetic, Path(scratch)))
        model = Model.load(name, "cpu", threads=threads)
        networks = open_networks(checkpoint, w_encoder, threads)
        image = read_picture(picture)
        found: dict[str, Any] = {}
        for variable in ("channel_offsets", "codes"):
            found[variable] = step_against_generator(model, image, variable, repeats, CLOCKS[clock])
        found["peak_bytes"] = peak_memory()
        if networks is not None:
            found["beside_torch"] = beside_torch(
                model, networks, image, steps, repeats, CLOCKS[clock]
            )
    if json_:
        print_json(found)
        return
    facts = {
        f"step on {name}": f"{found[name]['forward_passes']:.2f} forward passes of the generator"
        for name in ("channel_offsets", "codes")
    }
    facts["peak memory"] = f"{found['peak_bytes'] / 2**30:.2f} GiB"
    if networks is not None:
        facts["against torch"] = f"{found['beside_torch']['speed_up']:.2f} x as fast"
    print_tables(facts_table("Refinement", facts))
