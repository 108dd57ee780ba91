"""What the workers of a service render: edits, films, what lies between faces, other domains."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import HyperStyleError
from ..imaging.films import FILM_SUFFIXES, open_film
from ..imaging.pictures import decode_original, encode_picture
from ..photos.portraits import paste_into
from ..types import Picture
from .desk import Desk
from .jobs import PICTURE_FORMATS, Job, Media, Progress, Tell, encode, fitted

FILM_FORMATS = tuple(suffix[1:] for suffix in FILM_SUFFIXES)


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


@dataclass(frozen=True, kw_only=True)
class PasteJob(Job):
    """Set an edited face back into the photo that it was cut out of.

    Attributes
    ----------
    photo:
        Content of its file.
    digest:
        SHA-256 of the photo that was inverted; None for an inversion that came as a file.
    format:
        One of :data:`PICTURE_FORMATS`; colour space and metadata are the photo's.
    """

    file: bytes
    photo: bytes
    amounts: Mapping[str, float]
    digest: str | None = None
    format: str = "jpeg"

    def run(self, desk: Desk, tell: Tell) -> Media:
        """Render the edit and set it in."""
        inversion = desk.inversion(self.file)
        transform = inversion.data.transform
        if transform is None:
            raise HyperStyleError(
                "the picture was inverted as it is, so there is no photo to set it back into; "
                "invert a photo in which a face is found"
            )
        if self.digest is not None and hashlib.sha256(self.photo).hexdigest() != self.digest:
            raise HyperStyleError("this is another photo than the face was cut out of; send that")
        original = decode_original(self.photo, Path("the photo"))
        edited = next(iter(desk.session.sweep(inversion, [dict(self.amounts)])))
        pasted = paste_into(original, transform, edited)
        name = Path(f"picture.{self.format}")
        content = encode_picture(name, pasted.stored, pasted.metadata)
        return Media(content, f"image/{self.format}")


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


def check_directions(names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse directions that a bundle has not.

    Raises
    ------
    HyperStyleError
        If there is such a one; the sentence lists those it has.
    """
    there = list(known)
    for name in names:
        if name not in there:
            has = f"has {', '.join(there)}" if there else "has none"
            raise HyperStyleError(f"there is no direction {name!r}; the bundle {has}")
