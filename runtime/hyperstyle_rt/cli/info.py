"""``hyperstyle-rt info``: what a bundle or an inversion file holds."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..batch.streams import INVERSION_SUFFIX, is_pipe
from ..errors import BundleError
from . import options
from .pipes import as_file
from .terminal import (
    Table,
    bar,
    cell,
    columns_table,
    error_console,
    exit_with_errors,
    facts_table,
    print_json,
    print_tables,
)

if TYPE_CHECKING:
    from rich.text import Text

    from ..backends.plans.cache import CachedPlan
    from ..formats.bundle import Bundle
    from ..inversion import Inversion

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt info

hyperstyle-rt info engines/cars

hyperstyle-rt info face.safetensors

hyperstyle-rt info car.safetensors --bundle /data/bundles/cars

hyperstyle-rt info engines/cars --json
"""


def info(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="BUNDLE|INVERSION.safetensors",
            help="Bundle directory or name, or inversion file. Default: the embedded bundle.",
            show_default=False,
        ),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(
            help="Bundle of the inversion file, where it is not found in engines/ by its name.",
            metavar="BUNDLE",
        ),
    ] = None,
    json_: options.Json = False,
) -> None:
    """Describe an engine bundle, and verify its files; or describe an inversion file.

    The exit status is 2 if a file of the bundle is missing or altered.
    """
    if subject is not None and _is_inversion_file(Path(subject)):
        with as_file(Path(subject)) as file:
            _describe_inversion(file, bundle, json_, Path(subject))
    elif bundle is not None:
        raise typer.BadParameter("--bundle goes with an inversion file; give one")
    else:
        _describe_bundle(subject, json_)


def _is_inversion_file(path: Path) -> bool:
    # Unlike pathlib's, os.path's question has an answer for every text, overlong names included.
    return path.suffix == INVERSION_SUFFIX or os.path.isfile(path) or is_pipe(path)  # noqa: PTH113


def _describe_bundle(name: str | None, json_: bool) -> None:
    from ..backends.plans.cache import plans_of
    from ..formats.bundle import Bundle, find_bundle

    bundle = Bundle.open(find_bundle(name))
    with error_console().status("verifying the files"):
        problems = _problems(bundle)
    cached = list(plans_of(bundle))
    if json_:
        document = {
            "directory": str(bundle.directory),
            "digest": bundle.digest,
            "manifest": bundle.manifest.to_json(),
            "cached_plans": [asdict(plan) | {"path": str(plan.path)} for plan in cached],
            "problems": problems,
        }
        print_json(document)
    else:
        print_tables(*_bundle_tables(bundle, problems), *_plan_tables(bundle, cached, problems))
    exit_with_errors(problems.values())


def _problems(bundle: Bundle) -> dict[str, str]:
    """Verify every file: name -> what is wrong with it, for those where something is."""
    problems = {}
    for name in bundle.manifest.files:
        try:
            bundle.verified_file(name)
        except BundleError as error:
            problems[name] = str(error)
    for key, files in bundle.manifest.plans.items():
        for name in files:
            try:
                bundle.verified_plan_file(key, name)
            except BundleError as error:
                problems[f"{key}/{name}"] = str(error)
    if not problems:
        try:
            bundle.verify()  # looks for files beside the listed ones, too
        except BundleError as error:
            problems[str(bundle.directory)] = str(error)
    return problems


def _bundle_tables(bundle: Bundle, problems: Mapping[str, str]) -> list[Table]:
    manifest = bundle.manifest
    rows, columns = len(manifest.tuned_layers), manifest.code_width + 1
    facts = {
        "domain": manifest.domain,
        "licence": manifest.license,
        "directory": str(bundle.directory),
        "digest": bundle.digest,
        "output": _size(manifest.image_size),
        "input": _size(manifest.input_size),
        "latents": f"{manifest.num_latents} x {manifest.style_width}",
        "offset codes": f"{rows} x {columns} (one row per tuned layer)",
        "iterations": f"{manifest.default_iterations} by default",
    }
    tables = [facts_table(f"Bundle {manifest.name}", facts)]
    free_form = {
        "Provenance": manifest.provenance,
        "Accuracy": manifest.accuracy,
        "Training": manifest.training or {},
    }
    tables += [_free_form_table(title, known) for title, known in free_form.items() if known]
    return [*tables, _layers_table(bundle), _files_table(bundle, problems)]


def _free_form_table(title: str, facts: Mapping[str, Any]) -> Table:
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()}
    return facts_table(title, texts)


def _layers_table(bundle: Bundle) -> Table:
    table = columns_table(
        "Tuned layers", "layer", "offset index", "weights", right=("offset index",)
    )
    for layer in bundle.manifest.tuned_layers:
        table.add_row(cell(layer.name, "cyan"), str(layer.index), _dimensions(layer.shape))
    return table


