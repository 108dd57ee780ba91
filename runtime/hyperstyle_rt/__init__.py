"""GAN inversion at run time, without PyTorch.

>>> from hyperstyle_rt import Model
>>> model = Model.load()                      # the embedded default bundle, of photographs
>>> inversion = model.invert("photo.jpg")
>>> inversion.save("photo.safetensors")

Importing this package is instant: numpy and ONNX Runtime are loaded when a name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .adaptation import Adaptation
    from .batch.run import invert_many
    from .errors import (
        BackendError,
        BundleError,
        EditError,
        HyperStyleError,
        InversionError,
        PictureError,
    )
    from .formats.bundle import Bundle
    from .inversion import Inversion
    from .model import Model
    from .operations import DeviceInversion
    from .photos.portraits import Portrait, find_portraits, paste
    from .session import Session
    from .transforms import unaligned_transform

_HOMES = {
    "Adaptation": "adaptation",
    "BackendError": "errors",
    "Bundle": "formats.bundle",
    "BundleError": "errors",
    "DeviceInversion": "operations",
    "EditError": "errors",
    "HyperStyleError": "errors",
    "Inversion": "inversion",
    "InversionError": "errors",
    "Model": "model",
    "PictureError": "errors",
    "Portrait": "photos.portraits",
    "Session": "session",
    "find_portraits": "photos.portraits",
    "invert_many": "batch.run",
    "paste": "photos.portraits",
    "unaligned_transform": "transforms",
}

__all__ = [
    "Adaptation",
    "BackendError",
    "Bundle",
    "BundleError",
    "DeviceInversion",
    "EditError",
    "HyperStyleError",
    "Inversion",
    "InversionError",
    "Model",
    "PictureError",
    "Portrait",
    "Session",
    "find_portraits",
    "invert_many",
    "paste",
    "unaligned_transform",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
