"""One method of a bundle or all of them: what is inverted how, and where the results go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from ..errors import HyperStyleError
from .invert_descent import follow_up, iterations_of, variables_of
from .invert_options import InvertRequest

if TYPE_CHECKING:
    from ..batch.results import Settings
    from ..batch.run import Task
    from ..model import Model
    from ..types import Picture

ALL_METHODS = "all"


def all_settings(
    request: InvertRequest, model: Model, mask: Picture | str | None
) -> list[Settings]:
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
        return [_settings(request, model, name, request.written.coupled, mask)]
    if not manifest.methods:
        manifest.method(None)  # says what the bundle is for
    if request.written.save_steps:
        raise HyperStyleError("--save-steps goes with one method, not with all; leave it out")
    *others, last = manifest.methods
    settings = [
        _settings(_suited(request, model, name), model, name, False, mask) for name in others
    ]
    request = _suited(request, model, last)
    return [*settings, _settings(request, model, last, request.written.coupled, mask)]


def tasks_of_methods(
    request: InvertRequest, tasks: Sequence[Task], settings: Sequence[Settings]
) -> list[tuple[Settings, list[Task]]]:
    """The tasks of every method; where all are asked for, files have the names of methods."""
    if request.search.method != ALL_METHODS:
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


def _settings(
    request: InvertRequest, model: Model, method: str, coupled: bool, mask: Picture | str | None
) -> Settings:
    from ..batch.results import Settings

    written, search, photos = request.written, request.search, request.photos
    descent = request.descent
    effort, then = follow_up(request, model, method)
    return Settings(
        bundle=model.bundle.digest,
        method=method,
        precision=request.running.precision,
        iterations=iterations_of(request, model, method),
        until=search.until,
        align=photos.align.value,
        face=photos.face,
        steps=written.save_steps,
        coupled=coupled,
        inversion=written.save_inversion or written.export_bundle is not None,
        paste=photos.paste,
        unaligned=photos.unaligned,
        effort=effort,
        then=then,
        then_steps=descent.steps,
        variables=variables_of(descent.variables),
        mask=mask if mask is None or isinstance(mask, str) else sha256(mask.tobytes()).hexdigest(),
    )
