"""What the workers of a service do, one job each: invert, edit, interpolate, adapt.

Jobs and their results go between processes of one service, pickled by Python.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..formats.manifest import Manifest
from ..imaging.pictures import (
    check_picture,
    encode_picture,
    resize_bilinear,
    to_picture,
)
from ..inversion import Inversion
from ..inverting.preparing import Crop, one_crop
from ..optimising.effort import plan_of
from ..optimising.names import AUTO, FAST
from ..types import Array, Picture
from .desk import Desk

PICTURE_FORMATS = ("png", "jpeg", "webp")

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
            crop, self.iterations, on_iteration=on_iteration, method=self.method, effort=FAST
        )
        preset = preset_after(self.method, self.then, session.bundle.manifest)
        if preset is not None:
            inversion = self._followed(desk, inversion, crop, preset, tell)
        done = kept(inversion, encode(crop.picture, "png").content)
        digest = hashlib.sha256(self.picture).hexdigest()
        return replace(done, facts={**done.facts, "picture": digest})

    def _followed(
        self, desk: Desk, inversion: Inversion, crop: Crop, preset: str, tell: Tell
    ) -> Inversion:
        """Take gradient steps: those of the preset that is named, or as many as are needed."""
        session, plan = desk.session, None
        if self.then is None:
            plan = plan_of(session.bundle.manifest, AUTO, inversion.iterations)
        total = desk.count_steps(preset, self.steps)
        every = max(1, total // PREVIEWS_A_DESCENT)

        def on_step(done: int, loss: float, rendering: Array) -> None:
            if done:
                shown = done % every == 0 or done == total
                picture = _preview(to_picture(rendering)) if shown else None
                tell(Progress("step", done, picture, loss))

        if plan is None:
            return session.optimise(inversion, crop, preset, steps=self.steps, on_step=on_step)
        return session.follow(inversion, crop, plan, steps=self.steps, on_step=on_step)


@dataclass(frozen=True)
class OpenJob(Job):
    """Take an inversion file that was made elsewhere."""

    file: bytes

    def run(self, desk: Desk, tell: Tell) -> Inverted:
        """Render it; gives :class:`Inverted`."""
        inversion = desk.inversion(self.file)
        output = desk.session.synthesise(inversion)[0]
        return replace(kept(replace(inversion, output=output), None), file=self.file)


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
        "in_photo": data.transform is not None,
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


def _preview(picture: Picture) -> bytes:
    return encode(fitted(picture, PREVIEW_SIDE), "jpeg").content
