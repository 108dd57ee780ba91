"""The command `tools/compare.py`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from evaluation.identity import strangers
from evaluation.metrics import SSIM_SIDE
from hyperstyle_rt import __version__
from hyperstyle_rt.cli.terminal import (
    exit_with_errors,
    print_json,
    print_line,
    print_note,
    print_tables,
    progress_bar,
)
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import reason, write_atomically
from hyperstyle_rt.formats.precisions import BASE_PRECISION
from hyperstyle_rt.imaging.pictures import read_picture, to_input, write_picture
from hyperstyle_rt.model import Model
from mistakes import one_sentence

from . import report
from .edit_run import EDITS_FILES, edits_asked, run_edits
from .errors import ComparisonError
from .judging import Panel, open_panel
from .pictures import HELD_OUT_SEED, Sample, draw_renders, find_files, prepare
from .processes import Engine
from .results import Comparison, gather
from .rows import ALL, Row, limited, parse_rows, scaled
from .run import Outcome, run_all, samples_of
from .store import CROPS, SETTINGS, Store

EXAMPLES = """
[bold]Examples[/bold]

python tools/compare.py photos --bundle engines/ffhq --out report

python tools/compare.py --renders 100 --methods hyperstyle@0,hyperstyle,hyperstyle+refine,pti
--limit pti=10 --out report

python tools/compare.py photos --methods all --steps-scale 0.1 --steps pti=200 --out report

python tools/compare.py photos --bundle engines/ffhq --out report --resume
--backbone alexnet.ckpt --heads alex.pth --identity model_ir_se50.pth

