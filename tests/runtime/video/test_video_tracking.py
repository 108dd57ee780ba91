"""A face followed through frames, whose places are smoothed and filled in."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from film_files import RATE, TICKS, find_markers, frame_with, points_at
from hyperstyle_rt.errors import PictureError
from hyperstyle_rt.types import Picture
from hyperstyle_rt.video import tracking
from hyperstyle_rt.video.reading import Frame
from hyperstyle_rt.video.smoothing import fill_in, smooth
from hyperstyle_rt.video.tracking import Track, Tracker

STEP = TICKS // RATE


@pytest.fixture(autouse=True)
def _markers_for_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_prominent_faces", find_markers)
    monkeypatch.setattr(tracking, "find_faces", find_markers)


def tracked(pictures: list[Picture], which: str = "largest", smoothed_over: float = 0.0) -> Track:
    tracker = Tracker(Fraction(1, TICKS), which, smoothed_over)
    for number, picture in enumerate(pictures):
        tracker.add(Frame(number, number * STEP, picture))
    return tracker.track()


def test_an_even_motion_is_left_where_it_is_up_to_both_ends() -> None:
    seconds = np.cumsum([0, 0.04, 0.04, 0.02, 0.06, 0.04, 0.04, 0.01, 0.07])  # no even times
    line = np.stack([3 + 20 * seconds, -5 * seconds], axis=1)
    assert np.allclose(smooth(seconds, line, 0.08), line, atol=1e-9)


def test_trembling_is_smoothed_without_lag() -> None:
    seconds = np.arange(100) / RATE
    path = np.stack([10 * np.sin(seconds), 10 * np.cos(seconds)], axis=1)
    noisy = path + np.random.default_rng(0).normal(0, 1, path.shape)
    found = smooth(seconds, noisy, 0.08)
    assert np.abs(found - path).mean() < 0.5 * np.abs(noisy - path).mean()
    shaking = np.abs(np.diff(noisy, 2, axis=0)).mean()
    assert np.abs(np.diff(found, 2, axis=0)).mean() < 0.15 * shaking
    # A lag of one frame would move the path by 0.4.
    assert np.abs((found - path).mean(axis=0)).max() < 0.15


def test_no_smoothing_and_a_single_frame() -> None:
    values = np.array([[1.0, 2], [5, 0]])
    assert (smooth(np.array([0, 0.04]), values, 0.0) == values).all()
    assert (smooth(np.array([0.0]), values[:1], 0.08) == values[:1]).all()


def test_what_is_missing_lies_between() -> None:
    values = np.array([[0.0, 8], [np.nan, np.nan], [np.nan, np.nan], [4, 4]])
    found = fill_in(np.array([0, 1, 3, 4.0]), values)
    assert found.tolist() == [[0, 8], [1, 7], [3, 5], [4, 4]]


def test_a_face_that_is_lost_for_a_few_frames_is_taken_to_move_evenly() -> None:
    centres = [(30 + 2 * n, 40) for n in range(8)]
    pictures = [frame_with(*([] if n in (3, 4) else [centres[n]])) for n in range(8)]
    track = tracked(pictures)
    assert track.runs.tolist() == [0] * 8
    for points, (x, y) in zip(track.points, centres, strict=True):
        assert np.abs(points - points_at((x - 0.5, y - 0.5))).max() < 0.6
    assert track.faces == len(track) == 8


def test_a_face_that_is_gone_for_long_begins_anew() -> None:
    gone = round(RATE * tracking.LONGEST_GAP) + 1
    face, none = frame_with((40, 40)), frame_with()
    track = tracked([none, face, *[none] * gone, face, none])
    assert track.runs.tolist() == [-1, 0, *[-1] * gone, 1, -1]
    assert np.isnan(track.points[0]).all()
    assert track.faces == 2


def test_a_cut_begins_a_run_and_smoothing_stops_there() -> None:
    before = [frame_with((30, 40)) for _ in range(6)]
    after = [frame_with((34, 40), ground=160) for _ in range(6)]
    track = tracked([*before, *after], smoothed_over=0.2)
    assert track.runs.tolist() == [0] * 6 + [1] * 6
    assert np.abs(np.diff(track.points[:6], axis=0)).max() < 1e-3
    assert np.abs(track.points[6] - track.points[5]).max() > 3.9


def test_nobody_else_is_followed_while_the_face_is_lost() -> None:
    both = frame_with((20, 40), (75, 40))
    other = frame_with((75, 40))
    track = tracked([both, both, other, other, both])
    assert track.runs.tolist() == [0] * 5
    assert np.abs(track.points - points_at((19.5, 39.5))).max() < 0.6
    second = tracked([both, both, both], which="1")
    assert np.abs(second.points - points_at((74.5, 39.5))).max() < 0.6


def test_a_film_without_a_face_is_refused() -> None:
    with pytest.raises(PictureError, match="no face was found in any frame"):
        tracked([frame_with()] * 3)
    with pytest.raises(PictureError, match="no face 1 in any frame, of which none has more"):
        tracked([frame_with((40, 40)), frame_with(), frame_with((40, 40))], which="1")
