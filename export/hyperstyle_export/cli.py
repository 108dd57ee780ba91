"""Command line of build_engines.py: checkpoints -> engine bundle."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from hyperstyle_rt.cli.program import Command
from hyperstyle_rt.cli.terminal import NoteHandler, facts_table, print_error, print_tables
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import read_regular
from hyperstyle_rt.formats import strict_json
from hyperstyle_rt.formats.bundle import MAX_MANIFEST_SIZE
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from hyperstyle_rt.backends.plans.build import Target

EXAMPLE_PICTURE = Path(__file__).resolve().parents[2] / "examples" / "portrait_0.png"

EXAMPLES = """
[bold]Examples[/bold]

python export/build_engines.py --checkpoint hyperstyle_ffhq.pt --w-encoder faces_w_encoder.pt \
--out engines/faces --domain faces

python export/build_engines.py --checkpoint hyperstyle_cars.pt --w-encoder cars_w_encoder.pt \
--out engines/cars --storage fp16

python export/build_engines.py --checkpoint hyperstyle_ffhq.pt --w-encoder faces_w_encoder.pt \
--out engines/faces --precision fp32,fp16 --tensorrt

python export/build_engines.py --checkpoint hyperstyle_ffhq.pt --w-encoder faces_w_encoder.pt \
--out engines/faces --precision fp32,fp16 --tensorrt-rtx --sm 89

python export/build_engines.py --checkpoint hyperstyle_ffhq.pt --w-encoder faces_w_encoder.pt \
--out engines/faces --refine-lpips alexnet.ckpt --refine-lpips-heads alex.pth

python export/build_engines.py --adapt toonify.pt --base engines/faces --out engines/toon
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
console = Console(stderr=True)


class StorageOption(str, Enum):
    """Type the weights are stored in."""

    FP32 = "fp32"
    FP16 = "fp16"


class PrecisionOption(str, Enum):
    """Precisions the bundle has graphs in."""

    FP32 = "fp32"
    FP32_FP16 = "fp32,fp16"


