"""What a batch writes for a picture: the files' names, and how they are written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InversionError, PictureError
from ..files import make_directory, read_regular, write_atomically
from ..formats.inversion_file import MAX_FILE_SIZE
from ..formats.tensors import parse
from ..imaging.metadata import NO_METADATA, Metadata
from ..imaging.pictures import (
    Original,
    encode_picture,
    longest_side,
    read_picture,
    resize_bilinear,
)
from ..inversion import Inversion
from ..types import Picture
from .records import Record, is_result, read_record, with_record

RESULT_ENDING = ".inverted.png"


@dataclass(frozen=True)
class Settings:
    """All that decides what is written for a picture, but for the picture itself.

    Attributes
    ----------
    bundle:
        The bundle's digest.
    method:
        By name: one of the bundle's, or the preset of a descent from nothing.
    precision:
        Of the graphs that run. (Not where they run: a batch may end on another machine.)
    iterations, until:
        As for :meth:`Model.invert`; 0 for a method that does not iterate.
    effort:
        How much is done after the method, one of :data:`~hyperstyle_rt.optimising.names.
        EFFORT_LINES`; None where gradient steps are named.
    then, then_steps, variables, mask:
        Preset of the descent afterwards, None for none; its steps, None for its own number; what it
        changes, None likewise; its mask, as the SHA-256 of a picture's file or ``face``.
    align:
        ``auto``, ``always`` or ``never``.
    face:
        ``largest``, ``all`` or a number, as for :func:`photos.choose_portraits`.
    steps, coupled, inversion, paste, unaligned:
        Whether these files are written beside the result.
    """

    bundle: str
    method: str
    precision: str
    iterations: int
    until: float | None = None
    align: str = "never"
    face: str = "largest"
    steps: bool = False
    coupled: bool = False
    inversion: bool = False
    paste: bool = False
    unaligned: bool = False
    effort: str | None = None
    then: str | None = None
    then_steps: int | None = None
    variables: tuple[str, ...] | None = None
    mask: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Make what a record holds, in the types that it is read in."""
        variables = None if self.variables is None else list(self.variables)
        return asdict(self) | {"variables": variables}


@dataclass(frozen=True)
class Outputs:
    """The files of one face, or of a whole picture; None and () for those not requested.

    Attributes
    ----------
    result:
        The reconstruction.
    steps:
        The reconstruction after each iteration.
    coupled:
        The input and all iterations side by side.
    inversion:
        The inversion file.
    pasted:
        The photo with the reconstructions of all its faces in their places.
    unaligned:
        The reconstruction turned as the face is in the photo.
    """

    result: Path
    steps: tuple[Path, ...] = ()
    coupled: Path | None = None
    inversion: Path | None = None
    pasted: Path | None = None
    unaligned: Path | None = None

    def beside(self) -> list[Path]:
        """List the files but the result."""
        every = (*self.steps, self.coupled, self.inversion, self.pasted, self.unaligned)
        return [path for path in every if path is not None]

    def paths(self) -> list[Path]:
        """List the files."""
        return [self.result, *self.beside()]


@dataclass(frozen=True)
class Comparison:
    """One picture of the input and of what several methods made of it, side by side.

    Attributes
    ----------
    stem:
        Of its file.
    others:
        Where the results of the methods are that ran before.
    """

    stem: str
    others: tuple[Target, ...]


