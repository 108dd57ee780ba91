"""The faces that commands work on: inversion files, or pictures that are inverted first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import HyperStyleError
from .options import When
from .terminal import print_note

if TYPE_CHECKING:
    from ..formats.manifest import Manifest
    from ..imaging.pictures import Original
    from ..inversion import Inversion
    from ..model import Model
    from ..photos.portraits import Portrait
    from ..types import Picture

INVERSION_SUFFIX = ".safetensors"


def is_inversion(subject: Path) -> bool:
    """Whether a file is taken for an inversion; all others are pictures."""
    return subject.suffix.lower() == INVERSION_SUFFIX


def open_model(
    bundle: str | None,
    subject: Path,
    backend: str,
    threads: int | None,
    precision: str,
) -> Model:
    """Open the bundle a user names, or the one the inversion file was made with.

    Raises
    ------
    HyperStyleError
        If there is no such bundle, or it or the file cannot be used.
    """
    from ..inversion import Inversion
    from ..model import Model

    if bundle is None and is_inversion(subject):
        bundle = Inversion.load(subject).data.bundle_name
    return Model.load(bundle, backend, threads=threads, precision=precision)


def open_subject(model: Model, subject: Path, align: When) -> Inversion:
    """Read an inversion file, or invert the largest face of a picture.

    Raises
    ------
    HyperStyleError
        If the file cannot be read, or a photo has no face where one is wanted.
    """
    from ..imaging.pictures import read_picture
    from ..inversion import Inversion

    if is_inversion(subject):
        return Inversion.load(subject)
    photo = read_picture(subject)
    portrait = _find_portrait(photo, align, model.bundle.manifest)
    if portrait is None:
        return model.invert(photo)
    transform = portrait.transform_to(model.bundle.manifest.resolution)
    return model.invert(portrait.crop, transform=transform)


def _find_portrait(photo: Picture, align: When, manifest: Manifest) -> Portrait | None:
    """The face of a photo; None if the picture is to be taken as it is."""
    from ..batch.run import shows_faces

    if align == When.NEVER or (align == When.AUTO and not shows_faces(manifest)):
        return None
    from ..photos.portraits import choose_portraits, find_portraits, portraits_to_invert

    if align == When.ALWAYS:
        return choose_portraits(find_portraits(photo), "largest")[0]
    portraits, notice = portraits_to_invert(photo)
    if notice is not None:
        print_note(notice)
    return portraits[0] if portraits else None


def pasted(frames: Iterator[Picture], photo: Path | None, face: Inversion) -> Iterator[Original]:
    """Set every picture of a face back into its photo; without one, leave them as they are.

    In the photo's colour space, with its metadata.

    Raises
    ------
    HyperStyleError
        If the face was not cut out of a photo, or the photo cannot be read.
    """
    from ..imaging.pictures import Original, read_original
    from ..photos.portraits import paste_into

    if photo is None:
        return map(Original, frames)

    transform = face.data.transform
    if transform is None:
        raise HyperStyleError(
            "--paste needs a face that was cut out of a photo; invert the photo itself with "
            "--align always"
        )
    whole = read_original(photo)
    return (paste_into(whole, transform, frame) for frame in frames)
