"""What presets and variables need of a bundle: graphs, and a generator with what they change."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import BundleError
from ..formats.manifest import Manifest
from .latent_statistics import MAPPING
from .objective import FEATURES, ROLES
from .presets import DEFAULT_PRESET, Stage, refining_stage
from .terms import ENCODER_TERM
from .variables import VARIABLES


def check_needs(manifest: Manifest, preset: str, stages: Sequence[Stage]) -> None:
    """Refuse stages that change what a generator has not, or that a bundle has no graphs for.

    Parameters
    ----------
    preset:
        That they are of, for the sentence.

    Raises
    ------
    BundleError
        If so.
    """
    missing = missing_graphs(manifest, stages)
    if FEATURES not in missing:
        _check_variables(manifest, preset, stages)
    elif manifest.is_tuned:
        raise BundleError(
            f"bundle {manifest.name!r} takes no gradient steps, as it was exported from an "
            "inversion; take them with the bundle it was exported from, or choose another method"
        )
    if missing:
        raise BundleError(
            f"bundle {manifest.name!r} lacks the graph {', '.join(missing)}, which {preset!r} "
            f"needs; {_remedy(manifest, missing)}choose another method"
        )


def _remedy(manifest: Manifest, missing: Sequence[str]) -> str:
    """What else than another method may help, as a part of a sentence; nothing if nothing does."""
    if FEATURES in missing and manifest.codes is None:  # it was built without what sees
        return (
            "build it with what that is made of (--checkpoint and --w-encoder of HyperStyle, "
            "--refine-lpips for StyleGAN3 and photographs, --refine-vgg16 for IDInvert), or "
        )
    if ENCODER_TERM in missing or not manifest.tuned_layers:  # IDInvert's; kernels are constants
        return "no bundle of its kind has it: "
    return "build it again with this version, or "


def missing_graphs(manifest: Manifest, stages: Sequence[Stage]) -> list[str]:
    """Graphs that stages need and a bundle has not, by name.

    One of the objectives that cover a stage's variables is needed; the cheapest is named.
    """
    needed = {FEATURES}
    for stage in stages:
        kinds = {VARIABLES[name].kind for name in stage.variables if name not in stage.optional}
        roles = [role for role, gives in ROLES.items() if kinds <= gives]
        if not set(roles) & manifest.graphs.keys():
            needed.add(roles[0])
        for name in stage.variables:
            needed |= set(VARIABLES[name].graphs)
        needed |= {ENCODER_TERM} if stage.encoder_term else set()
        needed |= {MAPPING} if stage.prior or stage.disturbed or stage.locality else set()
    return sorted(needed - manifest.graphs.keys())


def _check_variables(manifest: Manifest, preset: str, stages: Sequence[Stage]) -> None:
    for stage in stages:
        for name in stage.variables:
            lacking = VARIABLES[name].lacking(manifest)
            if lacking is None or name in stage.optional:
                continue
            instead = "another method"
            if preset == DEFAULT_PRESET:
                there = [each for each in VARIABLES if _can_change(manifest, each)]
                instead = f"of the variables that it has: {', '.join(there)}"
            raise BundleError(
                f"bundle {manifest.name!r} has no {lacking}, which {preset!r} is to change; choose "
                f"{instead}"
            )


def _can_change(manifest: Manifest, variable: str) -> bool:
    """Whether `refine` can change a variable of a bundle by itself."""
    return VARIABLES[variable].lacking(manifest) is None and not missing_graphs(
        manifest, [refining_stage((variable,), 1)]
    )
