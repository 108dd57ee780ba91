"""An inversion as callers hold it: what its file stores, and the picture that came with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import BundleError, InversionError
from .formats.bundle import Bundle, find_bundle
from .formats.inversion_file import InversionData, read_inversion, write_inversion
from .imaging.pictures import to_picture
from .types import Array, Picture


@dataclass(frozen=True)
class Inversion:
    """A picture as latents and offset codes of one bundle.

    Attributes
    ----------
    data:
        What an inversion file holds.
    output:
        Reconstruction, float32 [3,H,W], about [-1,1], not clamped; None when read from a file.
    styles:
        float32 [S], what edits add to the styles of all layers; None without such edits.
    """

    data: InversionData
    output: Array | None = None
    styles: Array | None = None

    @property
    def latents(self) -> Array:
        """w+ latents, float32 [L,W]."""
        return self.data.latents

    @property
    def codes(self) -> Array:
        """Accumulated offset codes, float32 [M,K+1]; the last column counts the iterations."""
        return self.data.codes

    @property
    def channels(self) -> Array | None:
        """Free offsets of a refined inversion, float32 [P]; None for none."""
        return None if self.data.channels is None else self.data.channels.astype(np.float32)

    @property
    def iterations(self) -> int:
        """How many iterations the codes sum up."""
        return self.data.iterations

    @property
    def image(self) -> Picture:
        """Reconstruction, uint8 [H,W,3] RGB, truncated as in the original.

        Raises
        ------
        InversionError
            If the inversion was read from a file: `model.render(inversion)` makes the picture.
        """
        if self.output is None:
            raise InversionError(
                "an inversion read from a file has no picture; make it with model.render(inversion)"
            )
        return to_picture(self.output)

    def save(self, path: str | Path) -> None:
        """Write an inversion file (.safetensors), replacing one of that name as a whole.

        Raises
        ------
        InversionError
            If the file cannot be written, or if styles are edited: it has no place for them.
        """
        if self.styles is not None:
            raise InversionError(
                "an inversion file holds no edits of styles; save the picture, or the inversion "
                "before the edit"
            )
        write_inversion(path, self.data, _latent_averages.get(self.data.bundle_digest))

    @classmethod
    def load(cls, path: str | Path) -> Inversion:
        """Read an inversion file.

        A file stores its latents relative to its bundle's average where it can: the bundle must
        have been opened in this process, or be found under its name.

        Raises
        ------
        InversionError
            If the file is missing, damaged, or of a bundle that is not at hand.
        """
        return cls(read_inversion(path, _latent_average_of))


_latent_averages: dict[str, Array] = {}
"""Bundle digest -> average latent [L,W] of the bundles opened in this process."""


def _latent_average_of(bundle_name: str, bundle_digest: str) -> Array | None:
    """The average latent of the bundle an inversion file names; None if it is not at hand."""
    if bundle_digest not in _latent_averages:
        try:
            bundle = Bundle.open(find_bundle(bundle_name))
        except BundleError:
            return None
        remember_latent_average(bundle)
    return _latent_averages.get(bundle_digest)


def remember_latent_average(bundle: Bundle) -> None:
    """Have the average latent of an opened bundle at hand for its inversion files."""
    average = bundle.latent_average()
    if average is not None:
        _latent_averages[bundle.digest] = average
