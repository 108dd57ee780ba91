"""A bundle as a model repository of Triton.

::

    NAME_invert/config.pbtxt  NAME_invert/1/model.py  NAME_invert/1/bundle/  .../graphs.json
    NAME_edit/                                              the same
    NAME_graph_encoder/config.pbtxt  .../1/model.onnx  .../1/encoder.onnx.data
    NAME_graph_.../                                         every other graph

The graphs run on Triton's ONNX Runtime backend, or, as ``model.plan``, on its TensorRT one. What
chains them runs on its Python backend, in an environment that has hyperstyle-rt and needs no ONNX
Runtime.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from hyperstyle_rt.backends.protocol import Signature, TensorSpec
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import reason
from hyperstyle_rt.formats.bundle import MANIFEST_NAME, Bundle
from hyperstyle_rt.scale.triton.calls import model_name, served_models
from hyperstyle_rt.scale.triton.graphs_backend import GRAPH, GraphModels
from hyperstyle_rt.scale.triton.python_model import BUNDLE, GRAPHS
from hyperstyle_rt.temporaries import staging_folder
from onnx import helper

from .config import Instances, graph_config, loop_config, plan_config

MODEL_PY = '''"""Inversion and edits: the graphs are models of this server."""

from hyperstyle_rt.scale.triton.python_model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def write_repository(
    bundle: Bundle,
    directory: Path,
    precision: str,
    instances: Instances,
    overwrite: bool,
    plans: str | None = None,
) -> list[str]:
    """Write a repository; it appears whole or not at all.

    Parameters
    ----------
    directory:
        What is there is replaced if it is a repository of a bundle of this name and `overwrite` is
        set; other models in it are kept.
    precision:
        Of the graphs: ``fp32``, or one of the bundle's others.
    plans:
        A set of the bundle's TensorRT plans, which take the place of the graphs that they are of
        and have a precision of their own; None for the graphs.

    Returns
    -------
    The names of the models.

    Raises
    ------
    HyperStyleError
        If something is in the way or cannot be written; if the bundle is damaged, renders nothing
        by itself, or lacks graphs of the precision or plans of that name.
    """
    manifest = bundle.manifest
    manifest.check_stands_alone()
    planned = {} if plans is None else _verified_plans(bundle, plans)
    if plans is not None:
        precision = plans.rpartition("-")[2]
    files = {**manifest.graphs, **manifest.precisions.get(precision, {})}
    paths = {role: bundle.verified_path(role, precision) for role in files}
    signatures = {role: signature_of(path) for role, path in paths.items()}
    graphs = GraphModels(manifest.name, precision, signatures)
    with _staged(directory, overwrite) as stage:
        written: dict[Path, Path] = {}
        for role, path in paths.items():
            name = model_name(manifest.name, f"{GRAPH}{role}")
            configure = plan_config if role in planned else graph_config
            version = _new_model(stage, name, configure(name, signatures[role], instances))
            if role in planned:
                _place(planned[role], version / "model.plan", written)
            else:
                _place(path, version / "model.onnx", written)
                for data in files[role].data:
                    _place(bundle.directory / data, version / data, written)
        for what, served in served_models(manifest).items():
            name = model_name(manifest.name, what)
            version = _new_model(stage, name, loop_config(name, what, served, instances))
            (version / "model.py").write_text(MODEL_PY, "utf-8")
            (version / GRAPHS).write_text(graphs.to_json(), "utf-8")
            _place_bundle(bundle, version / BUNDLE, written)
        return sorted(path.name for path in stage.iterdir())


def _verified_plans(bundle: Bundle, key: str) -> dict[str, Path]:
    """Role to plan, of the graphs that a set has plans of: of those that invert and render."""
    listed = bundle.manifest.plans.get(key, {})
    roles = [role for role in bundle.manifest.graphs if f"{role}.plan" in listed]
    return {role: bundle.verified_plan(key, role) for role in roles or ["generator"]}


def signature_of(path: Path) -> Signature:
    """Inputs and outputs of an ONNX file; inputs that have a value in the file are none."""
    graph = onnx.load(path, load_external_data=False).graph
    stored = {each.name for each in graph.initializer}

    def specs(values: object) -> dict[str, TensorSpec]:
        return {v.name: _spec(v) for v in values if v.name not in stored}  # type: ignore[attr-defined]

    return Signature(specs(graph.input), specs(graph.output))


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    return TensorSpec(shape, np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)))


def _new_model(stage: Path, name: str, config: str) -> Path:
    version = stage / name / "1"
    version.mkdir(parents=True)
    (stage / name / "config.pbtxt").write_text(config, "utf-8")
    return version


def _place_bundle(bundle: Bundle, directory: Path, written: dict[Path, Path]) -> None:
    """Copy a bundle without its graphs and plans: what the loop reads itself."""
    manifest = bundle.manifest
    of_graphs = {
        name
        for graphs in (manifest.graphs, *manifest.precisions.values())
        for graph in graphs.values()
        for name in (graph.file, *graph.data)
    }
    directory.mkdir()
    _place(bundle.directory / MANIFEST_NAME, directory / MANIFEST_NAME, written)
    for name in manifest.files.keys() - of_graphs:
        _place(bundle.verified_file(name), directory / name, written)


def _place(source: Path, target: Path, written: dict[Path, Path]) -> None:
    """Copy a file into the repository; what is there already under another name is linked to."""
    if source in written:
        try:
            os.link(written[source], target)
            return
        except OSError:  # no links on this file system
            pass
    shutil.copyfile(source, target)
    written.setdefault(source, target)


@contextmanager
def _staged(directory: Path, overwrite: bool) -> Iterator[Path]:
    """A directory whose models are moved into a repository if the block succeeds."""
    directory = directory.resolve()
    beside = directory if os.path.ismount(directory) else directory.parent  # on the same disk
    try:
        if directory.exists() and not directory.is_dir():
            raise HyperStyleError(f"{directory} is no directory; name another --triton")
        with staging_folder(beside) as stage:
            new, old = stage / "models", stage / "replaced"
            new.mkdir()
            old.mkdir()
            yield new
            models = sorted(new.iterdir())
            there = [path for m in models if (path := directory / m.name).exists()]
            if there and not overwrite:
                raise HyperStyleError(
                    f"{there[0]} exists; name another --triton, or replace it with --force"
                )
            directory.mkdir(exist_ok=True)
            _exchange(models, directory, old)
    except OSError as error:
        raise HyperStyleError(f"cannot write {directory}: {reason(error)}") from error


def _exchange(models: list[Path], directory: Path, old: Path) -> None:
    """Move models into a repository; if one cannot be, all are put back where they were.

    So it is if a signal comes between. What is replaced is moved to `old`.
    """
    moves: list[tuple[Path, Path]] = []

    def move(source: Path, target: Path) -> None:
        moves.append((source, target))
        source.rename(target)

    try:
        for model in models:
            target = directory / model.name
            if target.exists():
                move(target, old / model.name)
            move(model, target)
    except BaseException:
        for source, target in reversed(moves):
            if not source.exists():
                target.rename(source)
        raise