def _files_table(bundle: Bundle, problems: Mapping[str, str]) -> Table:
    from rich.filesize import decimal

    columns = ("file", "size", "precision", "SHA-256", "")
    table = columns_table("Files", *columns, right=("size",))
    for name, file in bundle.manifest.files.items():
        state = _state(name, problems)
        size, precision = decimal(file.size), file.precision
        table.add_row(cell(name, "cyan"), size, precision, file.sha256, state)
    return table


def _plan_tables(
    bundle: Bundle, cached: Sequence[CachedPlan], problems: Mapping[str, str]
) -> list[Table]:
    """The bundle's TensorRT plans, and those of it in the user's cache; none if there are none."""
    from rich.filesize import decimal

    tables = []
    if bundle.manifest.plans:
        table = columns_table("TensorRT plans", "file", "size", "SHA-256", "", right=("size",))
        for key, files in bundle.manifest.plans.items():
            for name, file in files.items():
                path = f"{key}/{name}"
                state = _state(path, problems)
                table.add_row(cell(path, "cyan"), decimal(file.size), file.sha256, state)
        tables.append(table)
    if cached:
        title = "TensorRT plans in the user's cache"
        table = columns_table(title, "graph", "size", "SHA-256", "file", right=("size",))
        for plan in cached:
            graph = cell(f"{plan.key}/{plan.role}", "cyan")
            table.add_row(graph, decimal(plan.size), plan.sha256, str(plan.path))
        tables.append(table)
    return tables


def _state(name: str, problems: Mapping[str, str]) -> Text:
    return cell("bad", "bold red") if name in problems else cell("verified", "green")


def _dimensions(shape: Sequence[int]) -> str:
    return " x ".join(str(length) for length in shape)


def _size(size: tuple[int, int]) -> str:
    height, width = size
    return f"{width} x {height} pixels"


def _describe_inversion(path: Path, bundle: str | None, json_: bool, called: Path) -> None:
    from ..inversion import Inversion
    from ..model import Model

    if bundle is not None:
        Model.load(bundle, "cpu")  # the file leaves out what its bundle has once it is opened
    inversion = Inversion.load(path)
    layers = _layer_names(inversion, bundle)
    magnitudes = _magnitudes(inversion)
    if json_:
        document = _inversion_document(path, inversion, layers, magnitudes)
        print_json({"file": str(called)} | document)
    else:
        print_tables(*_inversion_tables(path, inversion, layers, magnitudes, called))


def _magnitudes(inversion: Inversion) -> list[float]:
    """Root mean square of every layer's code, without the count in the last column."""
    import numpy as np

    values = inversion.codes[:, :-1].astype(np.float64)
    return [float(rms) for rms in np.sqrt(np.square(values).mean(axis=1))]


def _layer_names(inversion: Inversion, bundle: str | None) -> list[str]:
    """Names of the codes' rows: those of the bundle if it is found, else their numbers."""
    from ..formats.bundle import Bundle, find_bundle

    data = inversion.data
    numbers = [str(row) for row in range(len(inversion.codes))]
    try:
        opened = Bundle.open(find_bundle(bundle or data.bundle_name))
    except BundleError:
        return numbers
    layers = [layer.name for layer in opened.manifest.tuned_layers]
    belongs = opened.digest == data.bundle_digest and len(layers) == len(numbers)
    return layers if belongs else numbers


def _inversion_document(
    path: Path, inversion: Inversion, layers: list[str], magnitudes: list[float]
) -> dict[str, Any]:
    data = inversion.data
    return {
        "bytes": path.stat().st_size,
        "bundle": {"name": data.bundle_name, "digest": data.bundle_digest},
        "iterations": inversion.iterations,
        "latents": list(inversion.latents.shape),
        "codes": list(inversion.codes.shape),
        "channels": None if data.channels is None else data.channels.size,
        "transform": None if data.transform is None else data.transform.tolist(),
        "magnitudes": dict(zip(layers, magnitudes, strict=True)),
    }


def _inversion_tables(
    path: Path, inversion: Inversion, layers: list[str], magnitudes: list[float], called: Path
) -> list[Table]:
    from rich.filesize import decimal

    data = inversion.data
    facts = {
        "bundle": data.bundle_name,
        "bundle digest": data.bundle_digest,
        "iterations": str(inversion.iterations),
        "latents": _dimensions(inversion.latents.shape),
        "offset codes": _dimensions(inversion.codes.shape),
        "free offsets": "none" if data.channels is None else f"{data.channels.size} (refined)",
        "photo to crop": "not stored" if data.transform is None else str(data.transform.tolist()),
        "size": decimal(path.stat().st_size),
    }
    table = columns_table("Offset codes", "layer", "magnitude", "", right=("magnitude",))
    largest = max(magnitudes) or 1.0
    for layer, magnitude in zip(layers, magnitudes, strict=True):
        table.add_row(cell(layer, "cyan"), f"{magnitude:.4f}", bar(magnitude / largest))
    return [facts_table(f"Inversion {called.name}", facts), table]
