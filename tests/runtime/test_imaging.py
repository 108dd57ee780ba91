"""Reading, resizing and writing of pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import fakeweights
import numpy as np
import pytest
from hyperstyle_rt.errors import PictureError
from hyperstyle_rt.imaging import pictures as imaging
from hyperstyle_rt.imaging.picture_files import MAX_PIXELS, parse_picture
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pictures import BAD_PICTURES, ODD_PICTURES, encode, photo
from PIL import Image

pytestmark = pytest.mark.filterwarnings("error")

GOLDEN = Path(__file__).parents[1] / "golden"

# What each refusal has to say, besides the name of the file.
SAYS = {
    "missing.png": "cannot read",
    "folder.png": "not a regular file",
    "empty.jpg": "is empty",
    "text.jpg": "is not a picture; give a PNG, JPEG, WebP, TIFF",
    "web page.jpg": "a web page",
    "zeros.png": "is not a picture",
    "cut in header.jpg": "cut short",
    "cut.jpg": "cut short",
    "cut after a thumbnail.jpg": "cut short",
    "cut and filled with zeros.jpg": "cut short",
    "cut by one byte.jpg": "cut short",
    "cut by four bytes.jpg": "cut short",
    "progressive without end mark.jpg": "cut short",
    "cut progressive.jpg": "cut short",
    "broken segments.jpg": "damaged",
    "two frame headers.jpg": "damaged",
    "cut.png": "cut short",
    "without end chunk.png": "cut short",
    "flipped bit.png": "damaged",
    "without header.png": "damaged",
    "two headers.png": "damaged",
    "too few rows.png": "damaged",
    "cut.webp": "cut short",
    "other data.webp": "damaged",
    "0 x 0.png": "no pixels (0 x 0)",
    "0 x 0.jpg": "no pixels (0 x 0)",
    "60000 x 60000.png": "60000 x 60000 pixels",
    "60000 x 60000.jpg": "60000 x 60000 pixels",
    "60000 x 60000.webp": "60000 x 60000 pixels",
    "long side.png": "70000 x 1 pixels",
    "animation.png": "is an animation; save the frame",
    "animation.webp": "is an animation; save the frame",
    "camera.cr2": "a camera raw picture",
    "camera.orf": "a camera raw picture",
    "picture.jxl": "a JPEG XL picture",
    **dict.fromkeys(
        ("film.mp4", "film.mkv", "film.avi", "film.mpg"),
        "is a film, which is not read here; save the frame you want as PNG or JPEG first, or",
    ),
    "paper.pdf": "a PDF",
}

# Their headers are in order; only decoding shows that the data are not.
REFUSED_BY_DECODER = {"two frame headers.jpg", "too few rows.png", "other data.webp"}
# A sequential JPEG that stops in its scan may lack only its end mark.
REFUSED_BY_DECODER |= {"cut.jpg", "cut after a thumbnail.jpg", "cut and filled with zeros.jpg"}
REFUSED_BY_DECODER |= {"cut by one byte.jpg", "cut by four bytes.jpg"}
# libpng says so on standard error. A file that is merely cut or damaged does not come that far.
NOISY = {"too few rows.png"}


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[Any]]:
    with np.load(GOLDEN / "misc.npz") as archive:
        return {key: archive[key] for key in archive if key.startswith("prep/")}


def pillow_resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize with Pillow, along the rows first: Pillow 12.2 and later choose the order."""
    rows_done = Image.fromarray(image).resize((size[1], image.shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(rows_done.resize((size[1], size[0]), Image.Resampling.BILINEAR))


# Reading


def test_every_bad_picture_has_its_sentence() -> None:
    assert set(SAYS) == set(BAD_PICTURES)


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_bad_picture_is_refused(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = BAD_PICTURES[name](tmp_path)
    if name not in REFUSED_BY_DECODER:
        monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("reached the decoder"))
    with pytest.raises(PictureError) as refusal:
        imaging.read_picture(path)
    sentence = str(refusal.value)
    assert SAYS[name] in sentence
    assert str(path) in sentence
    assert "\n" not in sentence
    if name not in NOISY:
        assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ODD_PICTURES)
def test_odd_picture_is_read(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, expected = ODD_PICTURES[name](tmp_path)
    picture = imaging.read_picture(path)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous
    assert picture.shape == expected.shape
    # JPEG decoders may differ by a rounding.
    tolerance = 2 if path.suffix == ".jpg" else 0
    assert np.abs(picture.astype(int) - expected).max() <= tolerance
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "data",
    [
        encode(photo(16, 16), "JPEG"),
        encode(photo(16, 16), "JPEG", progressive=True),
        encode(photo(16, 16), "PNG"),
        encode(photo(16, 16), "WEBP"),
        encode(photo(16, 16), "WEBP", lossless=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
    ],
    ids=["jpeg", "progressive", "png", "webp", "extended webp"],
)
def test_every_cut_is_noticed(data: bytes) -> None:
    parse_picture(data, Path("whole"))
    end = 2 if data.startswith(b"\xff\xd8") and b"\xff\xc0" in data else 0  # see the next test
    for length in range(len(data) - end):
        with pytest.raises(PictureError, match=r"cut (is|.*) "):
            imaging.decode_picture(data[:length], Path("cut"))


@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 3}, {"subsampling": 0}])
def test_a_jpeg_that_lacks_only_its_end_mark_is_read_with_a_note(
    options: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noisy = np.clip(
        photo(160, 240).astype(int) + fakeweights.image_u8(3, 160, 240) // 4 - 32, 0, 255
    )
    data = encode(noisy.astype(np.uint8), "JPEG", quality=90, **options)
    (tmp_path / "whole.jpg").write_bytes(data)
    (tmp_path / "open.jpg").write_bytes(data[:-2])
    whole = imaging.read_picture(tmp_path / "whole.jpg")
    assert not caplog.records
    assert np.array_equal(imaging.read_picture(tmp_path / "open.jpg"), whole)
    (record,) = caplog.records
    assert "lacks the mark at its end" in record.getMessage()
    assert "open.jpg" in record.getMessage()
    for missing in (3, 4, 5, 6, 7, 10, 20, 40, 100, 1000, len(data) // 2):
        with pytest.raises(PictureError, match="cut short"):
            imaging.decode_picture(data[:-missing], Path("cut.jpg"))
        with pytest.raises(PictureError, match=r"cut short|damaged"):
            imaging.decode_picture(data[: -missing - 8] + bytes(5000), Path("filled.jpg"))


WHOLE = [
    encode(photo(16, 16), kind, exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0")
    for kind in ("JPEG", "PNG", "WEBP")
]


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 255)), max_size=4),
)
def test_damage_never_escapes_as_another_error(whole: bytes, damage: list[tuple[int, int]]) -> None:
    damaged = bytearray(whole)
    for position, value in damage:
        damaged[position] = value
    try:
        file = parse_picture(bytes(damaged), Path("the file"))
    except PictureError as refusal:
        assert str(refusal).startswith("the file ")
    else:
        assert 1 <= file.orientation <= 8
        assert 1 <= file.height * file.width <= MAX_PIXELS


