"""Portraits cut out of photos, and set back in."""

from __future__ import annotations

import cv2
import fakeweights
import numpy as np
import pytest
from face_pictures import in_a_photo, known_faces
from hyperstyle_rt.errors import PictureError
from hyperstyle_rt.imaging.pictures import resize_bilinear
from hyperstyle_rt.photos import portraits as photos
from hyperstyle_rt.photos.alignment import align
from hyperstyle_rt.photos.portraits import (
    choose_portraits,
    find_portraits,
    paste,
    portraits_to_invert,
)
from hyperstyle_rt.types import Picture
from pictures import photo as landscape

FACES = known_faces()


@pytest.fixture(scope="module")
def scene() -> Picture:
    """Two faces, the larger one on the left."""
    large = in_a_photo(FACES[3], (420, 800), np.array([220.0, 210.0]), 330, 5)
    small = in_a_photo(FACES[5], (420, 800), np.array([620.0, 210.0]), 230, -8)
    picture = large.picture.copy()
    picture[:, 450:] = small.picture[:, 450:]
    return picture


def smooth_photo(height: int, width: int) -> Picture:
    return cv2.GaussianBlur(fakeweights.image_u8(8, height, width), (0, 0), 5)


def square(centre: tuple[float, float], side: float, angle: float) -> np.ndarray:
    x = np.array([np.cos(angle), np.sin(angle)]) * side / 2
    y = np.array([-x[1], x[0]])
    c = np.array(centre)
    return np.stack([c - x - y, c - x + y, c + x + y, c + x - y])


def test_each_face_becomes_a_crop_with_its_transform(scene: Picture) -> None:
    portraits = find_portraits(scene, 256)
    assert [portrait.crop.shape for portrait in portraits] == [(256, 256, 3)] * 2
    for portrait, face in zip(portraits, (FACES[3], FACES[5]), strict=True):
        # The renderings are about aligned, so the crop is about the rendering again.
        assert np.abs(portrait.crop.astype(int) - face.picture).mean() < 30
        eyes = portrait.transform @ [*portrait.landmarks[:2].mean(axis=0), 1]
        assert np.abs(eyes[:2] - [127.5, 120]).max() < 16


def test_smaller_crops_are_resized_from_the_official_size(scene: Picture) -> None:
    (full,) = find_portraits(scene, which="largest")
    (small,) = find_portraits(scene, 128, "largest")
    assert full.crop.shape == (1024, 1024, 3)
    np.testing.assert_array_equal(small.crop, resize_bilinear(full.crop, (128, 128)))
    np.testing.assert_allclose(full.transform_to(128), small.transform)


@pytest.mark.parametrize(
    ("which", "chosen"), [("largest", "a"), ("all", "abc"), (0, "a"), ("2", "c"), (1, "b")]
)
def test_faces_are_chosen(which: str | int, chosen: str) -> None:
    assert choose_portraits("abc", which) == tuple(chosen)


@pytest.mark.parametrize("which", ["biggest", "", "-1", -1, "1.5", 3, "3", "9" * 5000, "²"])
def test_a_face_that_is_not_there_is_refused_in_a_sentence(which: str | int) -> None:
    with pytest.raises(PictureError, match=r"^(the face must be|there is no face)"):
        choose_portraits("abc", which)


def test_no_face_is_one_sentence_that_says_what_to_try() -> None:
    with pytest.raises(PictureError, match=r"^no face was found; try .*--align never\)$"):
        find_portraits(landscape(100, 130))


def test_an_aligned_crop_is_used_as_it_is(scene: Picture) -> None:
    (portrait,) = find_portraits(scene, which="largest")
    assert portraits_to_invert(portrait.crop) == ((), None)
    assert portraits_to_invert(portrait.crop, "all") == ((), None)


def test_a_photo_is_aligned(scene: Picture) -> None:
    portraits, notice = portraits_to_invert(scene, "all")
    assert len(portraits) == 2
    assert notice is None
    square_photo = in_a_photo(FACES[3], (500, 500), np.array([300.0, 250.0]), 300, 0)
    assert len(portraits_to_invert(square_photo.picture)[0]) == 1


def test_a_picture_without_a_face_is_used_with_a_notice() -> None:
    portraits, notice = portraits_to_invert(landscape(100, 130))
    assert portraits == ()
    assert notice is not None
    assert notice.startswith("no face was found")


@pytest.mark.parametrize("rendered", [1024, 256])
@pytest.mark.parametrize(
    ("centre", "side", "angle"),
    [
        pytest.param((400, 300), 350, 0.3, id="inside"),
        pytest.param((90, 480), 320, -0.2, id="sticking out"),
        pytest.param((420, 310), 560, 2.5, id="large"),
    ],
)
def test_an_unchanged_crop_pasted_gives_the_photo_again(
    centre: tuple[int, int], side: float, angle: float, rendered: int
) -> None:
    photo = smooth_photo(600, 800)
    crop, transform = align(photo, square(centre, side, angle), 1024)
    portrait = photos.Portrait(crop, transform, 1.0, np.zeros(4), np.zeros((4, 2)))
    picture = crop if rendered == 1024 else resize_bilinear(crop, (rendered, rendered))
    result = paste(photo, portrait.transform_to(rendered), picture)
    off = np.abs(result.astype(int) - photo)
    assert off.max() <= 4  # interpolation; the photo's own levels differ by up to 10 a pixel
    assert off.mean() < 0.5

    stranger = paste(photo, portrait.transform_to(rendered), 255 - picture)
    changed = (stranger != photo).any(axis=2)
    y, x = np.mgrid[:600, :800]
    inside = np.stack([x, y, np.ones_like(x)], -1) @ transform.T
    within = ((inside[..., :2] > -0.5) & (inside[..., :2] < 1023.5)).all(axis=2)
    assert not changed[~within].any()  # the very bytes outside of the crop
    middle = (np.abs(inside[..., :2] - 511.5) < 250).all(axis=2)
    edge = np.minimum(np.minimum(x, 799 - x), np.minimum(y, 599 - y))
    core = middle & (edge > 0.4 * side)
    if core.any():
        np.testing.assert_allclose(stranger[core], 255 - photo[core].astype(int), atol=4)


def test_pasting_leaves_the_photo_alone() -> None:
    photo = smooth_photo(300, 300)
    before = photo.copy()
    crop, transform = align(photo, square((150, 150), 150, 0.1), 128)
    paste(photo, transform, 255 - crop)
    np.testing.assert_array_equal(photo, before)


@pytest.mark.parametrize(
    ("transform", "problem"),
    [
        (np.zeros((3, 3)), "damaged"),
        (np.full((3, 3), np.nan), "damaged"),
        (np.array([[1.0, 0, 5000], [0, 1, 0], [0, 0, 1]]), "lies outside this photo"),
    ],
)
def test_a_transform_that_leads_nowhere_is_refused(transform: np.ndarray, problem: str) -> None:
    with pytest.raises(PictureError, match=problem):
        paste(landscape(), transform, landscape(64, 64))
