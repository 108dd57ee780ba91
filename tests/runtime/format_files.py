"""Picture files of every kind, made by Pillow and by hand."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from pictures import Picture, encode, over_white, photo
from PIL import Image, ImageOps

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


def heic(image: Image.Image = IMAGE, **options: Any) -> bytes:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    return encode(image, "HEIF", quality=-1, chroma=444, **options)


def avif(image: Image.Image = IMAGE, **options: Any) -> bytes:
    return encode(image, "AVIF", quality=100, subsampling="4:4:4", **options)
