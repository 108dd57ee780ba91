"""Whether a bundle can render an inversion: spaces, and the shapes of what it holds."""

from __future__ import annotations

from ..errors import InversionError
from .inversion_file import InversionData
from .manifest import Manifest


def check_fits(data: InversionData, manifest: Manifest) -> None:
    """Refuse an inversion that a bundle cannot render.

    Parameters
    ----------
    manifest:
        Of the bundle; an adapted one renders the inversions of its base.

    Raises
    ------
    InversionError
        If it belongs to another generator, has another shape, or codes that the bundle does not
        know.
    """
    _check_spaces(data, manifest)
    _check_free(data, manifest)
    for name, shape in _shapes(manifest).items():
        array = getattr(data, name)
        if array is not None and array.shape != shape:
            raise InversionError(
                f"the inversion of bundle {data.bundle_name!r} has {name} of shape "
                f"{list(array.shape)} where bundle {manifest.name!r} has {list(shape)}, so it is "
                "damaged; invert the picture again"
            )


def _shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Shapes of what an inversion of a bundle holds."""
    optional, parametric = manifest.optional_inputs, manifest.parametric_inputs
    codes = 0 if manifest.codes is None else manifest.codes.width
    shapes: dict[str, tuple[int, ...]] = {
        "codes": (len(manifest.tuned_layers), codes),
        "latents": (manifest.num_latents, manifest.latent_width),
        "channel_offsets": (manifest.num_channel_offsets,),
    }
    if optional is not None:
        shapes["noise"] = (sum(layer.side**2 for layer in optional.noise),)
    if parametric is not None:
        shapes["weights"] = (parametric.num_weights,)
        shapes["features"] = parametric.feature.shape
    return shapes


def _check_free(data: InversionData, manifest: Manifest) -> None:
    """Refuse noise, weights and features for a bundle that has no graph that takes them."""
    missing = {
        "noise": manifest.optional_inputs is None,
        "weights": manifest.parametric_inputs is None or manifest.base is not None,
        "features": manifest.parametric_inputs is None,
    }
    for name, is_missing in missing.items():
        if is_missing and getattr(data, name) is not None:
            why = (
                "an adapted generator has its own" if manifest.base else "it has no graph for them"
            )
            raise InversionError(
                f"the inversion of bundle {data.bundle_name!r} needs {name}, and bundle "
                f"{manifest.name!r} cannot render it: {why}; render it with its own bundle, "
                "built with this version"
            )


def _check_spaces(data: InversionData, manifest: Manifest) -> None:
    name, made_with = manifest.name, f"was made with bundle {data.bundle_name!r}"
    if data.space != manifest.inversion_space:
        base = manifest.base
        wanted = name if base is None else base.name
        renders = "" if base is None else f", which renders inversions of bundle {base.name!r}"
        raise InversionError(
            f"the inversion {made_with} (space {data.space[:12]}) and does not fit bundle "
            f"{name!r}{renders} (space {manifest.inversion_space[:12]}); name its own bundle, or "
            f"invert the picture with bundle {wanted!r}"
        )
    if data.codes is not None and manifest.codes is None:
        raise InversionError(
            f"the inversion {made_with} and needs codes, which bundle {name!r} does not know; name "
            "a bundle that was built from the same hypernetwork"
        )
    if manifest.codes is not None and data.code_space not in (None, manifest.codes.space):
        raise InversionError(
            f"the inversion {made_with} and its codes (code space {str(data.code_space)[:12]}) are "
            f"not those of bundle {name!r} ({manifest.codes.space[:12]}); name a bundle that was "
            "built from the same hypernetwork"
        )