@app.command(cls=Command, epilog=EXAMPLES)
def build(
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle directory to write.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="HyperStyle checkpoint (.pt).", show_default=False)
    ] = None,
    w_encoder: Annotated[
        Path | None, typer.Option(help="W-encoder checkpoint (.pt).", show_default=False)
    ] = None,
    adapt: Annotated[
        Path | None,
        typer.Option(
            help="Instead of the two: a fine-tuned generator (.pt with g_ema), for --base.",
            show_default=False,
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="Bundle the generator was fine-tuned from.", show_default=False),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Bundle name; default: from --out.")] = None,
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
    precision: Annotated[
        PrecisionOption,
        typer.Option(help="fp32,fp16 adds graphs whose arithmetic is fp16, for GPUs."),
    ] = PrecisionOption.FP32,
    tensorrt: Annotated[
        bool, typer.Option("--tensorrt", help="Also build TensorRT plans for this machine's GPU.")
    ] = False,
    tensorrt_rtx: Annotated[
        bool, typer.Option("--tensorrt-rtx", help="Also build TensorRT-RTX plans, for any --sm.")
    ] = False,
    sm: Annotated[
        int | None, typer.Option(help="Compute capability for --tensorrt-rtx: 89 is 8.9.")
    ] = None,
    workspace: Annotated[
        int | None, typer.Option(min=1, help="MiB of GPU memory a TensorRT layer may use.")
    ] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="File of kernel times, for faster builds on one GPU.")
    ] = None,
    layer_report: Annotated[
        bool, typer.Option("--layer-report", help="Write the engine inspector's output.")
    ] = False,
    refine_lpips: Annotated[
        Path | None,
        typer.Option(
            help="AlexNet or VGG16: refinements then follow LPIPS. The weights go into the "
            "bundle and stay under their own licence.",
            show_default=False,
        ),
    ] = None,
    refine_lpips_heads: Annotated[
        Path | None, typer.Option(help="LPIPS heads of the same network.", show_default=False)
    ] = None,
    training: Annotated[
        Path | None, typer.Option(help="JSON file with training facts, for the manifest.")
    ] = None,
    picture: Annotated[
        Path, typer.Option(help="Aligned picture to measure the finished bundle with.")
    ] = EXAMPLE_PICTURE,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Turn a HyperStyle checkpoint and its W-encoder into an engine bundle of ONNX graphs.

    Or, with --adapt, a fine-tuned generator into a bundle that renders what its base inverts; its
    storage and precisions are those of the base.

    Nothing in the files is executed. The bundle appears whole or not at all; before it does, it is
    run in ONNX Runtime beside the torch networks, and the differences go into its manifest.
    TensorRT plans are added after that; where they cannot be built, the bundle is kept without
    them and the exit status is 1.
    """
    logging.basicConfig(format="%(message)s", handlers=[NoteHandler()])
    out = out.resolve()  # the working directory itself may be replaced
    try:
        if tensorrt_rtx != (sm is not None):
            raise HyperStyleError("--tensorrt-rtx and --sm go together; give both or neither.")
        lpips = _lpips_files(refine_lpips, refine_lpips_heads, adapt)
        name = name or _plain(out.name)
        said: dict[str, Any] = {"name": name, "domain": domain, "license": license_}
        said["training"] = _training(training)
        if adapt is not None and base is not None and checkpoint is None and w_encoder is None:
            figures = _build_adapted(_AdaptRequest(adapt, base, out, picture, force), said)
        elif checkpoint is not None and w_encoder is not None and adapt is None and base is None:
            request = _Request(
                checkpoint,
                w_encoder,
                out,
                dataset_type,
                storage.value,
                precision.value,
                picture,
                force,
                lpips,
            )
            figures = _build(request, said)
        else:
            raise HyperStyleError(
                "give --checkpoint with --w-encoder, or --adapt with --base, and not both pairs."
            )
    except HyperStyleError as error:
        print_error(str(error))
        raise typer.Exit(2) from None
    facts = {key: str(value) for key, value in figures.items()}
    print_tables(facts_table("Bundle", {"directory": str(out), **facts}), to_error=True)
    if not (tensorrt or tensorrt_rtx):
        return
    plans = _Plans(tensorrt, sm, workspace, timing_cache, layer_report)
    try:
        sizes = _build_plans(out, precision.value.split(","), plans)
    except HyperStyleError as error:
        print_error(f"{error}; the ONNX bundle in {out} is whole without plans.")
        raise typer.Exit(1) from None
    print_tables(facts_table("TensorRT plans", sizes), to_error=True)


def _plain(directory: str) -> str:
    """Make a bundle's name of its directory's: ``my dir`` -> ``my-dir``."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", directory).strip("-.")[:100] or directory


def _lpips_files(
    backbone: Path | None, heads: Path | None, adapt: Path | None
) -> tuple[Path, Path] | None:
    """The files of --refine-lpips; None without them."""
    if backbone is None and heads is None:
        return None
    if backbone is None or heads is None:
        raise HyperStyleError("LPIPS needs both; give --refine-lpips and --refine-lpips-heads.")
    if adapt is not None:
        raise HyperStyleError(
            "an adapted bundle refines nothing itself; give --refine-lpips when building its base."
        )
    return backbone, heads


@dataclass(frozen=True)
class _Request:
    checkpoint: Path
    w_encoder: Path
    out: Path
    dataset_type: str | None
    storage: Literal["fp32", "fp16"]
    precision: str
    picture: Path
    force: bool
    lpips: tuple[Path, Path] | None


@dataclass(frozen=True)
class _AdaptRequest:
    generator: Path
    base: Path
    out: Path
    picture: Path
    force: bool


@dataclass(frozen=True)
class _Plans:
    tensorrt: bool
    sm: int | None
    workspace: int | None
    timing_cache: Path | None
    layer_report: bool