def test_check_picture_returns_good_ones_without_copy() -> None:
    picture = photo()
    assert imaging.check_picture(picture) is picture


def test_check_picture_takes_views() -> None:
    bgr = photo()
    checked = imaging.check_picture(bgr[::-1, :, ::-1])
    assert checked.flags.c_contiguous
    assert (checked == bgr[::-1, :, ::-1]).all()


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ([[[0, 0, 0]]], "numpy array, not list"),
        ("photo.jpg", "numpy array, not str"),
        (None, "numpy array, not NoneType"),
        (photo().astype(np.float32) / 255, "uint8 with values 0 to 255, not float32"),
        (photo().astype(np.int64), "not int64"),
        (photo().astype(np.uint16), "not uint16"),
        (photo()[..., 0], r"\[height, width, 3\], not \[48, 64\]"),
        (photo()[..., :1], r"not \[48, 64, 1\]"),
        (np.zeros((8, 8, 4), np.uint8), r"not \[8, 8, 4\]"),
        (photo().transpose(2, 0, 1), r"not \[3, 48, 64\]"),
        (photo()[None], r"not \[1, 48, 64, 3\]"),
        (np.zeros((0, 8, 3), np.uint8), r"no pixels \(8 x 0\)"),
        (np.zeros((8, 0, 3), np.uint8), r"no pixels \(0 x 8\)"),
        (np.broadcast_to(np.uint8(0), (20_000, MAX_PIXELS // 20_000 + 1, 3)), "scale it down"),
    ],
)
def test_check_picture_refuses(image: Any, says: str) -> None:
    with pytest.raises(PictureError, match=says):
        imaging.check_picture(image)


# Resizing


@pytest.mark.parametrize(
    ("key", "source", "size"),
    [
        ("prep/resize256", (11, 300, 420), (256, 256)),
        ("prep/resize192x256", (11, 300, 420), (192, 256)),
        ("prep/resize256_from1024", (12, 1024, 1024), (256, 256)),
    ],
)
def test_resize_matches_the_original_preprocessing(
    key: str,
    source: tuple[int, int, int],
    size: tuple[int, int],
    golden: dict[str, NDArray[Any]],
) -> None:
    image = fakeweights.image_u8(*source)
    assert np.array_equal(imaging.resize_bilinear(image, size), golden[key])
    tensor = imaging.to_input(image, size)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert np.array_equal(tensor, fakeweights.to_input(golden[key]))


SIDES = st.one_of(st.integers(1, 8), st.integers(1, 150))


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.integers(0, 2**32 - 1), st.booleans())
def test_resize_is_pillows(
    source: tuple[int, int], size: tuple[int, int], seed: int, hard_edges: bool
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (*source, 3), dtype=np.uint8)
    if hard_edges:
        image = np.where(image < 128, 0, 255).astype(np.uint8)
    resized = imaging.resize_bilinear(image, size)
    assert resized.flags.c_contiguous
    assert np.array_equal(resized, pillow_resize(image, size))


