"""Ways to optimise an inversion: a variable, a loss and a schedule each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..backends.protocol import Backend
from ..errors import BundleError, HyperStyleError, InversionError
from ..formats.manifest import BASE_PRECISION, Manifest
from ..inversion import Inversion
from ..rendering import CHANNEL_OFFSETS, Renderer
from ..types import Picture
from .descent import DEFAULT_STEPS as DEFAULT_STEPS
from .descent import Limits, OnStep, descend
from .losses import FEATURES, OBJECTIVE, PictureLoss
from .variables import CHANNEL_OFFSETS_ADJOINT, VARIABLES, WEIGHTS_ADJOINT

_GRAPHS = {
    "channel_offsets": (OBJECTIVE, FEATURES, CHANNEL_OFFSETS, CHANNEL_OFFSETS_ADJOINT),
    "codes": (OBJECTIVE, FEATURES, WEIGHTS_ADJOINT),
}
"""What a bundle must have for a variable to be refined."""


def refine(
    inversion: Inversion,
    picture: Picture,
    manifest: Manifest,
    renderer: Renderer,
    backend: Backend,
    limits: Limits,
    variable: str = "channel_offsets",
    on_step: OnStep | None = None,
) -> Inversion:
    """Change the offsets of an inversion so that it renders a picture more closely.

    The latents stay: pivotal tuning's idea (Roich et al. 2021) on HyperStyle's offsets.

    Parameters
    ----------
    inversion:
        Of this bundle's space; refined before or not.
    picture:
        uint8 [H,W,3], what was inverted.
    variable:
        One of :data:`VARIABLES`.
    on_step:
        Called before the first step and after every one.

    Returns
    -------
    An inversion without its rendering.

    Raises
    ------
    HyperStyleError
        If there is no such variable, the inversion's styles are edited, the backend runs graphs
        of another precision than fp32, or the bundle was built without the graphs.
    """
    if variable not in VARIABLES:
        raise HyperStyleError(
            f"there is no variable {variable!r} to refine; choose {' or '.join(VARIABLES)}"
        )
    if inversion.styles is not None:
        raise InversionError("styles are edited; refine the inversion before the edit")
    if backend.graph_precision != BASE_PRECISION:
        raise HyperStyleError(
            f"gradients need {BASE_PRECISION} graphs, not {backend.graph_precision}; open the "
            f"bundle with --precision {BASE_PRECISION} to refine"
        )
    if not set(_GRAPHS[variable]) <= manifest.graphs.keys():
        raise BundleError(
            f"bundle {manifest.name!r} has no graphs to refine inversions; build it again with "
            "this version"
        )
    refined = VARIABLES[variable](inversion.data, manifest, renderer, backend)
    loss = PictureLoss(inversion.latents, picture, backend)
    value = descend(refined, loss, limits, on_step=on_step)
    data = replace(
        refined.result(inversion.data, value),
        settings=_with_refinement(inversion.data.settings, variable, limits),
    )
    return replace(inversion, data=data)


def _with_refinement(settings: Any, variable: str, limits: Limits) -> dict[str, Any]:
    """The settings of an inversion, with this refinement added to those before."""
    this = {
        "variable": variable,
        "steps": limits.steps,
        "seconds": limits.seconds,
        "until": limits.until,
    }
    this = {name: value for name, value in this.items() if value is not None}
    return {**settings, "refine": [*settings.get("refine", ()), this]}
