"""The FFHQ alignment against the official code's results, and against Pillow step by step."""

from __future__ import annotations

from pathlib import Path

import fakeweights
import numpy as np
import pytest
from hyperstyle_rt.errors import PictureError
from hyperstyle_rt.imaging import resampling
from hyperstyle_rt.photos.alignment import align, face_points, padding, quadrilateral
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]


def square(centre: tuple[float, float], side: float, angle: float) -> Array:
    x = np.array([np.cos(angle), np.sin(angle)]) * side / 2
    y = np.array([-x[1], x[0]])
    c = np.array(centre)
    return np.stack([c - x - y, c - x + y, c + x + y, c + x - y])


@pytest.mark.parametrize("case", ["inside", "padded", "shrunk"])
def test_the_golden_crops_come_out_to_the_last_bit(case: str, golden_dir: Path) -> None:
    golden = np.load(golden_dir / "misc.npz")
    seed, height, width = (int(n) for n in golden[f"align/{case}/params"])
    photo = fakeweights.image_u8(seed, height, width)
    quad = quadrilateral(face_points(golden[f"align/{case}/landmarks"]))
    crop, _ = align(photo, quad, 1024)
    blocks = crop.reshape(64, 16, 64, 16, 3).astype(np.float64)
    np.testing.assert_array_equal(
        blocks.mean(axis=(1, 3)).astype(np.float32), golden[f"align/{case}/area64"]
    )
    np.testing.assert_array_equal(crop[480:544, 480:544], golden[f"align/{case}/crop_centre64_u8"])
    np.testing.assert_allclose(
        [crop.mean(), crop.std()], golden[f"align/{case}/mean_std"], rtol=1e-12
    )


@pytest.mark.parametrize("angle", [0.0, 0.4, -2.0])
@pytest.mark.parametrize("side", [150.0, 700.0])
def test_large_faces_are_shrunk_and_sampled_as_pillow_does(side: float, angle: float) -> None:
    photo = fakeweights.image_u8(3, 1100, 1200)
    quad = square((590.3, 560.8), side, angle)
    crop, _ = align(photo, quad, 128)

    picture, shrink = Image.fromarray(photo), int(side / 128 / 2)
    if shrink > 1:
        width, height = round(1200 / shrink), round(1100 / shrink)
        rows = picture.resize((width, 1100), Image.Resampling.LANCZOS)
        picture = rows.resize((width, height), Image.Resampling.LANCZOS)
        quad = quad / shrink
    expected = picture.transform(
        (128, 128), Image.Transform.QUAD, tuple((quad + 0.5).ravel()), Image.Resampling.BILINEAR
    )
    np.testing.assert_array_equal(crop, np.asarray(expected))


@pytest.mark.parametrize("size", [(97, 60), (150, 333), (300, 210), (451, 700)])
def test_lanczos_is_pillows(size: tuple[int, int]) -> None:
    picture = fakeweights.image_u8(4, 300, 420)
    rows = Image.fromarray(picture).resize((size[1], 300), Image.Resampling.LANCZOS)
    expected = rows.resize(size[::-1], Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(
        resampling.resize(picture, size, resampling.LANCZOS), np.asarray(expected)
    )


@pytest.mark.parametrize(
    ("centre", "side"), [((65.0, 60.0), 50.0), ((30.0, 100.0), 45.0), ((65.3, 61.2), 95.0)]
)
def test_the_transform_says_where_each_pixel_of_the_crop_was(
    centre: tuple[float, float], side: float
) -> None:
    y, x = np.mgrid[:128, :128]
    photo = np.stack([2 * x, 2 * y, np.full_like(x, 7)], axis=-1).astype(np.uint8)
    crop, transform = align(photo, square(centre, side, 0.2), 22)
    rows, columns = np.mgrid[:22, :22]
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1).reshape(-1, 3)
    x, y, _ = np.linalg.inv(transform) @ pixels.T
    reach = 0.1 * side + 4  # nearer to an edge padding may have blurred it
    clear = (x > reach) & (x < 127 - reach) & (y > reach) & (y < 127 - reach)
    assert clear.sum() > 200
    for channel, expected in ((0, 2 * x[clear]), (1, 2 * y[clear])):
        off = crop.reshape(-1, 3)[clear, channel] - expected
        assert np.abs(off).max() < 1.1  # truncation
        assert abs(off.mean() + 0.5) < 0.1  # so a twentieth of a pixel would show


def test_a_square_that_sticks_out_is_padded_with_the_reflected_photo() -> None:
    photo = fakeweights.image_u8(5, 200, 200)
    quad = square((30.0, 100.0), 120.0, 0.0)
    before, after = padding(np.array([200, 200]), quad, 120.0)
    assert before.tolist() == [42, 36]  # 30 - 60 and a border of 12; 0.3 of the side
    assert after.tolist() == [36, 36]
    crop, _ = align(photo, quad, 64)
    assert crop.std() > 10  # a black edge or one colour would be left otherwise
    assert not (crop == 0).all(axis=2).any()


def test_a_square_within_the_photo_needs_no_padding() -> None:
    before, after = padding(np.array([200, 200]), square((100.0, 100.0), 80.0, 0.0), 80.0)
    assert not before.any()
    assert not after.any()


def test_a_square_far_larger_than_the_photo_is_refused() -> None:
    photo = fakeweights.image_u8(5, 30, 30)
    with pytest.raises(PictureError, match=r"the padded photo has .* scale it down"):
        align(photo, square((15.0, 15.0), 20000.0, 0.0), 20000)
