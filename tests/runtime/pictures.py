"""Picture files for tests, good and bad, each made by name in a folder of the test's own.

`BAD_PICTURES` makes files that must be refused. `ODD_PICTURES` makes files that must be read, and
tells what they show according to Pillow or plain arithmetic.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Picture = NDArray[np.uint8]

EXIF_ORIENTATION = 0x0112


def photo(height: int = 48, width: int = 64) -> Picture:
    """Make a smooth RGB picture that differs from all its rotations and reflections."""
    y, x = np.mgrid[0:height, 0:width]
    y, x = y / height, x / width
    return np.stack([255 * x, 255 * y, 127 + 127 * np.sin(7 * x + 3 * y)], -1).astype(np.uint8)


def encode(picture: Picture | Image.Image, kind: str, **options: Any) -> bytes:
    """Encode a picture with Pillow."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Make one PNG chunk."""
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(
    size: tuple[int, int],
    depth: int,
    colour: int,
    rows: list[bytes],
    extra: bytes = b"",
    interlace: int = 0,
) -> bytes:
    """Make a PNG file from unfiltered rows; size is (height, width), `extra` goes before IDAT."""
    header = struct.pack(">IIBBBBB", size[1], size[0], depth, colour, 0, 0, interlace)
    data = zlib.compress(b"".join(b"\x00" + row for row in rows))
    chunks = png_chunk(b"IHDR", header), extra, png_chunk(b"IDAT", data), png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def interlaced_png(picture: Picture) -> bytes:
    """Make an Adam7 PNG, which Pillow cannot write."""
    passes = (  # first row, row step, first column, column step
        (0, 8, 0, 8),
        (0, 8, 4, 8),
        (4, 8, 0, 4),
        (0, 4, 2, 4),
        (2, 4, 0, 2),
        (0, 2, 1, 2),
        (1, 2, 0, 1),
    )
    rows = [row.tobytes() for y, dy, x, dx in passes for row in picture[y::dy, x::dx]]
    return png(picture.shape[:2], 8, 2, rows, interlace=1)


