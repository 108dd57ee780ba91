"""A film of a rendered face that moves, from its pixels to edits, with nothing stood in for."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import succeed
from face_pictures import Known, in_a_photo, known_faces
from film_files import pictures_of, sound_of, write_film
from hyperstyle_rt import Model
from hyperstyle_rt.imaging.pictures import resize_bilinear
from hyperstyle_rt.photos.alignment import quadrilateral
from hyperstyle_rt.video.folder import FilmFolder
from hyperstyle_rt.video.inverting import cut_out
from hyperstyle_rt.video.reading import read_frames

pytestmark = pytest.mark.slow

COUNT = 14
SIZE = (360, 420)


def moving_face() -> list[Known]:
    """A face that goes to the right, turns by 12 degrees and comes nearer, in a grey room."""
    face, rng = known_faces()[0], np.random.default_rng(0)
    shown = []
    for n in range(COUNT):
        centre = np.array([170 + 5.0 * n, 175 + 1.5 * n])
        known = in_a_photo(face, SIZE, centre, 230 + 2 * n, -6 + 12 * n / (COUNT - 1))
        noisy = known.picture + rng.normal(0, 4, known.picture.shape)
        shown.append(Known(np.clip(noisy, 0, 255).astype(np.uint8), known.points))
    return shown


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Known]:
    monkeypatch.chdir(tmp_path)
    shown = moving_face()
    write_film(Path("film.mp4"), [known.picture for known in shown])
    return shown


def corners_off(points: np.ndarray, known: np.ndarray) -> float:
    """Mean distance of the crop's corners from where they should be, in its sides."""
    found, wanted = quadrilateral(points), quadrilateral(known)
    side = np.hypot(*(wanted[3] - wanted[0]))
    return float(np.hypot(*(found - wanted).T).mean() / side)


def trembling(points: np.ndarray) -> float:
    """How much the places [N,4,2] shake from frame to frame."""
    return float(np.abs(np.diff(points, 2, axis=0)).mean())


def moved(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference of two pictures that noise and a codec do not make: over 9 x 9 pixels."""
    return float(np.abs(cv2.blur(first.astype(np.float32) - second, (9, 9))).max())


def test_a_film_from_its_pixels_to_edits(film: list[Known]) -> None:
    options = ("--bundle", "portraits", "--threads", 1)
    succeed("invert", "film.mp4", *options, "--paste")
    folder = FilmFolder(Path("film.inversions"))
    record = folder.read()
    assert record is not None
    track = record.track
    assert track.runs.tolist() == [0] * COUNT
    off = [corners_off(track.points[n], film[n].points) for n in range(COUNT)]
    assert max(off) < 0.04

    succeed("invert", "film.mp4", *options, "--smooth", 0, "--independent", "-o", "raw")
    raw = FilmFolder(Path("raw/film.inversions")).read()
    assert raw is not None
    assert trembling(track.points) < 0.5 * trembling(raw.track.points)

    going_on, alone = [], []
    frames = list(read_frames(Path("film.mp4")))
    with Model.load("portraits", threads=1) as model:
        for number in range(1, COUNT):
            crop = cut_out(frames[number].picture, track.points[number], model)
            wanted = model.bundle.manifest.resolution
            target = resize_bilinear(crop.picture, (wanted, wanted)).astype(float)
            for errors, inversion in (
                (going_on, folder.load(number)),
                (alone, model.invert(crop, effort="fast")),
            ):
                errors.append(float(np.square(model.render(inversion) - target).mean()))
    assert np.mean(going_on) < 1.1 * np.mean(alone)

    pasted = [picture for _, picture in pictures_of(Path("film.pasted.mp4"))]
    for picture, known in zip(pasted, film, strict=True):
        assert np.abs(picture[:20].astype(int) - known.picture[:20]).mean() < 5  # the room
        change = np.abs(picture.astype(int) - known.picture).mean()
        assert 0.5 < change < 12
    assert sound_of(Path("film.pasted.mp4"))

    edit = ("smile=0@0,3@0.3", "--paste", "film.mp4", "--threads", 1)
    succeed("edit", "film.inversions", *edit)
    edited = [picture for _, picture in pictures_of(Path("film.edited.mp4"))]
    changes = [moved(a, b) for a, b in zip(edited, pasted, strict=True)]
    assert changes[0] < 8, "an amount of 0 changes nothing but how it is encoded"
    assert changes[7] > 80
    assert np.all(np.diff(changes[:8]) > -1), "it grows"
