"""Pictures that are refused: too large, of rare kinds, cut short, damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from format_files import (
    IMAGE,
    PHOTO,
    avif,
    big_endian_tiff,
    bmp,
    bmp_info,
    heic,
)
from hyperstyle_rt.errors import PictureError
from hyperstyle_rt.imaging import pictures as imaging
from hyperstyle_rt.imaging.picture_files import MAX_PIXELS, parse_picture
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encode, photo
from PIL import Image

pytestmark = pytest.mark.filterwarnings("error")


def sized(data: bytes, at: int, code: str, *sides: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(code, changed, at, *sides)
    return bytes(changed)


def huge_files() -> dict[str, bytes]:
    heif = avif()
    ispe = heif.index(b"ispe") + 8
    return {
        "x.bmp": sized(encode(IMAGE, "BMP"), 18, "<ii", 60_000, 60_000),
        "x.gif": sized(encode(IMAGE, "GIF"), 6, "<HH", 60_000, 60_000),
        "x.ppm": b"P6\n60000 60000\n255\n" + bytes(100),
        "text.pgm": b"P2\n60000 60000\n255\n" + bytes(100),
        "x.avif": sized(heif, ispe, ">II", 60_000, 60_000),
    }


@pytest.mark.parametrize("name", ["x.bmp", "x.gif", "x.ppm", "text.pgm", "x.avif"])
def test_sizes_are_checked_before_any_decoder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = huge_files()[name]
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("reached the decoder"))
    with pytest.raises(PictureError, match="60000 x 60000 pixels"):
        imaging.decode_picture(data, Path(name))


def test_the_sides_of_a_tiff_and_of_its_tiles_are_checked() -> None:
    data = bytearray(big_endian_tiff())
    for tag in (256, 257):
        at = data.index(struct.pack(">HH", tag, 3)) + 8
        data[at : at + 2] = struct.pack(">H", 60_000)
    with pytest.raises(PictureError, match="60000 x 60000 pixels"):
        parse_picture(bytes(data), Path("x.tif"))
    tiled = bytearray(big_endian_tiff())
    for tag, other in ((273, 324), (279, 325), (277, 322), (278, 323)):
        at = tiled.index(struct.pack(">H", tag), 8)
        tiled[at : at + 2] = struct.pack(">H", other)
        if other in (322, 323):
            tiled[at + 8 : at + 10] = struct.pack(">H", 61_440)
    with pytest.raises(PictureError, match="61440 x 61440 pixels"):
        parse_picture(bytes(tiled), Path("x.tif"))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (encode(Image.fromarray(PHOTO[..., 0].astype(np.float32)), "TIFF"), "fractional"),
        (encode(IMAGE.convert("LA"), "TIFF"), "more channels"),
        (encode(IMAGE.convert("LAB"), "TIFF"), "rare kind of colours"),
        (bmp(bmp_info(2, 2, 24, 5), bytes(16)), "JPEG or PNG inside"),
        (bmp(struct.pack("<I", 77) + bytes(80), bytes(16)), "damaged"),
        (b"P5\nwide high\n255\n", "damaged"),
        (b"P5 2 2 70000\n" + bytes(8), "damaged"),
        (b"P2 2 1 255\n1 300", "damaged"),
        (b"P2 2 1 255\n1 x", "damaged"),
        (b"P2 2 1 255\n1  ", "cut short"),
        (b"P7\nWIDTH 2\n", "a PAM picture"),
    ],
)
def test_rare_kinds_get_their_sentence(data: bytes, says: str) -> None:
    with pytest.raises(PictureError, match=says) as refusal:
        imaging.decode_picture(data, Path("the file"))
    assert "\n" not in str(refusal.value)


CUTTABLE = {
    "tiff": encode(Image.fromarray(photo(9, 11)), "TIFF"),
    "lzw": encode(Image.fromarray(photo(9, 11)), "TIFF", compression="tiff_lzw"),
    "bmp": encode(Image.fromarray(photo(9, 11)), "BMP"),
    "gif": encode(Image.fromarray(photo(9, 11)), "GIF"),
    "ppm": encode(Image.fromarray(photo(9, 11)), "PPM"),
    "heic": heic(Image.fromarray(photo(64, 64))),
    "avif": avif(Image.fromarray(photo(16, 16))),
}


@pytest.mark.parametrize("name", CUTTABLE)
def test_every_cut_is_noticed(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = CUTTABLE[name]
    parse_picture(data, Path("whole"))
    for length in range(1, len(data), max(1, len(data) // 300)):
        with pytest.raises(PictureError, match=r"cut |damaged|is not a picture|a film"):
            imaging.decode_picture(data[:length], Path("the file"))
    assert capfd.readouterr().err == ""


@settings(deadline=None, derandomize=True, max_examples=400)
@given(
    st.sampled_from([data for name, data in CUTTABLE.items() if name != "heic"]),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4),
)
def test_damage_never_escapes_as_another_error(whole: bytes, damage: list[tuple[int, int]]) -> None:
    damaged = bytearray(whole)
    for position, value in damage:
        damaged[position % len(damaged)] = value
    try:
        file = parse_picture(bytes(damaged), Path("the file"))
    except PictureError as refusal:
        assert str(refusal).startswith("the file ")
        return
    assert 1 <= file.orientation <= 8
    assert 1 <= file.height * file.width <= MAX_PIXELS
    if file.height * file.width < 1 << 20:
        try:
            picture = imaging.decode_picture(bytes(damaged), Path("the file"))
        except PictureError:
            return
        assert picture.dtype == np.uint8
