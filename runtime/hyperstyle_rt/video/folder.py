"""The folder of a film's inversions: an inversion file for every frame, and what tells of them.

``film.json`` says what film it is of, how it was inverted, and where the face is in every frame. It
is written before the first frame is inverted, and once more at the end with the names of the films
that were made. ``000000.safetensors`` and so on are inversion files like any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InversionError, PictureError
from ..files import make_directory, read_regular, reason, write_atomically
from ..formats import strict_json
from ..formats.fields import is_sha256
from ..inversion import Inversion
from ..temporaries import remove_leftovers
from .tracking import Track

FILM_FILE = "film.json"
FORMAT, VERSION = "hyperstyle-rt-film", 1
ENDING = ".inversions"

_LARGEST = 1 << 28  # bytes; ten hours of film have 200 MB
_MOST_FRAMES = 10_000_000


@dataclass(frozen=True, eq=False)
class FilmRecord:
    """What ``film.json`` holds.

    Attributes
    ----------
    film:
        SHA-256 of the film's file.
    suffix:
        Of the film's file, by which a film of its frames is named.
    settings:
        All that decides what is found, a JSON object.
    size:
        (height, width) of the frames.
    time_base, rate:
        As of :class:`~.reading.FilmFacts`.
    track:
        Where the face is.
    written:
        SHA-256 of the films that were written, by names as :func:`named`; empty before the end.
    earlier:
        Likewise of films that runs before have written, which may be replaced.
    """

    film: str
    suffix: str
    settings: Mapping[str, Any]
    size: tuple[int, int]
    time_base: Fraction
    rate: Fraction
    track: Track
    written: Mapping[str, str] = field(default_factory=dict)
    earlier: Mapping[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> Mapping[str, str]:
        """Films of this run and of those before it."""
        return {**self.earlier, **self.written}

    def seconds(self, number: int) -> float:
        """When a frame is shown, from the first one."""
        times = self.track.times
        return float((times[number] - times[0]) * self.time_base)

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the last."""
        return self.seconds(len(self.track) - 1)

    def to_json(self) -> dict[str, Any]:
        """Make the document."""
        track = self.track
        return {
            "format": FORMAT,
            "version": VERSION,
            "film": self.film,
            "suffix": self.suffix,
            "settings": dict(self.settings),
            "size": list(self.size),
            "time_base": list(self.time_base.as_integer_ratio()),
            "rate": list(self.rate.as_integer_ratio()),
            "times": track.times.tolist(),
            "runs": track.runs.tolist(),
            "points": [
                None if np.isnan(points).any() else points.ravel().tolist()
                for points in track.points
            ],
            "written": dict(self.written),
            "earlier": dict(self.earlier),
        }


class FilmFolder:
    """A folder of a film's inversions, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def frame(self, number: int) -> Path:
        """Name of a frame's inversion file."""
        return self.path / f"{number:06d}.safetensors"

    def load(self, number: int) -> Inversion:
        """Read a frame's inversion.

        Raises
        ------
        InversionError
            If it is missing or damaged.
        """
        return Inversion.load(self.frame(number))

    def is_whole(self, record: FilmRecord) -> bool:
        """Whether all frames with a face have their inversions, none of them damaged."""
        try:
            for number in range(len(record.track)):
                if record.track.has_face(number):
                    self.load(number)
        except InversionError:
            return False
        return True

    def read(self) -> FilmRecord | None:
        """Read what the folder is of; None if there is nothing of this version."""
        try:
            content = read_regular(self.path / FILM_FILE, _LARGEST, InversionError)
            return _interpret(strict_json.parse(content))
        except (InversionError, ValueError, ZeroDivisionError):
            return None

    def begin(self, record: FilmRecord, *, keep: bool) -> FilmRecord:
        """Make the folder ready for the frames of a film.

        Parameters
        ----------
        keep:
            Whether the frames that are there are of this record; else they are removed.

        Returns
        -------
        The record, with what films earlier runs have written.

        Raises
        ------
        PictureError
            If it cannot be written to.
        """
        make_directory(self.path, PictureError)
        remove_leftovers(self.path)
        before = self.read()
        earlier = {} if before is None else before.ours
        if not keep:
            try:  # first what would make the others frames of the new record
                (self.path / FILM_FILE).unlink(missing_ok=True)
                for path in self._frames():
                    path.unlink()
            except OSError as problem:
                raise PictureError(f"cannot clear {self.path}: {reason(problem)}") from problem
        begun = replace(record, written={}, earlier=earlier)
        self._write(begun)
        return begun

    def finish(self, record: FilmRecord, written: Mapping[str, str]) -> None:
        """Note what films were made of the frames."""
        self._write(replace(record, written=dict(written)))

    def _write(self, record: FilmRecord) -> None:
        document = json.dumps(record.to_json(), separators=(",", ":"), allow_nan=False)
        write_atomically(self.path / FILM_FILE, document.encode("ascii"), PictureError)

    def _frames(self) -> Iterable[Path]:
        names = (path for path in self.path.glob("*.safetensors"))
        return [path for path in names if len(path.stem) >= 6 and path.stem.isdecimal()]


def named(path: Path) -> str:
    """What a film is called in ``film.json``, which is Unicode, whatever bytes its name has."""
    return path.name.encode("utf-8", "backslashreplace").decode("utf-8")


def is_film_folder(path: Path) -> bool:
    """Whether a path is a folder with a film's inversions."""
    with suppress(OSError, ValueError):
        return (path / FILM_FILE).is_file()
    return False


def open_film_folder(path: Path) -> tuple[FilmFolder, FilmRecord]:
    """Open a folder for reading.

    Raises
    ------
    InversionError
        If its ``film.json`` is damaged or of another version.
    """
    folder = FilmFolder(path)
    record = folder.read()
    if record is None:
        raise InversionError(
            f"{path / FILM_FILE} is damaged or of another version; invert the film again"
        )
    return folder, record


def _interpret(document: object) -> FilmRecord | None:
    """Check a document field by field; None if :meth:`FilmRecord.to_json` does not make such."""
    match document:
        case {
            "format": "hyperstyle-rt-film",
            "version": 1,
            "film": str(film),
            "suffix": str(suffix),
            "settings": dict(settings),
            "size": [int(height), int(width)],
            "time_base": [int(ticks), int(of)],
            "rate": [int(frames), int(seconds)],
            "times": [*times],
            "runs": [*runs],
            "points": [*points],
            "written": dict(written),
            **others,
        } if (
            is_sha256(film)
            and len(times) == len(runs) == len(points)
            and 0 < len(times) <= _MOST_FRAMES
            and all(map(_is_integer, (*times, *runs)))
            and all(later > earlier for earlier, later in pairwise(times))
            and all(map(_are_points, points))
            and all(is_sha256(digest) for digest in written.values() if isinstance(digest, str))
        ):
            missing = [np.nan] * 8
            places = [missing if each is None else each for each in points]
            track = Track(
                np.array(times, np.int64),
                np.array(runs, np.int64),
                np.array(places, np.float64).reshape(-1, 4, 2),
            )
            size, base, rate = (height, width), Fraction(ticks, of), Fraction(frames, seconds)
            earlier = others.get("earlier", {})
            if isinstance(earlier, dict):
                return FilmRecord(film, suffix, settings, size, base, rate, track, written, earlier)
    return None


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 62


def _are_points(value: object) -> bool:
    if value is None:
        return True
    if not isinstance(value, list) or len(value) != 8:
        return False
    return all(isinstance(each, (int, float)) for each in value)
