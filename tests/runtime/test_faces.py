"""Faces found in photos, against renderings whose points are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from face_pictures import Known, crowd, in_a_photo, known_faces
from hyperstyle_rt.photos import face_models, faces
from hyperstyle_rt.photos.alignment import quadrilateral
from hyperstyle_rt.photos.faces import find_faces, find_prominent_faces
from pictures import photo

FACES = known_faces()


def corner_error(found: faces.Array, known: faces.Array) -> float:
    """Mean distance of the crops' corners, in sides of the crop."""
    ours, theirs = quadrilateral(found), quadrilateral(known)
    return float(np.hypot(*(ours - theirs).T).mean() / np.hypot(*(theirs[3] - theirs[0])))


def test_the_points_of_rendered_faces_are_found() -> None:
    found = [find_faces(face.picture) for face in FACES]
    assert [len(each) for each in found] == [1] * len(FACES)
    errors = [corner_error(f[0].points, k.points) for f, k in zip(found, FACES, strict=True)]
    assert np.median(errors) < 0.025
    assert max(errors) < 0.04
    assert all(f[0].score > 0.5 for f in found)


@pytest.mark.parametrize(
    ("size", "centre", "side", "turn"),
    [
        pytest.param((900, 1200), (900, 300), 700, 20, id="large and tilted"),
        pytest.param((900, 1200), (300, 620), 160, -15, id="small"),
        pytest.param((300, 400), (200, 150), 250, 90, id="lying"),
        pytest.param((300, 400), (210, 150), 250, 180, id="upside down"),
        pytest.param((300, 400), (200, 155), 250, -90, id="lying the other way"),
    ],
)
def test_a_face_is_found_where_it_lies(
    size: tuple[int, int], centre: tuple[int, int], side: float, turn: float
) -> None:
    known = in_a_photo(FACES[3], size, np.array(centre, float), side, turn)
    (face,) = find_faces(known.picture)
    assert corner_error(face.points, known.points) < 0.05
    left, top, right, bottom = face.box
    assert (known.points > [left, top]).all()
    assert (known.points < [right, bottom]).all()


def test_several_faces_come_the_largest_first() -> None:
    large = in_a_photo(FACES[3], (500, 1000), np.array([250.0, 250.0]), 400, 5)
    small = in_a_photo(FACES[5], (500, 1000), np.array([780.0, 250.0]), 260, -8)
    scene = large.picture.copy()
    scene[:, 560:] = small.picture[:, 560:]
    first, second = find_faces(scene)
    assert corner_error(first.points, large.points) < 0.04
    assert corner_error(second.points, small.points) < 0.04


def hits(found: list[faces.Face], points: faces.Array) -> list[int]:
    """How many of the faces found are each of the known ones."""
    centres = np.array([face.points.mean(axis=0) for face in found]).reshape(-1, 2)
    eyes = np.hypot(*(points[:, 1] - points[:, 0]).T)
    distances = np.hypot(*(centres[None] - points.mean(axis=1)[:, None]).transpose(2, 0, 1))
    return (distances < 0.6 * eyes[:, None]).sum(axis=1).tolist()


@pytest.mark.parametrize("width", [93, 60])
def test_the_small_faces_of_a_large_group_are_found_once(width: int) -> None:
    photo_, points = crowd((4000, 6000), 5, 8, width)
    found = find_faces(photo_)
    counts = hits(found, points)
    assert sum(count > 0 for count in counts) >= 38
    assert max(counts) == 1
    assert len(found) <= 40
    errors = [
        corner_error(face.points, points[np.abs(points - face.points).sum((1, 2)).argmin()])
        for face in found
    ]
    assert np.median(errors) < 0.05
    areas = [np.prod(face.box[2:] - face.box[:2]) for face in found]
    assert areas == sorted(areas, reverse=True)


def test_a_face_where_tiles_meet_is_found_once() -> None:
    """Faces of many sizes across the borders of tiles, larger than their overlap too."""
    for width in (40, 130, 300, 500):
        known = in_a_photo(FACES[2], (1500, 2600), np.array([1300.0, 750.0]), 256 / 153 * width, 4)
        assert hits(find_faces(known.picture), known.points[None]) == [1]


def test_a_portrait_is_found_as_ever_where_small_faces_are_looked_for_too() -> None:
    """Bit for bit, and with nothing found inside it; the looks at the whole decide."""
    large = in_a_photo(FACES[1], (2000, 3000), np.array([1100.0, 1000.0]), 1500, 3)
    (alone,) = find_prominent_faces(large.picture)
    first, *more = find_faces(large.picture)
    assert not more
    for ours, theirs in ((first.box, alone.box), (first.points, alone.points)):
        assert np.array_equal(ours, theirs)
    assert first.score == alone.score
    small = in_a_photo(FACES[4], (2000, 3000), np.array([2600.0, 300.0]), 64, -5)
    scene = large.picture.copy()
    scene[200:400, 2500:2700] = small.picture[200:400, 2500:2700]
    first, second = find_faces(scene)
    alone, *_ = find_prominent_faces(scene)
    assert np.array_equal(first.points, alone.points)
    assert corner_error(second.points, small.points) < 0.05


def test_a_group_on_its_side_is_found() -> None:
    photo_, points = crowd((1600, 2000), 2, 3, 50)
    turned = np.ascontiguousarray(np.rot90(photo_))
    found = find_faces(turned)
    back = np.stack([1999 - points[..., 0], points[..., 1]], axis=-1)[..., ::-1]
    assert hits(found, back) == [1] * 6


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (48, 64), (700, 500), (1300, 1700)])
def test_no_face_is_seen_where_none_is(size: tuple[int, int]) -> None:
    assert find_faces(photo(*size)) == []


def test_a_grey_face_is_found() -> None:
    face = FACES[0]
    grey = np.repeat(face.picture.mean(axis=2).astype(np.uint8)[..., None], 3, axis=2)
    (found,) = find_faces(grey)
    assert corner_error(found.points, face.points) < 0.05


def test_a_model_that_was_altered_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in face_models.MODEL_DIGESTS:
        data = bytearray((face_models.MODELS / name).read_bytes())
        data[-1] ^= 1
        (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(face_models, "MODELS", tmp_path)
    face_models._opened.cache_clear()
    try:
        with pytest.raises(RuntimeError, match="not the file of this release"):
            find_faces(FACES[0].picture)
    finally:
        face_models._opened.cache_clear()


def test_the_renderings_are_about_aligned() -> None:
    """Or the other tests would say little."""
    for face in FACES:
        assert isinstance(face, Known)
        assert np.abs(quadrilateral(face.points).mean(axis=0) - 127.5).max() < 20
