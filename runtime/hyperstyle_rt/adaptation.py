"""Other domains: faces inverted with one bundle, rendered by a fine-tuned generator.

An adapted bundle holds the fine-tuned generator with its own base kernels; latents and offsets are
those of the bundle it was fine-tuned from (docs/spec.md, section 6). The coarse layers' offsets
would undo the new shapes, so only those of the fine layers are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .backends.protocol import Backend
from .backends.registry import open_backend
from .closing import Closable
from .errors import BundleError
from .formats.bundle import Bundle
from .formats.bundle_lookup import find_bundle
from .formats.inversion_fit import check_fits
from .formats.manifest import BASE_PRECISION
from .formats.manifest_entries import BaseBundle
from .free_inputs import Free
from .imaging.pictures import to_picture
from .inversion import Inversion
from .rendering import Renderer
from .types import Array, Picture

KEPT_FROM = 14
"""Offset index of the first layer whose offsets are kept: from 128 pixels up, as published."""

LATENTS_METHOD = "restyle-e4e"
"""Method whose latents are adapted with HyperStyle's offsets, as published; see `with_latents`."""

LATENTS_ITERATIONS = 2
"""How often it iterates there: fewer stay closer to what every generator knows."""


class Adaptation(Closable):
    """An adapted bundle opened on a backend.

    For one thread: open one per thread. Close it, or use it as a context manager, to get its memory
    back.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.base: BaseBundle = _base_of(bundle)
        self.bundle = bundle
        self.backend = backend
        self._renderer = Renderer(bundle.manifest, backend)

    @classmethod
    def load(
        cls,
        path: str | Path,
        backend: str = "auto",
        *,
        threads: int | None = None,
        precision: str = BASE_PRECISION,
        device: int | None = None,
    ) -> Adaptation:
        """Open an adapted bundle; parameters and errors are those of `Model.load`.

        Raises
        ------
        BundleError
            Also if the bundle is no adapted one.
        """
        bundle = Bundle.open(find_bundle(path))
        _base_of(bundle)
        return cls(bundle, open_backend(backend, bundle, threads, precision, device))

    def find_base(self, path: str | Path | None = None) -> Bundle:
        """Find a bundle that inverts for this one: given, beside it, or by its name.

        Raises
        ------
        BundleError
            If it is not there, or what is there is a bundle of another generator.
        """
        beside = self.bundle.directory.resolve().parent / self.base.name
        if path is None and beside.is_dir():
            path = beside
        bundle = Bundle.open(find_bundle(self.base.name if path is None else path))
        space = bundle.manifest.space
        if space != self.base.space:
            raise BundleError(
                f"bundle {self.bundle.manifest.name!r} was adapted from the generator of bundle "
                f"{self.base.name!r} (space {self.base.space[:12]}), and {bundle.directory} has "
                f"another one ({space[:12]}); name the right bundle with --base, or adapt it again"
            )
        return bundle

    def kept_layers(self, first: int | None = KEPT_FROM) -> list[int]:
        """Rows of the offset codes that are kept: of the tuned layers from index `first` on.

        None keeps none: the latents alone are rendered, as StyleAlign translates between domains.
        """
        if first is None:
            return []
        layers = self.bundle.manifest.tuned_layers
        return [row for row, layer in enumerate(layers) if layer.index >= first]

    def draw_noise(self, seed: int) -> dict[str, Array]:
        """Fresh noise for :meth:`render`, the same for the same seed.

        Raises
        ------
        BundleError
            If the bundle has no generator that takes noise.
        """
        return self._renderer.draw_noise(seed)

    def render(
        self,
        inversion: Inversion,
        first: int | None = KEPT_FROM,
        noise: Mapping[str, Array] | None = None,
    ) -> Picture:
        """Render an inversion of the base: uint8 [H,W,3].

        Parameters
        ----------
        first:
            Offset index of the first layer whose offsets are kept; None to keep none.
        noise:
            From :meth:`draw_noise`; None for the stored noise.

        Raises
        ------
        InversionError
            If the inversion is not of the base's space.
        """
        return to_picture(self.synthesise(inversion, first, noise))

    def synthesise(
        self,
        inversion: Inversion,
        first: int | None = KEPT_FROM,
        noise: Mapping[str, Array] | None = None,
    ) -> Array:
        """Like :meth:`render`, as float32 [3,H,W], about [-1,1] and not clamped."""
        check_fits(inversion.data, self.bundle.manifest)
        kept = self.kept_layers(first)
        kernels = self._renderer.kernels(
            _kept_codes(inversion.codes, kept),
            self._kept_channel_offsets(inversion.channel_offsets, kept),
        )
        styles = None if inversion.styles is None else inversion.styles[None]
        free = Free.of(inversion.data)
        latents = inversion.latents[None]
        return next(self._renderer.renderings(latents, kernels, styles, noise, free))

    def close(self) -> None:
        """Give back the memory; further use raises BackendError."""
        self._renderer.release()
        self.backend.close()

    def _kept_channel_offsets(self, offsets: Array | None, kept: list[int]) -> Array | None:
        """Channel offsets [P] of a refined inversion, zero in the layers that are not kept."""
        if offsets is None:
            return None
        shapes = [layer.shape for layer in self.bundle.manifest.tuned_layers]
        bounds = np.cumsum([0, *(shape[0] * shape[1] for shape in shapes)])
        left = np.zeros_like(offsets)
        for row in kept:
            part = slice(bounds[row], bounds[row + 1])
            left[part] = offsets[part]
        return left


def _base_of(bundle: Bundle) -> BaseBundle:
    """The bundle that an adapted one was adapted from."""
    if bundle.manifest.base is None:
        raise BundleError(
            f"bundle {bundle.manifest.name!r} is no adapted one; give one that was built with "
            "build_engines.py --adapt"
        )
    return bundle.manifest.base


def _kept_codes(codes: Array | None, kept: list[int]) -> Array | None:
    """Codes [M,K+1], zero in the rows that are not kept: there the generator's own kernel stays."""
    if codes is None:
        return None
    left = np.zeros_like(codes)
    left[kept] = codes[kept]
    return left