def with_jpeg_size(data: bytes, height: int, width: int) -> bytes:
    """Make a baseline JPEG claim another size."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def over_white(picture: Picture, alpha: NDArray[Any]) -> Picture:
    """Lay a picture over white; alpha is uint8 [H,W]."""
    weight = alpha[..., None] / 255.0
    return np.floor(picture * weight + 255 * (1 - weight) + 0.5).astype(np.uint8)


def _content(data: bytes, name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    return make


def _folder(folder: Path) -> Path:
    path = folder / "folder.png"
    path.mkdir()
    return path


def _frames() -> dict[str, Any]:
    return {"save_all": True, "append_images": [Image.fromarray(photo()[::-1].copy())]}


def _jpeg_with_thumbnail() -> bytes:
    thumbnail = encode(photo(8, 8), "JPEG")
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00" + thumbnail
    jpeg = encode(photo(), "JPEG")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def _before_tables(jpeg: bytes, segment: bytes) -> bytes:
    """Put something into a JPEG before its first quantisation table."""
    at = jpeg.index(b"\xff\xdb")
    return jpeg[:at] + segment + jpeg[at:]


def _two_frame_headers() -> bytes:
    jpeg = encode(photo(), "JPEG")
    at = jpeg.index(b"\xff\xc0")
    return jpeg[:-2] + with_jpeg_size(jpeg[at : at + 19], 16, 16) + jpeg[-2:]


def _bad_pictures() -> dict[str, Callable[[Path], Path]]:
    jpeg, progressive = encode(photo(), "JPEG"), encode(photo(), "JPEG", progressive=True)
    whole_png, webp = encode(photo(), "PNG"), encode(photo(), "WEBP")
    extended_webp = encode(photo(), "WEBP", exif=_exif(1))
    flipped = bytearray(whole_png)
    flipped[len(flipped) // 2] ^= 0x10
    middle = len(jpeg) * 2 // 3
    files = {
        "empty.jpg": b"",
        "text.jpg": b"This is not a picture.\n",
        "web page.jpg": b"<!DOCTYPE html><html><body>Not found</body></html>",
        "zeros.png": bytes(1000),
        # Cut and damaged.
        "cut in header.jpg": jpeg[:100],
        "cut.jpg": jpeg[:middle],
        "cut after a thumbnail.jpg": _jpeg_with_thumbnail()[: middle - len(jpeg)],
        "cut and filled with zeros.jpg": jpeg[:middle] + bytes(len(jpeg) - middle),
        "cut by one byte.jpg": jpeg[:-3],
        "cut by four bytes.jpg": jpeg[:-6],
        "progressive without end mark.jpg": progressive[:-2],
        "cut progressive.jpg": progressive[: len(progressive) // 2],
        "broken segments.jpg": jpeg[:20] + jpeg[25:],
        "two frame headers.jpg": _two_frame_headers(),
        "cut.png": whole_png[: len(whole_png) // 2],
        "without end chunk.png": whole_png[:-12],
        "flipped bit.png": bytes(flipped),
        "without header.png": whole_png[:8] + whole_png[33:],
        "two headers.png": whole_png[:33] + whole_png[8:],
        "too few rows.png": png((9, 1), 8, 2, [bytes(3)] * 8),
        "cut.webp": webp[: len(webp) // 2],
        "other data.webp": webp[:23] + bytes(3) + webp[26:],  # no key frame mark
        # Sizes.
        "0 x 0.png": png((0, 0), 8, 2, []),
        "0 x 0.jpg": with_jpeg_size(jpeg, 0, 0),
        "60000 x 60000.png": png((60_000, 60_000), 8, 2, [bytes(100)]),
        "60000 x 60000.jpg": with_jpeg_size(jpeg, 60_000, 60_000),
        "60000 x 60000.webp": extended_webp[:24]
        + (59_999).to_bytes(3, "little") * 2
        + extended_webp[30:],
        "long side.png": png((1, 70_000), 8, 0, [bytes(70_000)]),
        # Kinds that are not read.
        "animation.png": encode(photo(), "PNG", **_frames()),
        "animation.webp": encode(photo(), "WEBP", **_frames()),
        "camera.cr2": b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(100),
        "camera.orf": b"IIRO\x08\x00\x00\x00" + bytes(100),
        "picture.jxl": b"\xff\x0a" + bytes(100),
        "film.mp4": b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(100),
        "film.mkv": b"\x1aE\xdf\xa3" + bytes(100),
        "film.avi": b"RIFF\x64\x00\x00\x00AVI LIST" + bytes(100),
        "film.mpg": b"\x00\x00\x01\xba" + bytes(100),
        "paper.pdf": b"%PDF-1.7\n",
    }
    makers = {name: _content(data, name) for name, data in files.items()}
    return {"missing.png": lambda folder: folder / "missing.png", "folder.png": _folder, **makers}


def _exif(orientation: int, order: str = "<") -> Image.Exif:
    exif = Image.Exif()
    exif.endian = order
    exif[EXIF_ORIENTATION] = orientation
    return exif


def _upright(data: bytes) -> Picture:
    """Decode and turn with Pillow."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def _oriented() -> dict[str, tuple[bytes, Picture]]:
    files = {f"orientation {n}.png": encode(photo(), "PNG", exif=_exif(n)) for n in range(1, 9)}
    files |= {
        "orientation 6.jpg": encode(photo(), "JPEG", exif=_exif(6)),
        "orientation 6.webp": encode(photo(), "WEBP", lossless=True, exif=_exif(6)),
        "orientation 8, big-endian.jpg": encode(photo(), "JPEG", exif=_exif(8, ">")),
        "orientation 6, odd chunk before.webp": encode(
            photo(), "WEBP", lossless=True, exif=_exif(6), icc_profile=b"odd"
        ),
        "orientation 6, XMP after.jpg": _before_tables(
            encode(photo(), "JPEG", exif=_exif(6)), b"\xff\xe1\x00\x0ahttp://x"
        ),
        "orientation 0.png": encode(photo(), "PNG", exif=_exif(0)),
        "orientation 9.png": encode(photo(), "PNG", exif=_exif(9)),
    }
    return {name: (data, _upright(data)) for name, data in files.items()}


def _transparent() -> dict[str, tuple[bytes, Picture]]:
    picture = photo()
    grey = picture[..., 0]
    alpha = picture[..., 1]
    rgba = Image.fromarray(np.dstack([picture, alpha]))
    palette = Image.fromarray(picture).quantize(16)
    levels = np.array([[0, 5, 10, 15]], np.uint8)  # of 4 bits
    wide = np.array([[0, 1000, 1001, 65535]], np.uint16)
    palette_alpha = np.where(np.asarray(palette) == 3, 0, 255).astype(np.uint8)

    def grey_rgb(values: Picture) -> Picture:
        return np.repeat(values[..., None], 3, axis=2)

    return {
        "alpha.png": (encode(rgba, "PNG"), over_white(picture, alpha)),
        "alpha.webp": (
            encode(rgba, "WEBP", lossless=True, exact=True),
            over_white(picture, alpha),
        ),
        "alpha, orientation 6.png": (
            encode(rgba, "PNG", exif=_exif(6)),
            np.rot90(over_white(picture, alpha), -1),
        ),
        "grey with alpha.png": (
            encode(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]), "PNG"),
            over_white(grey_rgb(grey), alpha),
        ),
        "palette with a transparent colour.png": (
            encode(palette, "PNG", transparency=3),
            over_white(np.asarray(palette.convert("RGB")), palette_alpha),
        ),
        "one colour transparent.png": (
            png((1, 2), 8, 2, [b"\x01\x02\x03\x04\x05\x06"], png_chunk(b"tRNS", b"\0\1\0\2\0\3")),
            np.array([[[255, 255, 255], [4, 5, 6]]], np.uint8),
        ),
        "one grey transparent, 8 bits.png": (
            png((1, 3), 8, 0, [b"\x07\x08\x09"], png_chunk(b"tRNS", b"\0\x08")),
            grey_rgb(np.array([[7, 255, 9]], np.uint8)),
        ),
        "one grey transparent, 4 bits.png": (
            png((1, 4), 4, 0, [b"\x05\xaf"], png_chunk(b"tRNS", b"\0\x0a")),
            grey_rgb(np.where(levels == 10, 255, levels * 17).astype(np.uint8)),
        ),
        "one grey transparent, 16 bits.png": (
            png((1, 4), 16, 0, [wide.astype(">u2").tobytes()], png_chunk(b"tRNS", b"\x03\xe8")),
            grey_rgb(np.array([[0, 255, 4, 255]], np.uint8)),
        ),
    }