def _progress() -> Progress:
    """What is done and for how long, on a terminal only."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _training(path: Path | None) -> dict[str, Any] | None:
    """Training facts for the manifest; None without a file."""
    if path is None:
        return None
    try:
        facts = strict_json.parse(read_regular(path, MAX_MANIFEST_SIZE, HyperStyleError))
    except ValueError as error:
        raise HyperStyleError(f"{path} {error}; give a JSON object") from None
    if not isinstance(facts, dict):
        raise HyperStyleError(f"{path} holds no JSON object of training facts")
    return facts


def _build(request: _Request, said: dict[str, Any]) -> dict[str, Any]:
    # torch and onnx take seconds to import: --help does without them
    from hyperstyle_rt.imaging.pictures import read_picture

    from .bundle_writer import (
        BundleFacts,
        sha256,
        staged,
        write_bundle,
        write_manifest,
    )
    from .checkpoints import load_model
    from .graphs import REFINEMENT_GRAPHS, refinement_graphs_with
    from .lpips_files import load_lpips
    from .twins import add_half_graphs
    from .verification import check_accuracy, measure_accuracy, measure_half

    example = read_picture(request.picture)
    facts = BundleFacts(**said)
    with (
        _progress() as progress,
        staged(request.out, request.force) as stage,
    ):
        task = progress.add_task("checkpoints")

        def on_progress(step: str) -> None:
            progress.update(task, description=step)

        model = load_model(request.checkpoint, request.w_encoder, request.dataset_type)
        files = {"checkpoint": request.checkpoint, "w_encoder": request.w_encoder}
        graphs = REFINEMENT_GRAPHS
        if request.lpips is not None:
            graphs = refinement_graphs_with(load_lpips(*request.lpips))
            files |= dict(zip(("refine_lpips", "refine_lpips_heads"), request.lpips, strict=True))
        provenance = {role: f"{f.name} sha256:{sha256(f)}" for role, f in files.items()}
        facts = replace(facts, provenance=provenance)
        bundle = write_bundle(model, stage, facts, request.storage, on_progress, graphs)
        on_progress("comparison with the torch reference")
        figures = measure_accuracy(model, bundle, example)
        check_accuracy(figures, request.storage)
        if "fp16" in request.precision:
            bundle = add_half_graphs(model, bundle, on_progress)
            on_progress("comparison of fp16 with fp32")
            figures["fp16"] = measure_half(bundle, example)
        write_manifest(stage, replace(bundle.manifest, accuracy=figures))
    return figures


def _build_adapted(request: _AdaptRequest, said: dict[str, Any]) -> dict[str, Any]:
    from hyperstyle_rt.formats.bundle import Bundle, find_bundle
    from hyperstyle_rt.imaging.pictures import read_picture

    from .adapted import load_adapted, measure_adapted, write_adapted
    from .bundle_writer import BundleFacts, sha256, staged, write_manifest

    example = read_picture(request.picture)
    base = Bundle.open(find_bundle(request.base))
    facts = BundleFacts(**said)
    with _progress() as progress, staged(request.out, request.force) as stage:
        task = progress.add_task("generator")

        def on_progress(step: str) -> None:
            progress.update(task, description=step)

        model = load_adapted(request.generator, base)
        provenance = {"generator": f"{request.generator.name} sha256:{sha256(request.generator)}"}
        facts = replace(facts, provenance=provenance)
        bundle = write_adapted(model, base, stage, facts, on_progress)
        on_progress("comparison with the torch reference")
        figures = measure_adapted(model, base, bundle, example)
        write_manifest(stage, replace(bundle.manifest, accuracy=figures))
    return figures


def _build_plans(out: Path, precisions: list[str], plans: _Plans) -> dict[str, str]:
    """Build the plans asked for; gives what there is to say about each."""
    from hyperstyle_rt.backends.plans.build import EngineOptions, classic_target, rtx_target
    from hyperstyle_rt.formats.bundle import Bundle

    from .tensorrt import add_plans

    bundle = Bundle.open(out)
    targets: list[Callable[[], Target]] = [classic_target] if plans.tensorrt else []
    if plans.sm is not None:
        targets.append(partial(rtx_target, plans.sm))
    workspace = None if plans.workspace is None else plans.workspace << 20
    options = EngineOptions(
        workspace=workspace, timing_cache=plans.timing_cache, layer_report=plans.layer_report
    )
    said = {}
    with _progress() as progress:
        task = progress.add_task("TensorRT")
        for make in targets:
            target = make()
            for precision in precisions:
                bundle, built = add_plans(
                    bundle,
                    target,
                    precision,
                    options,
                    lambda step: progress.update(task, description=step),
                )
                for role, plan in built.items():
                    text = f"{plan.size:,} bytes, {plan.layers} layers, {plan.seconds:.1f} s"
                    said[f"{target.key(precision)}/{role}"] = text
    return said
