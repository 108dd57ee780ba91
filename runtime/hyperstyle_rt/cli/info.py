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
from ..errors import BundleError, HyperStyleError
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
    figures_table,
    print_json,
    print_tables,
)

if TYPE_CHECKING:
    from rich.text import Text

    from ..backends.plans.cache import CachedPlan
    from ..formats.bundle import Bundle
    from ..formats.manifest import Manifest
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
            help="The bundle; or the inversion file's, where it is not in engines/ by its name.",
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
    elif subject is not None and bundle is not None:
        raise typer.BadParameter(f"--bundle goes with an inversion file, and {subject} is none")
    else:
        _describe_bundle(subject or bundle, json_)


def _is_inversion_file(path: Path) -> bool:
    # os.path answers for every text, overlong names included, where pathlib raises.
    return path.suffix == INVERSION_SUFFIX or os.path.isfile(path) or is_pipe(path)  # noqa: PTH113


def _describe_bundle(name: str | None, json_: bool) -> None:
    from ..backends.plans.cache import plans_of
    from ..formats.bundle import Bundle
    from ..formats.bundle_lookup import find_bundle

    bundle = Bundle.open(find_bundle(name))
    with error_console().status("verifying the files"):
        problems = _problems(bundle)
    cached = [] if problems else list(plans_of(bundle))  # found by the files' digests
    if json_:
        document = {
            "directory": str(bundle.directory),
            "digest": bundle.digest,
            "manifest": bundle.manifest.to_json(),
            "costs": _costs(bundle.manifest),
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
    codes = manifest.codes
    facts = {
        "domain": manifest.domain,
        "licence": manifest.license,
        "directory": str(bundle.directory),
        "digest": bundle.digest,
        "space": manifest.space,
        "output": _size(manifest.image_size),
        "input": _size(manifest.input_size),
        "latents": f"{manifest.num_latents} x {manifest.latent_width}",
        "offset codes": (
            "none"
            if codes is None
            else f"{len(manifest.tuned_layers)} x {codes.width} (one row per tuned layer)"
        ),
    }
    if manifest.then is not None:
        when = "" if manifest.fit is None else ", where a picture fits worse than its kind"
        facts["then"] = f"{manifest.then}{when}"
    tables = [facts_table(f"Bundle {manifest.name}", facts)]
    if manifest.methods:
        tables.append(_methods_table(manifest))
        tables.append(facts_table("Gradient steps", _presets(manifest)))
    free_form = {
        "Provenance": manifest.provenance,
        "Accuracy": manifest.accuracy,
        "Training": manifest.training or {},
    }
    tables += [figures_table(title, known) for title, known in free_form.items() if known]
    return [*tables, _layers_table(bundle), _files_table(bundle, problems)]


def _methods_table(manifest: Manifest) -> Table:
    """The methods by name: phases, and what an inversion costs; the default is marked."""
    columns = ("method", "graphs", "iterations", "GMAC", "")
    table = columns_table("Methods", *columns, right=("iterations", "GMAC"))
    costs = _costs(manifest)
    for name, method in manifest.methods.items():
        phases = (f"{p.graph} x {p.repeat}" if p.repeat else p.graph for p in method.phases)
        cost = costs[name]
        table.add_row(
            cell(name, "cyan"),
            ", ".join(phases),
            str(method.iterations or ""),
            "" if cost is None else f"{cost / 1e9:.3g}",
            "default" if name == manifest.default_method else "",
        )
    return table


def _costs(manifest: Manifest) -> dict[str, int | None]:
    """Multiply-accumulates of an inversion by every method; null where they were not counted."""
    macs = {role: graph.macs for role, graph in manifest.graphs.items()}
    return {name: method.cost(macs) for name, method in manifest.methods.items()}


def _presets(manifest: Manifest) -> dict[str, str]:
    """The presets of descent by name: what each is, or which graphs the bundle lacks for it."""
    from ..optimising.names import PRESET_LINES
    from ..optimising.needs import missing_graphs
    from ..optimising.presets import PRESETS

    described = {}
    for name, line in PRESET_LINES.items():
        missing = missing_graphs(manifest, PRESETS[name].stages)
        described[name] = f"needs the graph {', '.join(missing)}" if missing else line
    return described


def _layers_table(bundle: Bundle) -> Table:
    table = columns_table(
        "Tuned layers", "layer", "offset index", "weights", right=("offset index",)
    )
    for layer in bundle.manifest.tuned_layers:
        table.add_row(cell(layer.name, "cyan"), str(layer.index), _dimensions(layer.shape))
    return table


def _files_table(bundle: Bundle, problems: Mapping[str, str]) -> Table:
    from rich.filesize import decimal

    columns = ("file", "size", "stored", "SHA-256", "")
    table = columns_table("Files", *columns, right=("size",))
    for name, file in bundle.manifest.files.items():
        state = _state(name, problems)
        size = decimal(file.size)
        table.add_row(cell(name, "cyan"), size, file.stored, file.sha256, state)
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

    inversion = Inversion.load(path)
    magnitudes = dict(zip(_layer_names(inversion, bundle), _magnitudes(inversion), strict=True))
    if json_:
        document = _inversion_document(path, inversion, magnitudes)
        print_json({"file": str(called)} | document)
    else:
        print_tables(*_inversion_tables(path, inversion, magnitudes, called))


def _magnitudes(inversion: Inversion) -> list[float]:
    """Root mean square of every layer's code, without the count in the last column."""
    import numpy as np

    if inversion.codes is None:
        return []
    values = inversion.codes[:, :-1].astype(np.float64)
    return [float(rms) for rms in np.sqrt(np.square(values).mean(axis=1))]


def _layer_names(inversion: Inversion, bundle: str | None) -> list[str]:
    """Names of the codes' rows: those of the bundle if it is found, else their numbers.

    Raises
    ------
    HyperStyleError
        If a bundle is named, and is not there or does not fit.
    """
    from ..formats.bundle import Bundle
    from ..formats.bundle_lookup import find_bundle
    from ..formats.inversion_fit import check_fits

    data = inversion.data
    rows = 0 if data.codes is None else len(data.codes)
    try:
        opened = Bundle.open(find_bundle(bundle or data.bundle_name))
        check_fits(data, opened.manifest)
    except HyperStyleError:
        if bundle is not None:
            raise
        return [str(row) for row in range(rows)]
    return [layer.name for layer in opened.manifest.tuned_layers][:rows]


def _inversion_document(
    path: Path, inversion: Inversion, magnitudes: Mapping[str, float]
) -> dict[str, Any]:
    from ..formats.inversion_file import HALVES

    data = inversion.data
    codes = data.codes
    return {
        "bytes": path.stat().st_size,
        "space": data.space,
        "needs": list(data.needs),
        "bundle": {"name": data.bundle_name, "digest": data.bundle_digest},
        "method": data.method,
        "settings": dict(data.settings),
        "computed": dict(data.computed),
        "iterations": inversion.iterations,
        "latents": list(inversion.latents.shape),
        "codes": None if codes is None else list(codes.shape),
        **{
            name: None if getattr(data, name) is None else getattr(data, name).size
            for name in HALVES
        },
        "transform": None if data.transform is None else data.transform.tolist(),
        "magnitudes": dict(magnitudes),
    }


def _inversion_tables(
    path: Path, inversion: Inversion, magnitudes: Mapping[str, float], called: Path
) -> list[Table]:
    from rich.filesize import decimal

    from ..formats.inversion_file import HALVES

    data = inversion.data
    codes = data.codes
    halves = {name: getattr(data, name) for name in HALVES}
    facts = {
        "space": data.space,
        "bundle": data.bundle_name,
        "bundle digest": data.bundle_digest,
        "method": data.method,
        "settings": json.dumps(dict(data.settings)),
        "computed by": f"{data.computed['provider']}, {data.computed['precision']}",
        "iterations": str(inversion.iterations),
        "latents": _dimensions(inversion.latents.shape),
        "offset codes": "none" if codes is None else _dimensions(codes.shape),
        **{
            name.replace("_", " "): f"{array.size} (by gradient steps)"
            for name, array in halves.items()
            if array is not None
        },
        "photo to crop": "not stored" if data.transform is None else str(data.transform.tolist()),
        "size": decimal(path.stat().st_size),
    }
    tables = [facts_table(f"Inversion {called.name}", facts)]
    if magnitudes:
        table = columns_table("Offset codes", "layer", "magnitude", "", right=("magnitude",))
        largest = max(magnitudes.values()) or 1.0
        for layer, magnitude in magnitudes.items():
            table.add_row(cell(layer, "cyan"), f"{magnitude:.4f}", bar(magnitude / largest))
        tables.append(table)
    return tables