@pytest.mark.parametrize("size", [(256, 256), (192, 256), (40, 3000), (3000, 1)])
def test_resize_of_a_large_picture_is_pillows(size: tuple[int, int]) -> None:
    image = np.random.default_rng(5).integers(0, 256, (1501, 2003, 3), dtype=np.uint8)
    assert np.array_equal(imaging.resize_bilinear(image, size), pillow_resize(image, size))


def test_resize_takes_views_and_returns_a_new_array() -> None:
    image = photo()
    flipped = imaging.resize_bilinear(image[:, ::-1, ::-1], (10, 20))
    assert np.array_equal(flipped, pillow_resize(image[:, ::-1, ::-1].copy(), (10, 20)))
    same = imaging.resize_bilinear(image, (48, 64))
    assert np.array_equal(same, image)
    assert not np.shares_memory(same, image)


@pytest.mark.parametrize("size", [(0, 8), (8, -1)])
def test_resize_to_nothing_is_a_bug(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot resize"):
        imaging.resize_bilinear(photo(), size)


# From the networks


def test_to_picture_matches_the_original(golden: dict[str, NDArray[Any]]) -> None:
    picture = imaging.to_picture(golden["prep/tensor2im_in"])
    assert np.array_equal(picture, golden["prep/tensor2im_out"])
    assert picture.flags.c_contiguous


def test_to_picture_clips_and_truncates() -> None:
    values = np.array([-9, -1, 0, 0.999, 1, 9], np.float32)
    picture = imaging.to_picture(np.broadcast_to(values, (3, 1, 6)))
    assert picture[0, :, 0].tolist() == [0, 0, 127, 254, 255, 255]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_to_picture_refuses_values_that_are_not_finite(value: float) -> None:
    tensor = np.zeros((3, 4, 4), np.float32)
    tensor[1, 2, 3] = value
    with pytest.raises(ValueError, match="not finite"):
        imaging.to_picture(tensor)


@pytest.mark.parametrize(
    "tensor",
    [np.zeros((3, 4, 4)), np.zeros((1, 3, 4, 4), np.float32), np.zeros((4, 4, 3), np.float32)],
    ids=["float64", "batch", "channels last"],
)
def test_to_picture_refuses_other_tensors(tensor: Any) -> None:
    with pytest.raises(ValueError, match="expected float32"):
        imaging.to_picture(tensor)


# Writing


def test_png_holds_the_picture_exactly(tmp_path: Path) -> None:
    imaging.write_picture(tmp_path / "picture.PNG", photo())
    assert np.array_equal(np.asarray(Image.open(tmp_path / "picture.PNG")), photo())


@pytest.mark.parametrize(
    ("name", "kind"), [("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.webp", "WEBP"), ("a.png", "PNG")]
)
def test_written_picture_is_of_its_kind_close_and_always_the_same(
    name: str, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    imaging.write_picture(path, photo())
    first = path.read_bytes()
    with Image.open(path) as image:
        assert image.format == kind
        difference = np.asarray(image.convert("RGB")).astype(int) - photo()
    assert np.abs(difference).mean() < 2
    imaging.write_picture(str(path), photo())
    assert path.read_bytes() == first
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["picture.gif", "picture", "picture.jpg.", ".png"])
def test_unknown_suffix_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"\.png, \.jpg, \.jpeg, \.webp"):
        imaging.write_picture(tmp_path / name, photo())
    assert not os.listdir(tmp_path)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"there is no folder .*nowhere; create it first"):
        imaging.write_picture(tmp_path / "nowhere" / "picture.png", photo())


