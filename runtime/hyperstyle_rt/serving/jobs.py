"""What the workers of a service do, one job each: invert, edit, interpolate, adapt.

Jobs and their results go between processes of one service, pickled by Python.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import HyperStyleError
from ..formats.manifest import Manifest
from ..imaging.films import FILM_SUFFIXES, open_film
from ..imaging.pictures import check_picture, encode_picture, resize_bilinear, to_picture
from ..inversion import Inversion
from ..inverting.preparing import Crop, one_crop
from ..types import Array, Picture
from .desk import Desk

PICTURE_FORMATS = ("png", "jpeg", "webp")
FILM_FORMATS = tuple(suffix[1:] for suffix in FILM_SUFFIXES)

PREVIEW_SIDE = 512
"""Longest side of the pictures that tell how an inversion goes on."""

PREVIEWS_A_DESCENT = 24
"""How many of a descent's steps come with a picture."""


@dataclass(frozen=True)
class Progress:
    """What is told while a picture is inverted.

    Attributes
    ----------
    kind:
        ``crop``, ``iteration`` or ``step``.
    number:
        Of the iteration or gradient step, from 1.
    picture:
        JPEG of the crop, or of the rendering; None for most gradient steps.
    loss:
        Of a gradient step.
    notice:
        A sentence for the user, where no face was found.
    """

    kind: str
    number: int = 0
    picture: bytes | None = None
    loss: float | None = None
    notice: str | None = None


NOTHING = "none"
"""In place of a preset's name: no gradient steps."""

Tell = Callable[[Progress], None]
"""Passes on what is told; raises :class:`Cancelled` where nobody waits for the job any more."""


class Cancelled(Exception):
    """Nobody waits for the job any more."""


@dataclass(frozen=True)
class Inverted:
    """An inversion as a service keeps it.

    Attributes
    ----------
    file:
        Content of the inversion file.
    picture:
        PNG of its rendering.
    crop:
        PNG of what was inverted; None for an inversion that came as a file.
    facts:
        What there is to tell: method, settings, iterations, what computed it.
    """

    file: bytes
    picture: bytes
    crop: bytes | None
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Media:
    """A picture or film and its media type."""

    content: bytes
    type: str


class Job(ABC):
    """Something to do for a client."""

    takes_minutes: bool = False
    """Whether others would wait long for it: it never occupies the last of several workers."""

    @abstractmethod
    def run(self, desk: Desk, tell: Tell) -> Any:
        """Do it.

        Raises
        ------
        HyperStyleError
            If the client has asked for what cannot be done.
        """


