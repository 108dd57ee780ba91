"""Command line of build_engines.py: checkpoints -> engine bundle."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from hyperstyle_rt.errors import HyperStyleError
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

EXAMPLE_PICTURE = Path(__file__).resolve().parents[2] / "examples" / "portrait_0.png"

EXAMPLES = """
**Examples**

`python export/build_engines.py --checkpoint hyperstyle_ffhq.pt --w-encoder faces_w_encoder.pt
--out engines/faces --domain faces`

`python export/build_engines.py --checkpoint hyperstyle_cars.pt --w-encoder cars_w_encoder.pt
--out engines/cars --storage fp16`
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
console = Console(stderr=True)


class StorageOption(str, Enum):
    """Type the weights are stored in."""

    FP32 = "fp32"
    FP16 = "fp16"


@app.command(epilog=EXAMPLES)
def build(
    checkpoint: Annotated[Path, typer.Option(help="HyperStyle checkpoint (.pt).")],
    w_encoder: Annotated[Path, typer.Option(help="W-encoder checkpoint (.pt).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle directory to write.")],
    name: Annotated[str | None, typer.Option(help="Bundle name; default: that of --out.")] = None,
    domain: Annotated[str, typer.Option(help="What the pictures show.")] = "unknown",
    license_: Annotated[
        str, typer.Option("--license", help="Licence of the weights, for the manifest.")
    ] = "unknown",
    dataset_type: Annotated[
        str | None,
        typer.Option(help="Replaces the checkpoint's option; 'cars' crops rows."),
    ] = None,
    storage: Annotated[
        StorageOption, typer.Option(help="fp16 halves the files; arithmetic stays in float32.")
    ] = StorageOption.FP32,
    picture: Annotated[
        Path, typer.Option(help="Aligned picture to measure the finished bundle with.")
    ] = EXAMPLE_PICTURE,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Turn a HyperStyle checkpoint and its W-encoder into an engine bundle of ONNX graphs.

    Nothing in the files is executed. The bundle appears whole or not at all; before it does, it is
    run in ONNX Runtime beside the torch networks, and the differences go into its manifest.
    """
    logging.basicConfig(format="%(message)s", handlers=[RichHandler(console=console)])
    try:
        request = _Request(checkpoint, w_encoder, out, dataset_type, storage.value, picture, force)
        figures = _build(request, name or out.name, domain, license_)
    except HyperStyleError as error:
        console.print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    table = Table(title=f"{out} against {figures.pop('against')}", show_header=False)
    for key, value in figures.items():
        table.add_row(key, str(value))
    console.print(table)


@dataclass(frozen=True)
class _Request:
    checkpoint: Path
    w_encoder: Path
    out: Path
    dataset_type: str | None
    storage: Literal["fp32", "fp16"]
    picture: Path
    force: bool


def _build(request: _Request, name: str, domain: str, license_: str) -> dict[str, Any]:
    # torch and onnx take seconds to import: --help does without them
    from hyperstyle_rt.imaging import read_picture

    from .bundle_writer import (
        BundleFacts,
        sha256,
        staged,
        write_bundle,
        write_manifest,
    )
    from .checkpoints import load_model
    from .verification import check_accuracy, measure_accuracy

    example = read_picture(request.picture)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with (
        Progress(*columns, console=console) as progress,
        staged(request.out, request.force) as stage,
    ):
        task = progress.add_task("checkpoints")

        def on_progress(step: str) -> None:
            progress.update(task, description=step)

        model = load_model(request.checkpoint, request.w_encoder, request.dataset_type)
        files = {"checkpoint": request.checkpoint, "w_encoder": request.w_encoder}
        provenance = {role: f"{f.name} sha256:{sha256(f)}" for role, f in files.items()}
        facts = BundleFacts(name, domain, license_, provenance)
        bundle = write_bundle(model, stage, facts, request.storage, on_progress)
        on_progress("comparison with the torch reference")
        figures = measure_accuracy(model, bundle, example)
        check_accuracy(figures, request.storage)
        write_manifest(stage, replace(bundle.manifest, accuracy=figures))
    return figures