def test_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").mkdir()
    with pytest.raises(PictureError, match="cannot write"):
        imaging.write_picture(tmp_path / "picture.png", photo())
    assert os.listdir(tmp_path) == ["picture.png"]


def test_failed_write_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "picture.png").write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(PictureError, match="No space left on device"):
        imaging.write_picture(tmp_path / "picture.png", photo())
    assert os.listdir(tmp_path) == ["picture.png"]
    assert (tmp_path / "picture.png").read_bytes() == b"old"


def test_webp_too_wide_is_refused(tmp_path: Path) -> None:
    wide = np.zeros((1, 16_384, 3), np.uint8)
    imaging.write_picture(tmp_path / "wide.webp", wide[:, 1:])
    with pytest.raises(PictureError, match=r"16383 pixels a side; use \.png"):
        imaging.write_picture(tmp_path / "wider.webp", wide)


def test_only_pictures_are_written(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="uint8"):
        imaging.write_picture(tmp_path / "picture.png", photo().astype(np.float32))
    assert not os.listdir(tmp_path)


def test_side_by_side_scales_up_to_the_highest() -> None:
    small, large = photo(24, 10), photo(48, 64)
    row = imaging.side_by_side([small, large, small])
    assert row.shape == (48, 20 + 2 + 64 + 2 + 20, 3)
    assert np.array_equal(row[:, :20], pillow_resize(small, (48, 20)))
    assert (row[:, 20:22] == 255).all()
    assert np.array_equal(row[:, 22:86], large)
    assert (row[:, 86:88] == 255).all()
    assert np.array_equal(row[:, 88:], row[:, :20])


def test_side_by_side_of_one_is_that_one() -> None:
    assert np.array_equal(imaging.side_by_side([photo()]), photo())