@dataclass(frozen=True, kw_only=True)
class InvertJob(Job):
    """Invert a picture.

    Attributes
    ----------
    picture:
        Content of a picture file.
    method, iterations, align, face:
        As for `Model.invert`.
    then, steps:
        Preset of the gradient steps that follow and at most how many; None for the bundle's own
        way with a picture where no method is named, and :data:`NOTHING` for none.
    takes_minutes:
        See :class:`Job`: to be set where gradient steps follow.
    """

    picture: bytes
    method: str | None = None
    iterations: int | None = None
    then: str | None = None
    steps: int | None = None
    align: str = "auto"
    face: str = "largest"
    takes_minutes: bool = False

    def run(self, desk: Desk, tell: Tell) -> Inverted:
        """Invert it, then take gradient steps; gives :class:`Inverted`."""
        session = desk.session
        crop, notice = one_crop(self.picture, session.bundle.manifest, self.align, self.face)
        tell(Progress("crop", picture=_preview(crop.picture), notice=notice))

        def on_iteration(number: int, rendering: Array, _codes: Any) -> None:
            tell(Progress("iteration", number, _preview(to_picture(rendering))))

        inversion = session.invert(
            crop, self.iterations, on_iteration=on_iteration, method=self.method
        )
        preset = preset_after(self.method, self.then, session.bundle.manifest)
        if preset is not None:
            inversion = self._optimised(desk, inversion, crop, preset, tell)
        return kept(inversion, encode(crop.picture, "png").content)

    def _optimised(
        self, desk: Desk, inversion: Inversion, crop: Crop, preset: str, tell: Tell
    ) -> Inversion:
        total = desk.count_steps(preset, self.steps)
        every = max(1, total // PREVIEWS_A_DESCENT)

        def on_step(done: int, loss: float, rendering: Array) -> None:
            if done:
                shown = done % every == 0 or done == total
                picture = _preview(to_picture(rendering)) if shown else None
                tell(Progress("step", done, picture, loss))

        return desk.session.optimise(inversion, crop, preset, steps=self.steps, on_step=on_step)


@dataclass(frozen=True)
class OpenJob(Job):
    """Take an inversion file that was made elsewhere."""

    file: bytes

    def run(self, desk: Desk, tell: Tell) -> Inverted:
        """Render it; gives :class:`Inverted`."""
        inversion = desk.inversion(self.file)
        output = desk.session.synthesise(inversion)[0]
        return replace(kept(replace(inversion, output=output), None), file=self.file)


@dataclass(frozen=True, kw_only=True)
class EditJob(Job):
    """Edit an inversion.

    Attributes
    ----------
    file:
        Content of an inversion file.
    amounts:
        Direction to amount.
    format:
        One of :data:`PICTURE_FORMATS`.
    size:
        Longest side of the picture at most; None for that of a rendering.
    """

    file: bytes
    amounts: Mapping[str, float]
    format: str = "png"
    size: int | None = None

    def run(self, desk: Desk, tell: Tell) -> Media:
        """Render the edit."""
        pictures = desk.session.sweep(desk.inversion(self.file), [dict(self.amounts)])
        return encode(fitted(next(iter(pictures)), self.size), self.format)


@dataclass(frozen=True, kw_only=True)
class SweepJob(Job):
    """A film of edits.

    Attributes
    ----------
    amounts:
        One mapping for every frame.
    format:
        One of :data:`FILM_FORMATS`.
    """

    file: bytes
    amounts: tuple[Mapping[str, float], ...]
    format: str
    rate: float
    size: int | None = None

    def run(self, desk: Desk, tell: Tell) -> Media:
        """Render the film."""
        edits = [dict(each) for each in self.amounts]
        frames = desk.session.sweep(desk.inversion(self.file), edits)
        return film(frames, self.format, self.rate, self.size, tell)


@dataclass(frozen=True, kw_only=True)
class InterpolateJob(Job):
    """What lies between two inversions: a picture, or with several fractions a film.

    Attributes
    ----------
    format:
        Of :data:`PICTURE_FORMATS` for one fraction, else of :data:`FILM_FORMATS`.
    """

    first: bytes
    second: bytes
    fractions: tuple[float, ...]
    format: str
    rate: float = 24.0
    size: int | None = None

    def run(self, desk: Desk, tell: Tell) -> Media:
        """Render the picture or film."""
        ends = desk.inversion(self.first), desk.inversion(self.second)
        frames = desk.session.interpolate(*ends, self.fractions)
        if self.format in PICTURE_FORMATS:
            return encode(fitted(next(iter(frames)), self.size), self.format)
        return film(frames, self.format, self.rate, self.size, tell)


@dataclass(frozen=True, kw_only=True)
class AdaptJob(Job):
    """Render an inversion with a fine-tuned generator.

    Attributes
    ----------
    bundle:
        Name of the adapted bundle, one that the service was started with.
    seed:
        Of fresh noise; None for the stored noise.
    """

    file: bytes
    bundle: str
    seed: int | None = None
    format: str = "png"
    size: int | None = None

    def run(self, desk: Desk, tell: Tell) -> Media:
        """Render it."""
        adaptation = desk.adaptation(self.bundle)
        noise = None if self.seed is None else adaptation.draw_noise(self.seed)
        picture = adaptation.render(desk.inversion(self.file), noise=noise)
        return encode(fitted(picture, self.size), self.format)


def preset_after(method: str | None, then: str | None, manifest: Manifest) -> str | None:
    """The preset of the gradient steps that follow a method; None for none.

    Where neither is named, the bundle's own way with a picture counts.
    """
    if then == NOTHING:
        return None
    return manifest.then if then is None and method is None else then


def kept(inversion: Inversion, crop: bytes | None) -> Inverted:
    """What is kept of an inversion that has its rendering."""
    data = inversion.data
    facts = {
        "method": data.method,
        "settings": dict(data.settings),
        "iterations": data.iterations,
        "computed": dict(data.computed),
        "bundle": data.bundle_name,
    }
    return Inverted(inversion.to_bytes(), encode(inversion.image, "png").content, crop, facts)


def encode(picture: Picture, format: str) -> Media:
    """A picture as a file of one of :data:`PICTURE_FORMATS`."""
    content = encode_picture(Path(f"picture.{format}"), picture)
    return Media(content, f"image/{format}")


def fitted(picture: Picture, side: int | None) -> Picture:
    """A picture whose longest side is at most so long."""
    height, width = check_picture(picture).shape[:2]
    if side is None or max(height, width) <= side:
        return picture
    scale = side / max(height, width)
    return resize_bilinear(picture, (max(1, round(height * scale)), max(1, round(width * scale))))


def film(
    frames: Iterable[Picture], format: str, rate: float, size: int | None, tell: Tell
) -> Media:
    """Frames as a film of one of :data:`FILM_FORMATS`.

    Raises
    ------
    HyperStyleError
        If what writes such films is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"film.{format}"
        with open_film(path, rate) as add:
            for number, frame in enumerate(frames, 1):
                add(np.ascontiguousarray(fitted(frame, size)))
                tell(Progress("frame", number))
        content = path.read_bytes()
    kind = "image" if format in ("gif", "webp") else "video"
    return Media(content, f"{kind}/{format}")


def _preview(picture: Picture) -> bytes:
    return encode(fitted(picture, PREVIEW_SIDE), "jpeg").content


def check_amounts(amounts: Mapping[str, float], known: Iterable[str]) -> None:
    """Refuse directions that a bundle has not.

    Raises
    ------
    HyperStyleError
        If there is such a one; the sentence lists those it has.
    """
    names = list(known)
    for name in amounts:
        if name not in names:
            has = f"has {', '.join(names)}" if names else "has none"
            raise HyperStyleError(f"there is no direction {name!r}; the bundle {has}")