python tools/compare.py photos --bundle engines/ffhq --out report --resume --edits pose,smile
--judge pose=hopenet.onnx,input=imagenet --identity model_ir_se50.pth
"""

FOLDERS = (CROPS, "renders", "renderings", "inversions", "edits")
STORED = ("inversions.jsonl", "figures.jsonl", "processes.log")
TABLE, FIGURES, PLOT, SHEET = "table.md", "figures.json", "quality.png", "sheet.jpg"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.command(epilog=EXAMPLES)
def main(
    pictures: Annotated[
        list[Path] | None, typer.Argument(help="Pictures, or folders of them.")
    ] = None,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for the report and all results.")
    ] = Path("comparison"),
    bundle: Annotated[
        str | None, typer.Option(help="Directory or name. Default: embedded.")
    ] = None,
    methods: Annotated[
        str,
        typer.Option(help="By commas: METHOD, METHOD@ITERATIONS, PRESET, METHOD+PRESET; or all."),
    ] = ALL,
    renders: Annotated[
        int | None,
        typer.Option(min=1, help="Instead of pictures: so many new ones of the bundle's kind."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the renders.")] = HELD_OUT_SEED,
    steps: Annotated[
        list[str] | None, typer.Option(help="METHOD=N, repeatable: other than published.")
    ] = None,
    steps_scale: Annotated[
        float, typer.Option(min=0.0, max=100.0, help="Times the published numbers of steps.")
    ] = 1.0,
    limit: Annotated[
        list[str] | None,
        typer.Option(help="N, or METHOD=N, repeatable: take the first pictures only."),
    ] = None,
    align: Annotated[str, typer.Option(help="As `hyperstyle-rt invert --align`.")] = "auto",
    backbone: Annotated[Path | None, typer.Option(help="AlexNet or VGG16, for LPIPS.")] = None,
    heads: Annotated[Path | None, typer.Option(help="LPIPS heads of the same network.")] = None,
    identity: Annotated[Path | None, typer.Option(help="Embedding network of faces.")] = None,
    edits: Annotated[
        str | None,
        typer.Option(help="Directions by commas: what they do after each method.", metavar="NAMES"),
    ] = None,
    edit_steps: Annotated[
        str, typer.Option(help="Steps along each direction, the same for all methods.")
    ] = "-3:3:7",
    judge: Annotated[
        list[str] | None,
        typer.Option(
            help="DIRECTION=FILE.onnx[,input=imagenet][,output=NAME][,column=N]: a network that "
            "reads the direction's attribute, or the folder `model` of face-api; repeatable.",
            metavar="DIRECTION=FILE",
        ),
    ] = None,
    train_on: Annotated[
        Path | None,
        typer.Option("--train", help="Renders with factors.npz, from which a judge is learnt."),
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="What the directions mean there.")] = None,
    learn_from: Annotated[int, typer.Option(min=1, help="At most so many renders.")] = 12_000,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over them.")] = 8,
    rows: Annotated[int, typer.Option(min=1, max=100, help="Pictures on the sheet.")] = 8,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of an inversion.")] = 1,
    backend: Annotated[str, typer.Option(help="As `hyperstyle-rt invert --backend`.")] = "cpu",
    precision: Annotated[
        str, typer.Option(help="As `hyperstyle-rt invert --precision`.")
    ] = BASE_PRECISION,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what is in --out.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Begin anew: remove the comparison in --out.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Run every method of a bundle over the same pictures, and measure them side by side.

    Writes table.md, figures.json, quality.png (quality against time) and sheet.jpg, with --edits
    also edits.md, edits.json and edits.png (identity against the size of an edit), and beside
    them every rendering and inversion. A run that was ended, even by kill -9, is gone on with by
    --resume. Pictures and files of weights that cannot be used are named at the end and stop
    nothing; the exit status is 2 then.
    """
    with one_sentence():
        model = Model.load(bundle, backend, threads=threads, precision=precision)
        most, limits = parse_limits(limit or [])
        named, left_out = parse_rows(methods, model)
        chosen = limited(scaled(named, steps_scale, parse_numbers(steps or [], "--steps")), limits)
        panel = open_panel(backbone, heads, identity)
        asked = edits_asked(model, edits, edit_steps, judge or [], (train_on, recipe), learn_from)
        files = None if renders is not None else find_files(pictures or [], out)
        if files is None and pictures:
            raise ComparisonError("--renders draws the pictures; leave out those that are named")
        if force:
            remove_comparison(out)
        engine = Engine(model.bundle.directory, backend, threads, precision)
        settings = settings_of(model, engine, align)
        store = Store(out, settings, resume)
        store.check_rows(chosen)
        try:
            if renders is not None:
                files = watched_renders(model, renders, seed, out, json_)
            assert files is not None
            samples, unusable = prepare(files[:most], model, align, out / CROPS)
            if not samples:
                raise ComparisonError(f"no picture can be used; {unusable[0]}")
        except HyperStyleError:
            store.give_up()
            raise
        for sentence in (*left_out, *panel.problems):
            print_note(sentence)
        outcome = watched_run(engine, chosen, samples, panel, store, json_)
        comparison = gather(
            title_of(model, len(samples), seed if renders is not None else None),
            chosen,
            samples,
            store,
            panel.digests,
            stranger_similarity(samples, panel),
            [*panel.problems, *unusable, *outcome.sentences()],
            settings,
        )
        written = write_report(out, comparison, samples, store, rows)
        if asked is not None:
            edited = run_edits(model, asked, epochs, comparison, samples, panel, store, json_)
            comparison.problems.extend(edited)
    if json_:
        print_json(report.document(comparison))
    else:
        print_tables(report.terminal_table(comparison))
        print_line(f"wrote {', '.join(written)} in {out}")
    exit_with_errors(comparison.problems)


def parse_numbers(texts: Sequence[str], option: str) -> dict[str, int]:
    """Read ``METHOD=N`` of an option; ComparisonError for anything else."""
    found = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        if not equals or not number.isdecimal() or int(number) < 1:
            raise ComparisonError(f"{option} is METHOD=N with N from 1 up, not {text!r}")
        found[name] = int(number)
    return found


