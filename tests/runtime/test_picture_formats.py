"""TIFF, BMP, GIF, PGM, PPM, HEIC and AVIF, against Pillow and arithmetic; and cut short."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hyperstyle_rt.errors import PictureError
from hyperstyle_rt.imaging import pictures as imaging
from hyperstyle_rt.imaging.picture_files import MAX_PIXELS, parse_picture
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import EXIF_ORIENTATION, Picture, encode, over_white, photo
from PIL import Image, ImageOps

pytestmark = pytest.mark.filterwarnings("error")

PHOTO = photo(33, 45)
IMAGE = Image.fromarray(PHOTO)
ALPHA = np.ascontiguousarray(PHOTO[..., 1])
DEEP = np.array([[0, 257, 65535], [128, 129, 33023]], np.uint16)


def pillows(data: bytes) -> Picture:
    """What Pillow makes of a file, upright and over white."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"))
        return over_white(rgba[..., :3], rgba[..., 3])
    return np.asarray(image.convert("RGB"))


def bmp(header: bytes, pixels: bytes, masks: bytes = b"") -> bytes:
    offset = 14 + len(header) + len(masks)
    return struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset) + (
        header + masks + pixels
    )


def bmp_info(width: int, height: int, depth: int, compression: int = 0, size: int = 0) -> bytes:
    return struct.pack("<IiiHHIIiiII", 40, width, height, 1, depth, compression, size, 0, 0, 0, 0)


def frames() -> dict[str, Any]:
    return {"save_all": True, "append_images": [Image.fromarray(PHOTO[::-1].copy())]}


def whole_files() -> dict[str, bytes]:
    """Files whose pixels Pillow knows."""
    palette = IMAGE.quantize(16)
    grey = IMAGE.convert("L")
    files = {
        f"{mode} {compression}.tif": encode(IMAGE.convert(mode), "TIFF", compression=compression)
        for mode in ("RGB", "L", "P", "1")
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")
    }
    files |= {
        "jpeg inside.tif": encode(IMAGE, "TIFF", compression="jpeg", quality=95),
        "strips.tif": encode(IMAGE, "TIFF", strip_size=600),
        "BigTIFF.tif": encode(IMAGE, "TIFF", big_tiff=True),
        "big-endian.tif": big_endian_tiff(),
        "two pages.tif": encode(IMAGE, "TIFF", **frames()),
        "white is zero.tif": white_is_zero(),
        "cmyk.tif": encode(IMAGE.convert("CMYK"), "TIFF"),
        "plain.bmp": encode(IMAGE, "BMP"),
        "grey.bmp": encode(grey, "BMP"),
        "palette.bmp": encode(palette, "BMP"),
        "1 bit.bmp": encode(IMAGE.convert("1"), "BMP"),
        "32 bits.bmp": encode(IMAGE.convert("RGBA"), "BMP"),
        "from the top.bmp": bmp(bmp_info(2, -2, 24), bytes(range(6)) + bytes(2) + bytes(8)),
        "OS2.bmp": bmp(struct.pack("<IHHHH", 12, 2, 2, 1, 24), bytes(range(16))),
        "still.gif": encode(IMAGE, "GIF"),
        "grey.gif": encode(grey, "GIF"),
        "interlaced.gif": encode(IMAGE, "GIF", interlace=1),
        "first of two.gif": encode(IMAGE, "GIF", **frames()),
        "colour.ppm": encode(IMAGE, "PPM"),
        "grey.pgm": encode(grey, "PPM"),
        "bits.pbm": encode(IMAGE.convert("1"), "PPM"),
        "bits.in.text.pbm": b"P1\n# a comment\n3 2\n1 0 1\n010\n",
        "text.ppm": b"P3 # comment\n2 1\n255\n0 10 20\n255 128 7\n",
        "text.pgm": b"P2\n3 1\n255\n0 128 255\n",
    }
    return files


def big_endian_tiff() -> bytes:
    """An uncompressed grey TIFF by hand; Pillow writes little-endian ones."""
    values = PHOTO[..., 0].tobytes()
    height, width = PHOTO.shape[:2]
    tags = [
        (256, 3, width << 16),
        (257, 3, height << 16),
        (258, 3, 8 << 16),
        (259, 3, 1 << 16),
        (262, 3, 1 << 16),
        (273, 4, 8 + 2 + 9 * 12 + 4),
        (277, 3, 1 << 16),
        (278, 3, height << 16),
        (279, 4, len(values)),
    ]
    body = b"".join(struct.pack(">HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack(">2sHIH", b"MM", 42, 8, len(tags)) + body + bytes(4) + values


def white_is_zero() -> bytes:
    data = bytearray(big_endian_tiff())
    at = data.index(struct.pack(">HH", 262, 3)) + 8
    data[at : at + 2] = b"\x00\x00"
    return bytes(data)


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


# HEIC and AVIF


def heic(image: Image.Image = IMAGE, **options: Any) -> bytes:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    return encode(image, "HEIF", quality=-1, chroma=444, **options)


def avif(image: Image.Image = IMAGE, **options: Any) -> bytes:
    return encode(image, "AVIF", quality=100, subsampling="4:4:4", **options)


@pytest.mark.parametrize("make", [heic, avif])
def test_heic_and_avif_are_read(make: Callable[..., bytes]) -> None:
    picture = imaging.decode_picture(make(), Path("phone.heic"))
    assert picture.shape == PHOTO.shape
    assert np.abs(picture.astype(int) - PHOTO).mean() < 2
    data = make(Image.fromarray(np.dstack([PHOTO, ALPHA])))
    see_through = imaging.decode_picture(data, Path("x.heic"))
    assert np.abs(see_through.astype(int) - pillows(data)).max() <= 1
    assert np.abs(see_through.astype(int) - over_white(PHOTO, ALPHA)).mean() < 3


@pytest.mark.parametrize("make", [heic, avif])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_and_avif_stand_upright(orientation: int, make: Callable[..., bytes]) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    data = make(exif=exif)
    original = imaging.decode_original(data, Path("phone.heic"))
    expected = pillows(data)
    assert original.stored.shape == expected.shape
    assert np.abs(original.stored.astype(int) - expected).mean() < 2
    assert original.metadata.orientation() == 1


@pytest.mark.parametrize(
    ("make", "module", "kind"),
    [(heic, "pillow_heif", "HEIC"), (avif, "PIL", "AVIF")],
)
def test_without_the_extra_a_sentence_names_it(
    make: Callable[..., bytes], module: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        PictureError, match=rf"x\.heic is an? {kind} picture;.*hyperstyle-rt\[heif\]"
    ):
        imaging.decode_picture(data, Path("x.heic"))


# What is refused


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
        with pytest.raises(PictureError, match=r"cut |damaged|is not a picture|a video"):
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
