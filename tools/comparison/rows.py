"""The rows of the table: methods of a bundle, gradient descents, and one after the other.

A row is named as it is asked for: ``hyperstyle``, ``hyperstyle@0`` (no iterations: what they begin
with), ``pti`` (from nothing), ``hyperstyle+pti`` (from what the method finds).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.model import Model
from hyperstyle_rt.optimising.presets import PRESETS
from hyperstyle_rt.optimising.running import Request, check_bundle, stages_of

from .errors import ComparisonError

ALL = "all"
ALONE = "@0"
TUNED = "pti"  # the one preset that is of use both from nothing and from a method's latents


@dataclass(frozen=True)
class Row:
    """One way to invert.

    Attributes
    ----------
    name:
        As it is asked for.
    method:
        Of the bundle; None for a descent from nothing.
    iterations:
        None for the method's own number.
    preset:
        The descent that follows, or that is all; None for none.
    steps:
        Of the descent in all; 0 without one.
    limit:
        It takes so many pictures, the first ones; None for all.
    """

    name: str
    method: str | None
    iterations: int | None = None
    preset: str | None = None
    steps: int = 0
    limit: int | None = None


def parse_rows(text: str, model: Model) -> tuple[list[Row], list[str]]:
    """Read ``hyperstyle@0,hyperstyle,pti``, or ``all``.

    Returns
    -------
    rows:
        In the order named, with their published numbers of steps.
    left_out:
        Of ``all``: a sentence for every descent that the bundle lacks the graphs for.

    Raises
    ------
    ComparisonError
        If a name is none of a row, or is given twice.
    HyperStyleError
        If the bundle cannot run a row that is named.
    """
    if text != ALL:
        names = [part.strip() for part in text.split(",")]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ComparisonError(f"--methods names {twice[0]!r} twice; name it once")
        rows = [_parse(name, model.bundle.manifest) for name in names]
        for row in rows:
            _check(row, model)
        return [replace(row, steps=_published(row)) for row in rows], []
    rows, left_out = [], []
    for row in _every_row(model.bundle.manifest):
        try:
            _check(row, model)
        except HyperStyleError as error:
            left_out.append(f"{row.name} is left out: {error}")
        else:
            rows.append(replace(row, steps=_published(row)))
    return rows, left_out


def scaled(rows: Sequence[Row], scale: float, steps: Mapping[str, int]) -> list[Row]:
    """Rows with other numbers of steps: by name, else the published ones times `scale`.

    Raises
    ------
    ComparisonError
        If a number is given to what takes no steps, or is not one of the rows.
    """
    _check_names(rows, steps, "--steps")
    without = [row.name for row in rows if row.name in steps and row.preset is None]
    if without:
        raise ComparisonError(f"{without[0]} takes no gradient steps; leave out its --steps")
    return [
        replace(row, steps=steps.get(row.name, max(2, round(row.steps * scale))))
        if row.preset is not None
        else row
        for row in rows
    ]


def limited(rows: Sequence[Row], limits: Mapping[str, int]) -> list[Row]:
    """Rows of which some take fewer pictures; ComparisonError for a name that is no row."""
    _check_names(rows, limits, "--limit")
    return [replace(row, limit=limits.get(row.name)) for row in rows]


def _check_names(rows: Sequence[Row], given: Mapping[str, int], option: str) -> None:
    names = [row.name for row in rows]
    for name in given:
        if name not in names:
            raise ComparisonError(f"{option} names {name!r}, which is not among {', '.join(names)}")


def _every_row(manifest: Manifest) -> list[Row]:
    rows = []
    for name, method in manifest.methods.items():
        if method.iterating_phase is not None:
            rows.append(Row(name + ALONE, name, 0))
        rows.append(Row(name, name))
    default = manifest.default_method
    for name, preset in PRESETS.items():
        if not preset.needs_inversion:
            rows.append(Row(name, None, preset=name))
        if preset.needs_inversion or name == TUNED:
            rows.append(Row(f"{default}+{name}", default, preset=name))
    return rows


def _parse(name: str, manifest: Manifest) -> Row:
    if name in manifest.methods:
        return Row(name, name)
    if name in PRESETS:
        if not PRESETS[name].needs_inversion:
            return Row(name, None, preset=name)
        default = manifest.default_method
        return Row(f"{default}+{name}", default, preset=name)
    method, found, preset = name.rpartition("+")
    if found and preset in PRESETS:
        return Row(name, *_method(method, manifest), preset)
    return Row(name, *_method(name, manifest))


def _method(text: str, manifest: Manifest) -> tuple[str, int | None]:
    """Read ``hyperstyle`` or ``hyperstyle@3``."""
    name, found, number = text.partition("@")
    known = name in manifest.methods
    if not known or (found and not number.isdecimal()):
        there_are = ", ".join([*manifest.methods, *PRESETS])
        raise ComparisonError(
            f"there is no method {text!r}; name METHOD, METHOD@ITERATIONS, PRESET or "
            f"METHOD+PRESET, of {there_are}"
        )
    if not found:
        return name, None
    if manifest.methods[name].iterating_phase is None:
        raise ComparisonError(f"{name} does not iterate; leave out @{number}")
    return name, int(number)


def _check(row: Row, model: Model) -> None:
    if row.preset is not None:
        request = Request(row.preset)
        check_bundle(model.bundle, model.backend, request, row.method is not None)


def _published(row: Row) -> int:
    if row.preset is None:
        return 0
    return sum(stage.steps for stage in stages_of(Request(row.preset), row.method is not None))
