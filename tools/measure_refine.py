#!/usr/bin/env python
"""What refinement is worth and what it costs, on a bundle and aligned pictures.

`quality` inverts and refines pictures and measures every method: table, figures.json, quality.png
(quality against time) and sheet.png. With a checkpoint, pivotal tuning in torch is beside it; LPIPS
and identity as in evaluate.py. `cost` measures a step beside the generator and beside eager torch.

    python tools/measure_refine.py quality set/test --limit 100 --steps 20,60 --out report
    python tools/measure_refine.py cost examples/portrait_0.png --checkpoint h.pt --w-encoder w.pt
    python tools/measure_refine.py cost examples/portrait_0.png --synthetic 1024
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("runtime", "export", "tools")]

from evaluate import find_pictures, open_judges
from hyperstyle_rt.cli.outputs import refuse_existing
from hyperstyle_rt.cli.terminal import (
    batch_progress,
    columns_table,
    facts_table,
    print_error,
    print_json,
    print_tables,
)
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import write_atomically
from hyperstyle_rt.imaging import read_picture, resize_bilinear, write_picture
from hyperstyle_rt.inversion import HyperStyle
from refinement.cost import CLOCKS, beside_torch, peak_bytes, step_against_generator
from refinement.quality import Methods, measure_quality, plot, sheet, summary

if TYPE_CHECKING:
    from hyperstyle_export.networks.hyperstyle import HyperStyle as Networks

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)

FILES = ("figures.json", "quality.png", "sheet.png")

CheckpointOption = Annotated[
    Path | None, typer.Option(help="HyperStyle checkpoint of the same model, for torch.")
]
EncoderOption = Annotated[Path | None, typer.Option(help="Its W-encoder checkpoint.")]
BundleOption = Annotated[str | None, typer.Option(help="Directory or name. Default: embedded.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="CPU threads, of torch too.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@contextmanager
def one_sentence() -> Iterator[None]:
    """Show a user's error as the runtime does."""
    try:
        yield
    except HyperStyleError as error:
        print_error(str(error))
        raise typer.Exit(2) from None


def open_networks(checkpoint: Path | None, w_encoder: Path | None, threads: int) -> Networks | None:
    """The model in torch, if both files are given."""
    if checkpoint is None and w_encoder is None:
        return None
    if checkpoint is None or w_encoder is None:
        raise HyperStyleError("torch needs both files; give --checkpoint and --w-encoder")
    import torch
    from hyperstyle_export.checkpoints import load_model

    torch.set_num_threads(threads)
    return load_model(checkpoint, w_encoder)


@app.command()
def quality(
    folder: Annotated[Path, typer.Argument(help="Folder of aligned pictures, or one picture.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for the report; none: table only.")
    ] = None,
    bundle: BundleOption = None,
    iterations: Annotated[int, typer.Option(min=0, max=100, help="Of the hypernetwork.")] = 5,
    steps: Annotated[str, typer.Option(help="Gradient steps, one refinement each.")] = "20,60,200",
    spaces: Annotated[str, typer.Option(help="What the refinements change.")] = "channels,codes",
    tuning_steps: Annotated[int, typer.Option(min=0, help="Of pivotal tuning.")] = 200,
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first pictures only.")] = None,
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

    Example: python tools/measure_refine.py quality set/test --limit 100 --out report
    """
    with one_sentence():
        marks = parse_marks(steps)
        judges = open_judges(backbone, heads, identity)
        model = HyperStyle.load(bundle, "cpu", threads=threads)
        networks = open_networks(checkpoint, w_encoder, threads)
        files = (
            [] if out is None else [out / n for n in ("figures.json", "quality.png", "sheet.png")]
        )
        if not force:
            refuse_existing(files)
        size = model.bundle.manifest.image_size
        targets = [resize_bilinear(read_picture(p), size) for p in find_pictures(folder, limit)]
        methods = Methods(iterations, marks, tuple(spaces.split(",")), networks, tuning_steps)
        with batch_progress(json_) as progress:
            task = progress.add_task("measuring", total=len(targets), rate="")
            table, done = measure_quality(
                model, targets, methods, judges, lambda n: progress.update(task, completed=n)
            )
        means = summary(table)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"pictures": len(targets), "means": means, "all": table}, indent=1)
            write_atomically(files[0], text.encode(), HyperStyleError)
            write_atomically(files[1], plot(means), HyperStyleError)
            write_picture(files[2], sheet(done[:rows], list(means)))
    if json_:
        print_json({"pictures": len(targets), "means": means})
        return
    names = list(next(iter(means.values())))
    shown = columns_table(f"{len(targets)} pictures", "method", *names, right=tuple(names))
    for label, figures in means.items():
        shown.add_row(label, *(f"{figures[name]:.4g}" for name in names))
    print_tables(shown)


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

    Example: python tools/measure_refine.py cost examples/portrait_0.png
    """
    with one_sentence(), tempfile.TemporaryDirectory() as scratch:
        if clock not in CLOCKS:
            raise HyperStyleError(f"there is no clock {clock!r}; choose wall or cpu")
        name = bundle if synthetic is None else str(write_synthetic(synthetic, Path(scratch)))
        model = HyperStyle.load(name, "cpu", threads=threads)
        networks = open_networks(checkpoint, w_encoder, threads)
        image = read_picture(picture)
        found: dict[str, Any] = {}
        for space in ("channels", "codes"):
            found[space] = step_against_generator(model, image, space, repeats, CLOCKS[clock])
        found["peak_bytes"] = peak_bytes()
        if networks is not None:
            found["beside_torch"] = beside_torch(
                model, networks, image, steps, repeats, CLOCKS[clock]
            )
    if json_:
        print_json(found)
        return
    facts = {
        f"step in {space}": f"{found[space]['forward_passes']:.2f} forward passes of the generator"
        for space in ("channels", "codes")
    }
    facts["peak memory"] = f"{found['peak_bytes'] / 2**30:.2f} GiB"
    if networks is not None:
        facts["against torch"] = f"{found['beside_torch']['speed_up']:.2f} x as fast"
    print_tables(facts_table("Refinement", facts))


def write_synthetic(size: int, directory: Path) -> Path:
    """A bundle of the official layout in a process of its own: memory is what is measured."""
    import multiprocessing

    bundle = directory / "synthetic"
    bundle.mkdir()
    process = multiprocessing.get_context("spawn").Process(target=_write, args=(size, bundle))
    process.start()
    process.join()
    if process.exitcode:
        raise HyperStyleError(f"the synthetic bundle of {size} px could not be written")
    return bundle


def _write(size: int, bundle: Path) -> None:
    import torch
    from hyperstyle_export.bundle_writer import BundleFacts, write_bundle
    from hyperstyle_export.networks.hyperstyle import HyperStyle as Networks
    from synthetic import latent_average, official_config, synthetic_state

    config = official_config(size)
    with torch.device("meta"):
        model = Networks(config)
    state = synthetic_state(config) | {"latent_avg": latent_average(config)}
    model.load_state_dict(state, assign=True)
    model.eval().requires_grad_(False)
    write_bundle(model, bundle, BundleFacts("synthetic"), "fp32", lambda _step: None)


if __name__ == "__main__":
    app()