@dataclass(frozen=True)
class Target:
    """Folder, stem and suffix of the files of one picture.

    Attributes
    ----------
    comparison:
        What is written as ``coupled`` instead of the input and all iterations.
    """

    folder: Path
    stem: str
    ending: str = RESULT_ENDING
    comparison: Comparison | None = None

    def file(self, ending: str) -> Path:
        """Name a file."""
        return self.folder / f"{self.stem}{ending}"

    def result(self, face: int) -> Path:
        """Name the result; ``face`` is from 1 where results are named by faces, else 0."""
        return self.file(_face_ending(face) + self.ending)

    def renamed(self, folder: Path, stem: str) -> Target:
        """Give the target of the same files under another name, still compared with the same.

        Parameters
        ----------
        stem:
            With the method's name, where this one has it.
        """
        comparison = self.comparison
        if comparison is not None:
            method = self.stem.removeprefix(comparison.stem)
            comparison = replace(comparison, stem=stem.removesuffix(method))
        return Target(folder, stem, self.ending, comparison)

    def outputs(self, settings: Settings, face: int = 0) -> Outputs:
        """Name all files; the pictures are of the result's format."""
        begin, suffix = _face_ending(face), f".{self.ending.rpartition('.')[2]}"
        steps = settings.iterations if settings.steps else 0
        whole = self if self.comparison is None else replace(self, stem=self.comparison.stem)
        return Outputs(
            result=self.result(face),
            steps=tuple(self.file(f"{begin}.step{n}{suffix}") for n in range(1, steps + 1)),
            coupled=whole.file(f"{begin}.coupled{suffix}") if settings.coupled else None,
            inversion=self.file(f"{begin}.safetensors") if settings.inversion else None,
            pasted=self.file(f".pasted{suffix}") if settings.paste else None,
            unaligned=self.file(f"{begin}.unaligned{suffix}") if settings.unaligned else None,
        )


@dataclass(frozen=True)
class InvertedFace:
    """An inverted face of a photo, or an inverted whole picture.

    Attributes
    ----------
    number:
        From 1 where results are named by faces, else 0.
    crop:
        uint8 [H,W,3], what was inverted.
    inversion:
        With its picture and its transform, if the crop was made of a photo.
    frames:
        uint8 [H,W,3], the reconstruction after each iteration, or nothing.
    unaligned:
        uint8 [H,W,3], the reconstruction turned as in the photo; None where it is not wanted, or
        the picture is no crop of a photo.
    """

    number: int
    crop: Picture
    inversion: Inversion
    frames: list[Picture]
    unaligned: Picture | None = None


@dataclass(frozen=True)
class BatchFiles:
    """Writes the files of pictures.

    Attributes
    ----------
    settings:
        Which files, and what their records say.
    resume:
        Replace files of earlier runs.
    force:
        Replace any files.
    """

    settings: Settings
    resume: bool = False
    force: bool = False

    def check_free(self, paths: Sequence[Path]) -> None:
        """Refuse to write where a file is that may not be replaced.

        Raises
        ------
        PictureError
            Names the first of them.
        """
        for path in paths:
            if self.force or not os.path.lexists(path):
                continue
            if not self.resume:
                raise PictureError(f"{path} exists; give another --out, or replace it with --force")
            if not _of_a_batch(path):
                raise PictureError(
                    f"{path} exists and is of no earlier run, so --resume leaves it alone; move it "
                    "away, or replace it with --force"
                )

    def copy(self, pairs: Sequence[tuple[Path, Path]]) -> None:
        """Copy files that belong together, in this order.

        Raises
        ------
        PictureError
            If one cannot be read or written.
        """
        self.check_free([path for _, path in pairs])
        for source, path in pairs:
            make_directory(path.parent, PictureError)
            content = read_regular(source, source.stat().st_size, PictureError)
            write_atomically(path, content, PictureError)

    def write(
        self, target: Target, photo: Original, faces: Sequence[InvertedFace], digest: str
    ) -> list[Outputs]:
        """Write all files of a picture, each face's result last: where it is, all are.

        Parameters
        ----------
        photo:
            What the faces were found in, with what its file carries beside the pixels.
        digest:
            SHA-256 of the picture's file.

        Returns
        -------
        The files of each face that were really written.

        Raises
        ------
        PictureError, InversionError
            If a file is in the way or cannot be written.
        """
        every = [self._outputs(target, face) for face in faces]
        self.check_free([path for outputs in every for path in outputs.paths()])
        make_directory(target.folder, PictureError)
        pasted = every[0].pasted
        for face, outputs in zip(faces, every, strict=True):
            files = [path for path in outputs.beside() if path != pasted or face is faces[0]]
            if target.comparison is not None and outputs.coupled is not None:
                files.remove(outputs.coupled)  # it is not this method's alone
            record = Record(
                picture=digest,
                settings=self.settings.to_json(),
                computed=face.inversion.computed,
                iterations=face.inversion.iterations,
                face=face.number,
                faces=len(faces) if face.number else 0,
                beside=tuple(path.name.removeprefix(target.stem) for path in files),
            )
            if pasted in files:
                whole = _pasted(photo, faces)
                _write_picture(pasted, whole.stored, record, whole.metadata)
            if outputs.coupled is not None:
                sheet = _coupled(target, face, outputs.coupled)
                _write_picture(outputs.coupled, sheet, record_of_sheet(record, target))
            _write_face(outputs, face, record)
        return every

    def _outputs(self, target: Target, face: InvertedFace) -> Outputs:
        """Name the files there is something to write into."""
        outputs = target.outputs(self.settings, face.number)
        in_a_photo = face.inversion.data.transform is not None
        return replace(
            outputs,
            steps=outputs.steps[: len(face.frames)],
            pasted=outputs.pasted if in_a_photo else None,
            unaligned=outputs.unaligned if face.unaligned is not None else None,
        )


