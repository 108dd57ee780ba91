"""TensorRT plans of a bundle's graphs, written beside them and listed in its manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hyperstyle_rt.backends.plans.build import (
    BuiltPlan,
    EngineError,
    EngineOptions,
    Target,
    build_plan,
)
from hyperstyle_rt.files import sha256, write_atomically
from hyperstyle_rt.formats.bundle import PLANS_DIRECTORY, Bundle
from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.formats.manifest_entries import BundleFile

from ..bundles.writer import OnProgress, write_manifest
from ..methods import GRAPHS
from .epcontext import ep_context_model


def add_plans(
    bundle: Bundle,
    target: Target,
    precision: str,
    options: EngineOptions,
    on_progress: OnProgress,
) -> tuple[Bundle, dict[str, BuiltPlan]]:
    """Build plans of a bundle's graphs in a precision and list them in its manifest.

    Of the graphs that invert and render; those that edit styles or refine are built where they are
    first used.

    Beside each lies `<role>.onnx`, through which ONNX Runtime's TensorRT provider loads it; not
    with those of TensorRT-RTX, which that provider cannot load.

    Returns
    -------
    The bundle reopened, and role -> plan.

    Raises
    ------
    EngineError
        If a graph cannot be built; the manifest then is as before.
    """
    key = target.key(precision)
    directory = bundle.directory / PLANS_DIRECTORY / key
    directory.mkdir(parents=True, exist_ok=True)
    listed, plans = {}, {}
    for role in planned_roles(bundle.manifest):
        graph = bundle.verified_path(role, precision)
        step = _prefixed(f"{role} {precision}: ", on_progress)
        plan = directory / f"{role}.plan"
        built = plans[role] = build_plan(target, graph, role, plan, options, step)
        listed[plan.name] = BundleFile(built.sha256, built.size, precision)
        contents = {}
        if target.capability is None:
            model = ep_context_model(graph, plan.name, target.sm, target.version)
            contents[f"{role}.onnx"] = model.SerializeToString()
        if built.report is not None:
            contents[f"{role}.layers.json"] = built.report.encode()
        for name, content in contents.items():
            write_atomically(directory / name, content, EngineError)
            listed[name] = BundleFile(sha256(directory / name), len(content), precision)
    manifest = replace(bundle.manifest, plans={**bundle.manifest.plans, key: listed})
    write_manifest(bundle.directory, manifest)
    return Bundle.open(bundle.directory), plans


def planned_roles(manifest: Manifest) -> list[str]:
    """Roles of the graphs that invert and render, those of every method among them."""
    phases = (phase.graph for method in manifest.methods.values() for phase in method.phases)
    return [role for role in dict.fromkeys((*phases, *GRAPHS)) if role in manifest.graphs]


def _prefixed(prefix: str, on_progress: OnProgress) -> Callable[[str], None]:
    return lambda step: on_progress(prefix + step)
