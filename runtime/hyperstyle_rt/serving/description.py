"""What a client is told of the bundle that is served."""

from __future__ import annotations

from pathlib import Path

from ..errors import PictureError
from ..imaging.films import FILM_SUFFIXES, check_film
from ..optimising.needs import missing_graphs
from ..optimising.presets import PRESETS
from . import schemas
from .service import Service


def describe_bundle(service: Service) -> schemas.BundleDocument:
    """Its methods, gradient steps and directions, and what can be written here."""
    manifest = service.bundle.manifest
    methods = [
        schemas.MethodDocument(
            name=name, iterations=method.iterations, is_default=name == manifest.default_method
        )
        for name, method in manifest.methods.items()
    ]
    height, width = manifest.image_size
    return schemas.BundleDocument(
        name=manifest.name,
        digest=service.bundle.digest,
        domain=manifest.domain,
        license=manifest.license,
        height=height,
        width=width,
        methods=methods,
        gradient_steps=[
            name for name, each in PRESETS.items() if not missing_graphs(manifest, each.stages)
        ],
        then=manifest.then,
        directions=[
            schemas.DirectionDocument(name=name, unit=direction.unit)
            for name, direction in service.directions.items()
        ],
        adapted=list(service.settings.model.adapted),
        films=[suffix[1:] for suffix in FILM_SUFFIXES if _can_write(suffix)],
    )


def _can_write(suffix: str) -> bool:
    try:
        check_film(Path(f"film{suffix}"))
    except PictureError:
        return False
    return True
