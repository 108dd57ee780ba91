"""An inversion as callers hold it: what its file stores, and the picture that came with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InversionError
from .files import write_atomically
from .formats.inversion_file import (
    HALVES,
    InversionData,
    parse_inversion,
    read_inversion,
    serialize_inversion,
)
from .imaging.pictures import to_picture
from .types import Array, Picture


@dataclass(frozen=True, eq=False)
class Inversion:
    """A picture in the terms of a generator: latents, and what changes its kernels.

    Attributes
    ----------
    data:
        What an inversion file holds.
    output:
        Rendering, float32 [3,H,W], about [-1,1], not clamped; None when read from a file.
    styles:
        float32 [S], what edits add to the styles of all layers; None without such edits.
    """

    data: InversionData
    output: Array | None = None
    styles: Array | None = None

    @property
    def latents(self) -> Array:
        """Latents, float32 [L,W]."""
        return self.data.latents

    @property
    def codes(self) -> Array | None:
        """Offset codes, float32 [M,K+1]; None for an inversion that needs none.

        HyperStyle's last column counts the iterations that were summed up.
        """
        return self.data.codes

    @property
    def channel_offsets(self) -> Array | None:
        """Channel offsets of a refined inversion, float32 [P]; None for none."""
        offsets = self.data.channel_offsets
        return None if offsets is None else offsets.astype(np.float32)

    @property
    def iterations(self) -> int:
        """How many iterations its method did."""
        return self.data.iterations

    @property
    def method(self) -> str:
        """Name of the method that found it, in its bundle's manifest."""
        return self.data.method

    @property
    def settings(self) -> Mapping[str, Any]:
        """With what it was found: ``iterations``, ``until``, ``optimise``, ``edits``."""
        return self.data.settings

    @property
    def computed(self) -> Mapping[str, Any]:
        """What computed it: ``backend``, ``provider`` and ``precision``."""
        return self.data.computed

    @property
    def image(self) -> Picture:
        """Rendering, uint8 [H,W,3] RGB, truncated as in the original.

        Raises
        ------
        InversionError
            If the inversion was read from a file: `model.render(inversion)` renders it.
        """
        if self.output is None:
            raise InversionError(
                "an inversion read from a file has no picture; render it with "
                "model.render(inversion)"
            )
        return to_picture(self.output)

    def save(self, path: str | Path) -> None:
        """Write an inversion file (.safetensors), replacing one of that name as a whole.

        Raises
        ------
        InversionError
            If the file cannot be written, or if styles are edited: it has no place for them.
        """
        write_atomically(Path(path), self.to_bytes(), InversionError)

    def to_bytes(self) -> bytes:
        """Make the content of an inversion file; the same inversion gives the same bytes.

        Raises
        ------
        InversionError
            If styles are edited: the file has no place for them.
        """
        if self.styles is not None:
            raise InversionError(
                "an inversion file holds no edits of styles; save the picture, or the inversion "
                "before the edit"
            )
        return serialize_inversion(self.data)

    def with_latents(self, other: Inversion) -> Inversion:
        """These weight offsets on the latents of another inversion of the same picture.

        So HyperStyle adapts to other domains: latents of ReStyle-e4e, which are closer to what the
        generator was trained on, and offsets of HyperStyle.

        Returns
        -------
        Without a rendering.

        Raises
        ------
        InversionError
            If they are not of one generator.
        """
        self._check_space(other)
        settings = {**self.settings, "latents": other.method}
        data = replace(self.data, latents=other.latents, settings=settings)
        return Inversion(data, None, self.styles)

    def with_steps_of(self, other: Inversion | None) -> Inversion:
        """These latents and codes, with what gradient steps have found beside them for another.

        So steps for a picture much like another one begin where those for that one have ended.

        Returns
        -------
        Without a rendering where anything was taken over; itself for None.

        Raises
        ------
        InversionError
            If they are not of one generator.
        """
        if other is None:
            return self
        self._check_space(other)
        taken = {name: getattr(other.data, name) for name in HALVES}
        taken = {name: value for name, value in taken.items() if value is not None}
        if not taken:
            return self
        return Inversion(replace(self.data, **taken), None, self.styles)

    def _check_space(self, other: Inversion) -> None:
        if other.data.space != self.data.space:
            raise InversionError(
                f"the inversions are of two generators (space {self.data.space[:12]} and "
                f"{other.data.space[:12]}), so that what is found for one means something else to "
                "the other; invert the picture with bundles of one generator"
            )

    @classmethod
    def load(cls, path: str | Path) -> Inversion:
        """Read an inversion file; no bundle is needed for it.

        Raises
        ------
        InversionError
            If the file is missing, damaged, or needs what this version does not know.
        """
        return cls(read_inversion(path))

    @classmethod
    def from_bytes(cls, content: bytes) -> Inversion:
        """Read the content of an inversion file.

        Raises
        ------
        InversionError
            As :meth:`load`.
        """
        return cls(parse_inversion(content))
