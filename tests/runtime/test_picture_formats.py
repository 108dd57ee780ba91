"""TIFF, BMP, GIF, PGM and PPM, against Pillow and arithmetic."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from format_files import (
    ALPHA,
    DEEP,
    IMAGE,
    PHOTO,
    bmp,
    bmp_info,
    pillows,
    whole_files,
)
from hyperstyle_rt.errors import PictureError
from hyperstyle_rt.imaging import pictures as imaging
from pictures import encode, over_white
from PIL import Image

pytestmark = pytest.mark.filterwarnings("error")

FILES = whole_files()


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_pillow_reads_it(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    picture = imaging.read_picture(path)
    expected = pillows(FILES[name])
    assert picture.shape == expected.shape
    tolerance = 2 if name in ("jpeg inside.tif", "cmyk.tif") else 0
    assert np.abs(picture.astype(int) - expected).max() <= tolerance
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("unassociated", [True, False])
@pytest.mark.parametrize("bits", [8, 16])
def test_transparent_tiffs_are_laid_over_white(unassociated: bool, bits: int) -> None:
    rgba = np.dstack([PHOTO, ALPHA]).astype(np.uint16) * (257 if bits == 16 else 1)
    if not unassociated:
        full = 65535 if bits == 16 else 255
        rgba[..., :3] = (rgba[..., :3].astype(np.uint32) * rgba[..., 3:] + full // 2) // full
    data = rgba_tiff(rgba.astype(np.uint16 if bits == 16 else np.uint8), 2 if unassociated else 1)
    picture = imaging.decode_picture(data, Path("x.tif"))
    assert np.abs(picture.astype(int) - over_white(PHOTO, ALPHA)).max() <= 1


def rgba_tiff(rgba: np.ndarray, extra: int) -> bytes:
    """Uncompressed, little-endian, one strip."""
    height, width = rgba.shape[:2]
    bits = rgba.dtype.itemsize * 8
    values = rgba.astype(f"<u{rgba.dtype.itemsize}").tobytes()
    after = 8 + 2 + 10 * 12 + 4
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 4, after),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, after + 8),
        (277, 3, 1, 4),
        (278, 3, 1, height),
        (279, 4, 1, len(values)),
        (338, 3, 1, extra),
    ]
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    header = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    return header + body + bytes(4) + struct.pack("<4H", *[bits] * 4) + values


def test_deep_files_are_rounded_to_8_bits() -> None:
    expected = (DEEP.astype(int) + 128) // 257
    tiff_file = encode(Image.fromarray(DEEP), "TIFF")
    pgm = b"P5 3 2 65535\n" + DEEP.astype(">u2").tobytes()
    ppm = b"P6 1 2 65535\n" + DEEP.astype(">u2").tobytes()
    for data in (tiff_file, pgm):
        picture = imaging.decode_picture(data, Path("x"))
        assert np.array_equal(picture, np.repeat(expected[..., None], 3, axis=2))
    assert np.array_equal(imaging.decode_picture(ppm, Path("x"))[:, 0], expected)


def test_other_highest_values_are_scaled() -> None:
    for data in (b"P5 3 1 100\n\x00\x32\x64", b"P2 3 1 100\n0 50 100"):
        picture = imaging.decode_picture(data, Path("x.pgm"))
        assert picture[0, :, 0].tolist() == [0, 128, 255]
    data = b"P6 1 1 1000\n" + struct.pack(">3H", 0, 500, 1000)
    assert imaging.decode_picture(data, Path("x.ppm"))[0, 0].tolist() == [0, 128, 255]


def test_bmps_of_photoshop_and_of_screens() -> None:
    """32 bits with and without an alpha that counts, and 16 bits."""
    pixels = bytes([10, 20, 30, 0, 40, 50, 60, 255])
    opaque = bmp(bmp_info(2, 1, 32), pixels)  # the fourth byte means nothing
    assert imaging.decode_picture(opaque, Path("x"))[0].tolist() == [[30, 20, 10], [60, 50, 40]]
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    fifth = struct.pack("<I", 124) + bmp_info(2, 1, 32, 3, 8)[4:] + masks + bytes(68)
    see_through = imaging.decode_picture(bmp(fifth, pixels), Path("x"))
    assert see_through[0].tolist() == [[255, 255, 255], [60, 50, 40]]
    half = bmp(bmp_info(2, 1, 16), struct.pack("<2H", 0b11111 << 10, 0b11111))
    assert imaging.decode_picture(half, Path("x"))[0].tolist() == pillows(half)[0].tolist()


def test_a_gif_with_a_transparent_colour_and_a_frame_smaller_than_the_screen() -> None:
    palette = IMAGE.quantize(16)
    data = encode(palette, "GIF", transparency=3)
    alpha = np.where(np.asarray(palette) == 3, 0, 255).astype(np.uint8)
    expected = over_white(np.asarray(palette.convert("RGB")), alpha)
    assert np.array_equal(imaging.decode_picture(data, Path("x.gif")), expected)
    small = bytearray(encode(IMAGE, "GIF"))
    small[6:10] = struct.pack("<HH", 60, 50)
    at = small.index(b"\x2c\x00\x00\x00\x00")
    small[at + 1 : at + 5] = struct.pack("<HH", 7, 9)
    picture = imaging.decode_picture(bytes(small), Path("x.gif"))
    assert picture.shape == (50, 60, 3)
    assert np.array_equal(picture[9 : 9 + 33, 7 : 7 + 45], pillows(encode(IMAGE, "GIF")))


def test_an_opencv_without_gif_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "haveImageWriter", lambda _suffix: False)
    with pytest.raises(PictureError, match=r"is a GIF, which OpenCV .* does not read; install"):
        imaging.decode_picture(encode(IMAGE, "GIF"), Path("x.gif"))


@pytest.mark.parametrize("bits", [8, 16])
def test_tiffs_with_a_plane_a_colour(bits: int) -> None:
    values = PHOTO.astype(f"<u{bits // 8}") * (257 if bits == 16 else 1)
    planes = [np.ascontiguousarray(values[..., n], f"<u{bits // 8}").tobytes() for n in range(3)]
    after = 8 + 2 + 10 * 12 + 4
    place = [after + 6 + 24 + sum(map(len, planes[:n])) for n in range(3)]
    tags = [
        (256, 3, 1, 45),
        (257, 3, 1, 33),
        (258, 3, 3, after),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 3, after + 6),
        (277, 3, 1, 3),
        (278, 3, 1, 33),
        (279, 4, 3, after + 18),
        (284, 3, 1, 2),
    ]
    data = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    data += b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    data += struct.pack("<3H", *[bits] * 3) + struct.pack("<3I", *place)
    data += struct.pack("<3I", *map(len, planes)) + b"".join(planes)
    if bits == 16:  # which OpenCV reads wrongly
        with pytest.raises(PictureError, match="16 bits with a plane for every colour"):
            imaging.decode_picture(data, Path("x.tif"))
    else:
        assert np.array_equal(imaging.decode_picture(data, Path("x.tif")), PHOTO)


def test_pillow_stays_away_until_a_file_needs_it(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(encode(IMAGE, "PNG"))
    code = (
        "import sys; from hyperstyle_rt.imaging.pictures import read_picture; "
        "read_picture(sys.argv[1]); assert not {'PIL', 'pillow_heif', 'av'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.png")], check=True)


@pytest.mark.parametrize("suffix", [".jfif", ".JPE", ".dib", ".TIFF"])
def test_suffixes_of_readable_files_are_known(suffix: str) -> None:
    assert suffix.lower() in imaging.READABLE_SUFFIXES
    assert set(imaging.PICTURE_SUFFIXES) <= set(imaging.READABLE_SUFFIXES)


def test_a_jfif_is_a_jpeg_both_ways(tmp_path: Path) -> None:
    imaging.write_picture(tmp_path / "x.jfif", PHOTO)
    assert (tmp_path / "x.jfif").read_bytes().startswith(b"\xff\xd8\xff")
    imaging.write_picture(tmp_path / "x.jpg", PHOTO)
    assert (tmp_path / "x.jfif").read_bytes() == (tmp_path / "x.jpg").read_bytes()
    assert imaging.read_picture(tmp_path / "x.jfif").shape == PHOTO.shape