def record_of_sheet(record: Record, target: Target) -> Record:
    """Make the record of what is side by side, from that of the result.

    Of a comparison it also has the settings of the other methods' results as they are now.
    """
    if target.comparison is None:
        return record
    others = [read_record(other.result(record.face)) for other in target.comparison.others]
    compared = [None if other is None else other.settings for other in others]
    return replace(record, settings={**record.settings, "compared": compared})


def _write_face(outputs: Outputs, face: InvertedFace, record: Record) -> None:
    picture = face.inversion.image
    for path, frame in zip(outputs.steps, face.frames, strict=False):
        _write_picture(path, frame, record)
    if outputs.unaligned is not None and face.unaligned is not None:
        _write_picture(outputs.unaligned, face.unaligned, record)
    if outputs.inversion is not None:
        face.inversion.save(outputs.inversion)
    _write_picture(outputs.result, picture, record)


def _coupled(target: Target, face: InvertedFace, path: Path) -> Picture:
    """What is set side by side: a row, or several where one would be too long for the format."""
    from ..imaging.films import in_rows

    return in_rows(_frames_beside(target, face), longest_side(path))


def _frames_beside(target: Target, face: InvertedFace) -> list[Picture]:
    """The input, and beside it all iterations, or what the methods of a comparison have made."""
    picture = face.inversion.image
    shown = resize_bilinear(face.crop, (picture.shape[0], picture.shape[1]))
    if target.comparison is not None:
        results = [other.result(face.number) for other in target.comparison.others]
        return [shown, *(read_picture(path) for path in results if path.exists()), picture]
    frames = list(face.frames)
    if not frames or (frames[-1] != picture).any():  # refined since
        frames.append(picture)
    return [shown, *frames]


def _pasted(photo: Original, faces: Sequence[InvertedFace]) -> Original:
    from ..photos.portraits import paste_into

    for face in faces:
        transform = face.inversion.data.transform
        assert transform is not None  # `_outputs` names no other
        photo = paste_into(photo, transform, face.inversion.image)
    return photo


def _write_picture(
    path: Path, picture: Picture, record: Record, metadata: Metadata = NO_METADATA
) -> None:
    encoded = encode_picture(path, picture, metadata)
    if path.suffix.lower() == ".png":
        encoded = with_record(encoded, record)
    write_atomically(path, encoded, PictureError)


def _of_a_batch(path: Path) -> bool:
    """Whether a batch has written this file: a picture with a record, or an inversion of one."""
    if path.suffix != ".safetensors":
        return is_result(path)
    try:
        return "picture" in parse(read_regular(path, MAX_FILE_SIZE, InversionError)).metadata
    except (InversionError, ValueError):
        return False


def _face_ending(face: int) -> str:
    return f".face{face}" if face else ""
