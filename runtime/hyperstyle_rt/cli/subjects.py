"""The faces that commands work on: inversion files, or pictures that are inverted first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ..batch.streams import INVERSION_SUFFIX, read_picture_source
from ..errors import HyperStyleError, PictureError
from .options import Running, When
from .terminal import print_note

if TYPE_CHECKING:
    from ..imaging.pictures import Original
    from ..inversion import Inversion
    from ..inverting.preparing import Crop
    from ..model import Model
    from ..types import Picture


def is_inversion(subject: Path) -> bool:
    """Whether a file is an inversion, by its suffix; all others are pictures."""
    return subject.suffix.lower() == INVERSION_SUFFIX


def open_model(bundle: str | None, subject: Path, running: Running) -> Model:
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
    return Model.load(bundle, running.backend, **running.settings())


def open_subject(model: Model, subject: Path, align: When, method: str | None = None) -> Inversion:
    """Read an inversion file, or invert the largest face of a picture.

    Raises
    ------
    HyperStyleError
        If the file cannot be read, or a photo has no face where one is wanted.
    """
    from ..inversion import Inversion

    if is_inversion(subject):
        return Inversion.load(subject)
    return model.invert(subject_crop(model, subject, align), method=method)


def subject_crop(model: Model, subject: Path, align: When) -> Crop:
    """What is inverted of a picture: its largest face, or all of it.

    Raises
    ------
    HyperStyleError
        If it cannot be read, or has no face where one is wanted.
    """
    from ..inverting.preparing import one_crop

    crop, notice = one_crop(subject, model.bundle.manifest, align.value)
    if notice is not None:
        print_note(notice)
    return crop


def pasted(
    frames: Iterator[Picture], photo: Path | None, face: Inversion, subject: Path, force: bool
) -> Iterator[Original]:
    """Set every picture of a face back into its photo; without one, leave them as they are.

    In the photo's colour space, with its metadata.

    Parameters
    ----------
    subject:
        What the face was read from: an inversion file, or the photo itself.
    force:
        Take a photo that is another file than the face was cut out of.

    Raises
    ------
    HyperStyleError
        If the face was not cut out of a photo or of another one, or the photo cannot be read.
    """
    from ..imaging.pictures import Original

    if photo is None:
        return map(Original, frames)
    return pasted_together([frames], photo, [face], subject, force)


def pasted_together(
    frames: Sequence[Iterator[Picture]],
    photo: Path,
    faces: Sequence[Inversion],
    subject: Path,
    force: bool,
) -> Iterator[Original]:
    """Like :func:`pasted`, for several faces of one photo, each with its own pictures."""
    from ..imaging.pictures import decode_original
    from ..photos.portraits import paste_into

    transforms = [face.data.transform for face in faces if face.data.transform is not None]
    if len(transforms) < len(faces):
        raise HyperStyleError(
            "--paste needs a face that was cut out of a photo; invert the photo itself with "
            "--align always"
        )
    data = read_picture_source(photo)
    cut_from = faces[0].data.picture if is_inversion(subject) else digest_of(subject)
    if cut_from not in (None, sha256(data).hexdigest()) and not force:
        raise PictureError(
            f"{photo} is not the file that the face of {subject} was cut out of; give --paste that "
            "one, or take this all the same with --force"
        )
    whole = decode_original(data, photo)

    def with_all(renderings: Sequence[Picture]) -> Original:
        result = whole
        for transform, rendering in zip(transforms, renderings, strict=True):
            result = paste_into(result, transform, rendering)
        return result

    return map(with_all, zip(*frames, strict=True))


def open_faces(
    model: Model, subject: Path, align: When, method: str | None, which: str
) -> list[tuple[int, Inversion]]:
    """Read an inversion file, or invert the faces of a picture that ``--face`` names.

    Returns
    -------
    Each with its number: from 1 where all of a picture are wanted, else 0.

    Raises
    ------
    HyperStyleError
        As :func:`open_subject`, or if the photo has no such face.
    """
    from ..imaging.inputs import as_picture
    from ..inversion import Inversion
    from ..inverting.preparing import crops_of
    from ..photos.portraits import ALL

    if is_inversion(subject):
        return [(0, Inversion.load(subject))]
    picture = as_picture(subject)
    crops, notice = crops_of(picture, model.bundle.manifest, align.value, which)
    if notice is not None:
        print_note(notice)
    inversions = (model.invert(crop, method=method) for crop in crops)
    return list(enumerate(inversions, int(which == ALL)))


def digest_of(subject: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return sha256(read_picture_source(subject)).hexdigest()