def parse_limits(texts: Sequence[str]) -> tuple[int | None, dict[str, int]]:
    """Read ``N`` for all methods and ``METHOD=N`` for some."""
    general = [text for text in texts if "=" not in text]
    if len(general) > 1 or not all(text.isdecimal() and int(text) for text in general):
        raise ComparisonError(f"--limit is one N from 1 up, or METHOD=N, not {general[-1]!r}")
    named = parse_numbers([text for text in texts if "=" in text], "--limit")
    return (int(general[0]) if general else None), named


def settings_of(model: Model, engine: Engine, align: str) -> dict[str, Any]:
    """What all results of a comparison depend on."""
    return {
        "version": __version__,
        "bundle": model.bundle.manifest.name,
        "bundle_digest": model.bundle.digest,
        "backend": engine.backend,
        "threads": engine.threads,
        "precision": engine.precision,
        "align": align,
    }


def remove_comparison(out: Path) -> None:
    """Remove an earlier comparison, and nothing else that is in the folder."""
    if not (out / SETTINGS).exists():
        return
    try:
        for name in FOLDERS:
            shutil.rmtree(out / name, ignore_errors=True)
        for name in (*STORED, TABLE, FIGURES, PLOT, SHEET, *EDITS_FILES, SETTINGS):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise ComparisonError(f"cannot remove what is in {out}: {reason(error)}") from None


def watched_renders(model: Model, count: int, seed: int, out: Path, quiet: bool) -> list[Path]:
    """Draw renders with a progress bar."""
    with progress_bar(quiet) as progress:
        task = progress.add_task("rendering", total=count)

        def report_drawn(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return draw_renders(model, count, seed, out / "renders", report_drawn)


def watched_run(
    engine: Engine,
    rows: Sequence[Row],
    samples: Sequence[Sample],
    panel: Panel,
    store: Store,
    quiet: bool,
) -> Outcome:
    """Run everything with a progress bar."""
    with progress_bar(quiet) as progress:
        total = sum(len(samples_of(row, samples)) for row in rows)
        task = progress.add_task("comparing", total=total)

        def advance(row: Row) -> None:
            progress.update(task, advance=1, description=row.name)

        return run_all(engine, rows, samples, panel, store, advance)


def stranger_similarity(samples: Sequence[Sample], panel: Panel) -> float | None:
    """Mean identity similarity of different pictures; None without a network, or of one."""
    if panel.judges.identity is None or len(samples) < 2:
        return None
    with torch.inference_mode():
        embeddings = [panel.judges.identity(_as_judged(sample)) for sample in samples]
    return strangers(torch.cat(embeddings))


def _as_judged(sample: Sample) -> torch.Tensor:
    picture = read_picture(sample.path)
    height, width = picture.shape[:2]
    return torch.from_numpy(to_input(picture, (min(height, SSIM_SIDE), min(width, SSIM_SIDE))))


def title_of(model: Model, count: int, seed: int | None) -> str:
    """What was compared on what."""
    kind = "picture" if seed is None else "render"
    said = f"{model.bundle.manifest.name} on {count} {kind}" + "s" * (count != 1)
    return said if seed is None else f"{said} of seed {seed}"


def write_report(
    out: Path, comparison: Comparison, samples: Sequence[Sample], store: Store, rows: int
) -> list[str]:
    """Write all files of the report, each whole or not at all, and name them.

    Without a picture that all methods have there is no plot and no sheet.
    """
    text = json.dumps(report.document(comparison), indent=1)
    write_atomically(out / FIGURES, text.encode(), ComparisonError)
    write_atomically(out / TABLE, report.markdown(comparison).encode(), ComparisonError)
    written = [TABLE, FIGURES]
    if comparison.common:
        write_atomically(out / PLOT, report.plot(comparison), ComparisonError)
        written.append(PLOT)
    drawn = report.sheet(comparison, samples, store, rows)
    if drawn is not None:
        write_picture(out / SHEET, drawn)
        written.append(SHEET)
    return written
