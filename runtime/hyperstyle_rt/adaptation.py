"""Other domains: faces inverted with one bundle, rendered by a fine-tuned generator (spec 6).

An adapted bundle holds the fine-tuned generator with its own base weights; latents and offset
codes are those of the bundle it was fine-tuned from. The coarse layers' offsets would undo the new
shapes, so only those of the fine layers are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .backends.protocol import Backend
from .backends.registry import open_backend
from .errors import BundleError, InversionError
from .formats.bundle import Bundle, find_bundle
from .formats.manifest import BASE_PRECISION, BaseBundle
from .imaging.pictures import to_picture
from .inversion import Inversion
from .rendering import Renderer
from .types import Array, Picture

KEPT_FROM = 14
"""Offset index of the first layer whose offsets are kept: from 128 pixels up, as published."""


class Adaptation:
    """An adapted bundle opened on a backend. Not thread-safe: open one per thread."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        if bundle.manifest.base is None:
            raise BundleError(
                f"bundle {bundle.manifest.name!r} is no adapted one; give one that was built with "
                "build_engines.py --adapt"
            )
        self.bundle = bundle
        self.backend = backend
        self.base: BaseBundle = bundle.manifest.base
        self._renderer = Renderer(bundle.manifest, backend)

    @classmethod
    def load(
        cls,
        path: str | Path,
        backend: str = "auto",
        *,
        threads: int | None = None,
        precision: str = BASE_PRECISION,
    ) -> Adaptation:
        """Open an adapted bundle; parameters and errors are those of `Model.load`.

        Raises
        ------
        BundleError
            Also if the bundle is no adapted one.
        """
        bundle = Bundle.open(find_bundle(path))
        return cls(bundle, open_backend(backend, bundle, threads, precision))

    def find_base(self, path: str | Path | None = None) -> Bundle:
        """Find the bundle that inverts for this one: given, beside it, or by its name.

        Raises
        ------
        BundleError
            If it is not there, or another one of that name is.
        """
        beside = self.bundle.directory.resolve().parent / self.base.name
        if path is None and beside.is_dir():
            path = beside
        bundle = Bundle.open(find_bundle(self.base.name if path is None else path))
        if bundle.digest != self.base.digest:
            raise BundleError(
                f"bundle {self.bundle.manifest.name!r} was adapted from a bundle "
                f"{self.base.name!r} ({self.base.digest[:12]}), and {bundle.directory} is another "
                f"one ({bundle.digest[:12]}); name the right one with --base, or adapt it again"
            )
        return bundle

    def kept_layers(self, first: int = KEPT_FROM) -> list[int]:
        """Rows of the offset codes that are kept: of the tuned layers from index `first` on."""
        layers = self.bundle.manifest.tuned_layers
        return [row for row, layer in enumerate(layers) if layer.index >= first]

    def draw_noise(self, seed: int) -> dict[str, Array]:
        """Fresh noise for :meth:`render`, the same for the same seed.

        Raises
        ------
        BundleError
            If the bundle's generator takes no noise.
        """
        return self._renderer.draw_noise(seed)

    def render(
        self,
        inversion: Inversion,
        first: int = KEPT_FROM,
        noise: Mapping[str, Array] | None = None,
    ) -> Picture:
        """Render an inversion of the base: uint8 [H,W,3].

        Parameters
        ----------
        first:
            Offset index of the first layer whose offsets are kept.
        noise:
            From :meth:`draw_noise`; None for the stored noise.

        Raises
        ------
        InversionError
            If the inversion was made with another bundle.
        """
        return to_picture(self.synthesise(inversion, first, noise))

    def synthesise(
        self,
        inversion: Inversion,
        first: int = KEPT_FROM,
        noise: Mapping[str, Array] | None = None,
    ) -> Array:
        """Like :meth:`render`, as float32 [3,H,W], about [-1,1] and not clamped."""
        data = inversion.data
        if data.bundle_digest != self.base.digest:
            raise InversionError(
                f"the inversion was made with bundle {data.bundle_name!r} "
                f"({data.bundle_digest[:12]}), and bundle {self.bundle.manifest.name!r} renders "
                f"those of {self.base.name!r} ({self.base.digest[:12]}); invert the picture with it"
            )
        codes = np.zeros_like(data.codes)  # a row of zeros gives the generator's own weights
        kept = self.kept_layers(first)
        codes[kept] = data.codes[kept]
        weights = self._renderer.face(codes, self._kept_channels(inversion.channels, kept))
        styles = None if inversion.styles is None else inversion.styles[None]
        return next(self._renderer.images(data.latents[None], weights, styles, noise))

    def _kept_channels(self, channels: Array | None, kept: list[int]) -> Array | None:
        """Free offsets [P] of a refined inversion, zero in the layers that are not kept."""
        if channels is None:
            return None
        shapes = [layer.shape for layer in self.bundle.manifest.tuned_layers]
        bounds = np.cumsum([0, *(shape[0] * shape[1] for shape in shapes)])
        left = np.zeros_like(channels)
        for row in kept:
            part = slice(bounds[row], bounds[row + 1])
            left[part] = channels[part]
        return left
