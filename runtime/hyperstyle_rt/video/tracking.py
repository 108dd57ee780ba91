"""One face through a film: found in every frame, followed, smoothed over time.

The film falls into runs: frames in which one face is followed without a break. A run ends at a
cut, and where the face is gone for longer than :data:`LONGEST_GAP`; in a shorter gap it is taken to
move evenly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ..errors import PictureError
from ..photos.alignment import quadrilateral
from ..photos.faces import Face, find_faces, find_prominent_faces
from ..photos.portraits import LARGEST
from ..types import Doubles, Picture
from .names import SMOOTHED_OVER
from .reading import Frame
from .shots import ANOTHER_SHOT, SAME_SHOT, Colours
from .smoothing import fill_in, smooth

LONGEST_GAP = 0.5
"""Seconds for which a face may be gone and is taken to be the same when it is back."""

PLACES = 4
"""Decimal places of points, as they are written: a run that is resumed has the very same."""

_ELSEWHERE = 0.2  # of the crop's side: further, a face in the next frame is another one
_NO_RUN = -1


@dataclass(frozen=True, eq=False)
class Track:
    """Where the face is in every frame.

    Attributes
    ----------
    times:
        int64 [N], of the frames, in units of the film's time base; rising.
    runs:
        int64 [N]: which run a frame belongs to, from 0; -1 where there is no face.
    points:
        float64 [N,4,2], as `alignment.face_points` gives them, NaN where there is no face.
    """

    times: NDArray[np.int64]
    runs: NDArray[np.int64]
    points: Doubles

    def __len__(self) -> int:
        return len(self.times)

    def has_face(self, number: int) -> bool:
        """Whether there is a face in a frame."""
        return bool(self.runs[number] != _NO_RUN)

    @property
    def faces(self) -> int:
        """Number of frames with the face."""
        return int((self.runs != _NO_RUN).sum())


class Tracker:
    """Follows a face through the frames of a film, which are added in their order.

    Parameters
    ----------
    time_base:
        Unit of the frames' times, in seconds.
    which:
        The face to follow, where there are several at the beginning of a shot: ``largest`` or a
        number from 0, the largest.
    smoothed_over:
        Seconds, as of :data:`SMOOTHED_OVER`; 0 not to smooth.
    """

    def __init__(
        self, time_base: Fraction, which: str = LARGEST, smoothed_over: float = SMOOTHED_OVER
    ) -> None:
        self._second = float(time_base)
        self._number = 0 if which == LARGEST else int(which)
        self._smoothed_over = smoothed_over
        self._colours = Colours()
        self._times: list[int] = []
        self._runs: list[int] = []
        self._points: list[Doubles | None] = []
        self._last: int | None = None  # frame of the current run that had the face last
        self._run = _NO_RUN
        self._most = 0  # faces in a frame

    def add(self, frame: Frame) -> None:
        """Look for the face in the next frame."""
        now = len(self._times)
        self._times.append(frame.time)
        in_common = self._colours.in_common(frame.picture)
        if in_common < ANOTHER_SHOT or self._gap(now) > LONGEST_GAP:
            self._last = None
        points = self._choose(self._find(frame.picture), in_common >= SAME_SHOT)
        self._points.append(points)
        self._runs.append(_NO_RUN if points is None else self._run)
        if points is not None:
            if self._last is not None:  # frames between, in which it was not found
                self._runs[self._last : now] = [self._run] * (now - self._last)
            self._last = now

    def track(self) -> Track:
        """Fill in and smooth what was found.

        Raises
        ------
        PictureError
            If no frame has the face.
        """
        if self._run == _NO_RUN and self._most:
            count = f"{self._most} face{'s' if self._most != 1 else ''}"
            raise PictureError(
                f"there is no face {self._number} in any frame, of which none has more than "
                f"{count}; numbers count from 0"
            )
        if self._run == _NO_RUN:
            raise PictureError(
                "no face was found in any frame; give a film with a larger, upright face that is "
                "not turned away, or use the frames as they are (--align never)"
            )
        times, runs = np.array(self._times), np.array(self._runs)
        missing = np.full((4, 2), np.nan)
        found = [missing if points is None else points for points in self._points]
        points = np.stack(found).reshape(len(found), 8)
        seconds = times * self._second
        for run in range(self._run + 1):
            frames = runs == run
            filled = fill_in(seconds[frames], points[frames])
            points[frames] = smooth(seconds[frames], filled, self._smoothed_over)
        return Track(times, runs, points.reshape(-1, 4, 2).round(PLACES))

    def _gap(self, now: int) -> float:
        """Seconds since the frame of the current run that had the face last."""
        return 0.0 if self._last is None else self._seconds(self._last, now)

    def _seconds(self, first: int, second: int) -> float:
        return (self._times[second] - self._times[first]) * self._second

    def _find(self, picture: Picture) -> list[Face]:
        """The faces among which to choose, the largest first; small ones where they are meant."""
        return find_faces(picture) if self._number else find_prominent_faces(picture)

    def _choose(self, faces: list[Face], same_shot: bool) -> Doubles | None:
        """The points of the face that is followed; begins a run where there was none."""
        self._most = max(self._most, len(faces))
        if self._last is not None:
            before = self._points[self._last]
            assert before is not None
            nearest = min((face.points for face in faces), key=_distance_from(before), default=None)
            if nearest is None:
                return None
            if _distance_from(before)(nearest) < _ELSEWHERE:
                return nearest
            if same_shot:  # somebody else, while the face that is followed is not found
                return None
        if len(faces) <= self._number:
            return None
        self._run += 1
        self._last = None
        return faces[self._number].points


def whole_frames(times: Iterable[int]) -> Track:
    """The track of a film whose frames are inverted as they are: one run, no points."""
    numbers = np.array(list(times), np.int64)
    return Track(numbers, np.zeros_like(numbers), np.full((len(numbers), 4, 2), np.nan))


def _distance_from(before: Doubles) -> Callable[[Doubles], float]:
    """Tells how far points are from those of a face, in sides of its crop."""
    quad = quadrilateral(before)
    side = float(np.hypot(*(quad[3] - quad[0])))
    return lambda points: float(np.hypot(*(points - before).T).mean()) / side
