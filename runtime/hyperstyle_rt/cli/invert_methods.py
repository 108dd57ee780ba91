"""One method of a bundle or all of them: what is inverted how, and where the results go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import HyperStyleError
from .invert_options import InvertRequest

if TYPE_CHECKING:
    from ..batch.results import Settings
    from ..batch.run import Task
    from ..model import Model

ALL_METHODS = "all"


def all_settings(request: InvertRequest, model: Model) -> list[Settings]:
    """What tells one result from another, for every method that is asked for.

    With all methods, numbers of iterations hold for those that iterate, and what is written side by
    side are the methods: the last one writes it.

    Raises
    ------
    HyperStyleError
        If there is no such method, or a number is given to one that does not iterate.
    """
    manifest, search = model.bundle.manifest, request.search
    if search.method != ALL_METHODS:
        name = search.method or manifest.default_method or ""
        return [_settings(request, model, name, request.written.coupled)]
    if not manifest.methods:
        manifest.method(None)  # says what the bundle is for
    if request.written.steps:
        raise HyperStyleError("--steps goes with one method, not with all; leave it out")
    *others, last = manifest.methods
    settings = [_settings(_suited(request, model, name), model, name, False) for name in others]
    request = _suited(request, model, last)
    return [*settings, _settings(request, model, last, request.written.coupled)]


def tasks_of_methods(
    tasks: Sequence[Task], settings: Sequence[Settings]
) -> list[tuple[Settings, list[Task]]]:
    """The tasks of every method; of several, each has its name in those of its files."""
    if len(settings) == 1:
        return [(settings[0], list(tasks))]
    methods = [each.method for each in settings]
    return [(each, [_of_method(task, each.method, methods) for task in tasks]) for each in settings]


def _of_method(task: Task, method: str, methods: Sequence[str]) -> Task:
    from ..batch.results import Comparison

    def named(name: str) -> str:
        return f"{target.stem}.{name}"

    target = task.target
    comparison = None
    if method == methods[-1]:
        others = tuple(replace(target, stem=named(name)) for name in methods[:-1])
        comparison = Comparison(target.stem, others)
    return replace(task, target=replace(target, stem=named(method), comparison=comparison))


def _suited(request: InvertRequest, model: Model, method: str) -> InvertRequest:
    """The request without what a method that does not iterate would refuse."""
    if model.bundle.manifest.method(method).iterating_phase is not None:
        return request
    return replace(request, search=replace(request.search, iterations=None, until=None))


def _settings(request: InvertRequest, model: Model, method: str, coupled: bool) -> Settings:
    from ..batch.results import Settings
    from ..inverting.inverter import count_iterations

    written, search, photos = request.written, request.search, request.photos
    manifest = model.bundle.manifest
    return Settings(
        bundle=model.bundle.digest,
        method=method,
        precision=request.running.precision,
        iterations=count_iterations(manifest, method or None, search.iterations, search.until),
        until=search.until,
        align=photos.align.value,
        face=photos.face,
        steps=written.steps,
        coupled=coupled,
        inversion=written.save_inversion,
        paste=photos.paste,
        refine=search.refine,
        refine_variable=search.refine_variable.value,
    )
