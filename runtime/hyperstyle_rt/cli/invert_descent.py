"""Gradient steps as `invert` is asked for them: after a method of the bundle, or from nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import HyperStyleError
from ..optimising.names import PRESET_LINES
from .invert_options import Descent, InvertRequest

if TYPE_CHECKING:
    from ..batch.results import Settings
    from ..model import Model
    from ..types import Picture


def follow_up(request: InvertRequest, model: Model, method: str) -> tuple[str | None, str | None]:
    """What follows a method: the effort of it, or the preset that is named.

    Of a preset in a method's place that preset; of neither, both None.

    Raises
    ------
    HyperStyleError
        If there is no such method or preset, or what belongs to gradient steps is given without.
    """
    from ..optimising.effort import effort_of, plan_of
    from ..optimising.presets import find_preset

    manifest, search, descent = model.bundle.manifest, request.search, request.descent
    asked = None if descent.effort is None else descent.effort.value
    if asked is not None and descent.then is not None:
        raise HyperStyleError(
            "--effort says what the bundle's own gradient steps do, and --then names others; leave "
            "one of them out"
        )
    if descent.then is not None:
        find_preset(descent.then)
    if method in manifest.methods or method not in PRESET_LINES:
        manifest.method(method or None)  # refuses what is neither
        if descent.then is not None:
            return None, descent.then
        effort = effort_of(asked, search.method, search.iterations, search.until)
        plan = plan_of(manifest, effort)
        if plan is None and replace(descent, effort=None) != Descent():
            raise HyperStyleError(
                "--steps, --variables and --mask are of gradient steps; name these with --then, "
                "--method or --effort best"
            )
        return effort, None if plan is None else plan.preset
    for name, given in (("--then", descent.then), ("--effort", asked)):
        if given is not None:
            raise HyperStyleError(
                f"{name} follows a method of the bundle, and {method!r} takes gradient steps "
                "itself; leave one of them out"
            )
    return None, method


def iterations_of(request: InvertRequest, model: Model, method: str) -> int:
    """Iterations of a method of the bundle; a descent from nothing has none of its own."""
    from ..inverting.inverter import count_iterations

    search, manifest = request.search, model.bundle.manifest
    if method in manifest.methods:
        return count_iterations(manifest, method, search.iterations, search.until)
    if search.iterations is not None or search.until is not None:
        raise HyperStyleError(
            f"--iterations and --until are of methods that iterate, and {method!r} takes gradient "
            "steps; limit these with --steps"
        )
    return 0


def variables_of(listed: str | None) -> tuple[str, ...] | None:
    return None if listed is None else tuple(name.strip() for name in listed.split(","))


def mask_of(request: InvertRequest) -> Picture | str | None:
    """The mask that is named: a picture, or `face`."""
    from ..imaging.pictures import read_picture
    from ..optimising.masks import FACE

    named = request.descent.mask
    return named if named in (None, FACE) else read_picture(named)


def check_descent(settings: Settings, model: Model) -> None:
    """Refuse gradient steps that cannot be taken, before the first picture."""
    from ..optimising.running import Request, check_bundle

    if settings.then is not None:
        request = Request(settings.then, settings.variables, settings.then_steps)
        check_bundle(model.bundle, model.backend, request, _follows_a_method(settings))


def total_steps(settings: Settings) -> int:
    """Iterations and gradient steps of one picture."""
    if settings.then is None:
        return settings.iterations
    from ..optimising.running import Request, stages_of

    request = Request(settings.then, settings.variables, settings.then_steps)
    stages = stages_of(request, _follows_a_method(settings))
    return settings.iterations + sum(stage.steps for stage in stages)


def _follows_a_method(settings: Settings) -> bool:
    """Whether gradient steps start from what a method of the bundle has found."""
    return settings.then != settings.method
