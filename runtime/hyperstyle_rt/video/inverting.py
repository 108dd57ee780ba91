"""The frames of a film inverted, each beginning where the one before has ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..batch.pipeline import overlap
from ..batch.results import Settings
from ..errors import InversionError, PictureError
from ..inversion import Inversion
from ..inverting.preparing import Crop, crop_of_portrait
from ..model import Model
from ..optimising.names import FAST
from ..photos.alignment import align, quadrilateral
from ..photos.portraits import CROP_SIDE, Portrait
from ..types import Doubles, Picture
from .folder import FilmFolder
from .names import FOLLOWING, SMOOTHED_OVER
from .reading import FilmFacts, Frame, read_frames
from .tracking import Track, Tracker, whole_frames


@dataclass(frozen=True)
class FilmSettings:
    """All that decides what is found in a film.

    Attributes
    ----------
    frame:
        How a frame is inverted, as for pictures.
    aligned:
        Whether the face is followed and cut out, or the frames are taken as they are.
    smoothed_over:
        As for :class:`~.tracking.Tracker`.
    following:
        Iterations of a frame that goes on from the one before; None for every frame by itself.
    """

    frame: Settings
    aligned: bool = True
    smoothed_over: float = SMOOTHED_OVER
    following: int | None = FOLLOWING

    def to_json(self) -> dict[str, Any]:
        """Make what ``film.json`` holds; what is merely written beside does not count."""
        frame = self.frame.to_json()
        for name in ("steps", "coupled", "inversion", "paste", "unaligned"):
            del frame[name]
        return {
            "frame": frame,
            "aligned": self.aligned,
            "smoothed_over": self.smoothed_over,
            "following": self.following,
        }


@dataclass(frozen=True, eq=False)
class InvertedFrame:
    """A frame, and what was found in it.

    Attributes
    ----------
    frame:
        As it was read.
    inversion:
        None where there is no face.
    rendering:
        uint8 [h,w,3]; None where there is no face.
    earlier:
        Whether an earlier run had inverted it.
    """

    frame: Frame
    inversion: Inversion | None
    rendering: Picture | None
    earlier: bool = False


def follow_face(facts: FilmFacts, settings: FilmSettings) -> Iterator[int | Track]:
    """Look through a film for its face.

    Yields
    ------
    The number of frames so far, after each; at last the track.

    Raises
    ------
    PictureError
        If the film cannot be read, or has no face where it is looked for.
    """
    times: list[int] = []
    tracker = Tracker(facts.time_base, settings.frame.face, settings.smoothed_over)
    for frame in read_frames(facts.path):
        times.append(frame.time)
        if settings.aligned:
            tracker.add(frame)
        yield len(times)
    try:
        yield tracker.track() if settings.aligned else whole_frames(times)
    except PictureError as error:
        raise PictureError(f"{facts.path}: {error}") from error


class FilmInverter:
    """Inverts the frames of one film, in their order.

    Memory does not grow with the film: two frames for each of the pipeline's threads are held.

    Parameters
    ----------
    folder:
        Where inversions are written, and found where an earlier run has written them.
    track:
        Where the face is.
    """

    def __init__(
        self, model: Model, settings: FilmSettings, folder: FilmFolder, track: Track
    ) -> None:
        self._model = model
        self._settings = settings
        self._folder = folder
        self._track = track
        self._before: tuple[int, Inversion] | None = None  # run and inversion of the last frame
        manifest = model.bundle.manifest
        method = settings.frame.method
        self._own = method if method in manifest.methods else None
        self._iterates = (
            self._own is not None and manifest.method(method).iterating_phase is not None
        )

    def run(self, frames: Iterable[Frame], jobs: int) -> Iterator[InvertedFrame]:
        """Invert them.

        Parameters
        ----------
        jobs:
            Threads that cut out faces and write files beside the inference, from 1.

        Raises
        ------
        PictureError, InversionError
            If a frame cannot be read or a file cannot be written.
        """
        for _, outcome in overlap(frames, self._prepare, self._work, self._finish, jobs):
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome

    def _prepare(self, frame: Frame) -> tuple[Frame, Crop | Inversion | None]:
        """What is to be inverted of a frame, or what an earlier run has found."""
        if not self._track.has_face(frame.number):
            return frame, None
        try:
            return frame, self._folder.load(frame.number)
        except InversionError:  # there is none, or it is damaged
            return frame, self._crop(frame)

    def _crop(self, frame: Frame) -> Crop:
        points = self._track.points[frame.number]
        if np.isnan(points).any():
            return Crop(frame.picture)
        return cut_out(frame.picture, points, self._model)

    def _work(self, prepared: tuple[Frame, Crop | Inversion | None]) -> InvertedFrame:
        frame, given = prepared
        if given is None:
            return InvertedFrame(frame, None, None)
        earlier = isinstance(given, Inversion)
        inversion = given if isinstance(given, Inversion) else self._invert(frame.number, given)
        self._before = int(self._track.runs[frame.number]), inversion
        rendering = self._model.render(inversion) if earlier else inversion.image
        return InvertedFrame(frame, inversion, rendering, earlier)

    def _finish(self, inverted: InvertedFrame) -> InvertedFrame:
        if inverted.inversion is not None and not inverted.earlier:
            inverted.inversion.save(self._folder.frame(inverted.frame.number))
        return inverted

    def _invert(self, number: int, crop: Crop) -> Inversion:
        """Invert a crop, from where the frame before has ended if that is of the same run."""
        start = self._start(number)
        settings, model = self._settings.frame, self._model
        inversion: Inversion | None = None
        if self._own is not None:
            iterations = settings.iterations if start is None else self._settings.following
            inversion = model.invert(
                crop,
                iterations if self._iterates else None,
                settings.until,
                method=self._own,
                effort=FAST if settings.effort is None else settings.effort,
                start=start,
            )
        if settings.then is not None and settings.effort is None:
            begin = start if inversion is None else inversion.with_steps_of(start)
            inversion = model.optimise(
                begin,
                crop,
                settings.then,
                steps=settings.then_steps,
                variables=settings.variables,
            )
        assert inversion is not None  # a method of the bundle, or a preset
        if crop.transform is None:
            return inversion
        return replace(inversion, data=replace(inversion.data, transform=crop.transform))

    def _start(self, number: int) -> Inversion | None:
        """What a frame goes on from."""
        if self._before is None or self._settings.following is None:
            return None
        run, inversion = self._before
        return inversion if run == self._track.runs[number] else None


def cut_out(picture: Picture, points: Doubles, model: Model) -> Crop:
    """The aligned crop of a face whose points are known."""
    crop, transform = align(picture, quadrilateral(points), CROP_SIDE)
    box = np.concatenate([points.min(axis=0), points.max(axis=0)])
    return crop_of_portrait(Portrait(crop, transform, 1.0, box, points), model.bundle.manifest)