def _odd_pictures() -> dict[str, Callable[[Path], tuple[Path, Picture]]]:
    picture = photo()
    image = Image.fromarray(picture)
    jpeg = encode(picture, "JPEG")
    for_print = encode(image.convert("CMYK"), "JPEG")
    deep = np.array([[[0, 511, 128], [129, 33023, 65535]]], np.uint16)  # 511 / 257 = 1.99
    palette, bilevel = image.quantize(200), image.convert("1")
    apng = encode(picture, "PNG")
    apng = apng[:33] + png_chunk(b"acTL", struct.pack(">II", 1, 0)) + apng[33:]
    bad_profile = png_chunk(b"iCCP", b"sRGB\x00\x00" + zlib.compress(bytes(200)))
    files: dict[str, tuple[bytes, Picture]] = {
        "plain.png": (encode(picture, "PNG"), picture),
        "plain.jpg": (jpeg, _upright(jpeg)),
        "plain.webp": (encode(picture, "WEBP", lossless=True), picture),
        "CAPITALS.PNG": (encode(picture, "PNG"), picture),
        "png by content.jpg": (encode(picture, "PNG"), picture),
        "grüße aus köln.png": (encode(picture, "PNG"), picture),
        "cmyk.jpg": (for_print, np.asarray(Image.open(io.BytesIO(for_print)).convert("RGB"))),
        "more after the end mark.jpg": (jpeg + jpeg + b"film clip", _upright(jpeg)),
        "without end mark.jpg": (jpeg[:-2], _upright(jpeg)),
        "with half an end mark.jpg": (jpeg[:-1], _upright(jpeg)),
        "thumbnail.jpg": (_jpeg_with_thumbnail(), _upright(jpeg)),
        "filling before a marker.jpg": (_before_tables(jpeg, b"\xff\xff"), _upright(jpeg)),
        "cut EXIF.png": (
            encode(picture, "PNG", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12"),
            picture,
        ),
        "1 x 1.png": (encode(picture[5:6, 7:8], "PNG"), picture[5:6, 7:8]),
        "1 pixel high.png": (encode(picture[5:6], "PNG"), picture[5:6]),
        "palette.png": (encode(palette, "PNG"), np.asarray(palette.convert("RGB"))),
        "1 bit.png": (encode(bilevel, "PNG"), np.asarray(bilevel.convert("RGB"))),
        "16 bits.png": (
            png((1, 2), 16, 2, [deep.astype(">u2").tobytes()]),
            np.array([[[0, 2, 0], [1, 128, 255]]], np.uint8),
        ),
        "unknown profile.png": (
            png((1, 1), 8, 2, [b"\x64\x65\x66"], bad_profile),
            np.array([[[100, 101, 102]]], np.uint8),
        ),
        "interlaced.png": (interlaced_png(picture), picture),
        "gamma.png": (
            png((1, 1), 8, 2, [b"\x64\x65\x66"], png_chunk(b"gAMA", struct.pack(">I", 100_000))),
            np.array([[[100, 101, 102]]], np.uint8),
        ),
        "animation of one frame.png": (apng, picture),
    }
    for name, options in (
        ("grey.jpg", {}),
        ("progressive.jpg", {"progressive": True}),
        ("restart marks.jpg", {"restart_marker_blocks": 2}),
        ("rgb inside.jpg", {"keep_rgb": True}),
    ):
        data = encode(image.convert("L") if name == "grey.jpg" else image, "JPEG", **options)
        files[name] = data, _upright(data)
    files |= _oriented() | _transparent()

    def maker(name: str) -> Callable[[Path], tuple[Path, Picture]]:
        data, expected = files[name]
        return lambda folder: (_content(data, name)(folder), expected)

    return {name: maker(name) for name in files}


BAD_PICTURES: dict[str, Callable[[Path], Path]] = _bad_pictures()
ODD_PICTURES: dict[str, Callable[[Path], tuple[Path, Picture]]] = _odd_pictures()
