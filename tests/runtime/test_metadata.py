"""Orientation as Pillow sees it, and metadata kept from file to file."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hyperstyle_rt.imaging import pictures as imaging
from hyperstyle_rt.imaging.inputs import as_picture
from hyperstyle_rt.imaging.metadata import Metadata
from hyperstyle_rt.photos.portraits import paste_into
from pictures import EXIF_ORIENTATION, Picture, encode, photo, png_chunk
from PIL import ExifTags, Image, ImageCms, ImageOps, TiffImagePlugin

PHOTO = photo()
ORIENTATIONS = range(1, 9)
SHORT, LONG, BYTE = 3, 4, 1


def exif(orientation: int, order: str = "<", kind: int = SHORT, more: bytes = b"") -> bytes:
    """A block of one tag, as a TIFF structure."""
    value = struct.pack(order + {SHORT: "H2x", LONG: "I", BYTE: "B3x"}[kind], orientation)
    mark = b"II" if order == "<" else b"MM"
    return (
        mark
        + struct.pack(order + "HIHHHI", 42, 8, 1, EXIF_ORIENTATION, kind, 1)
        + value
        + (bytes(4) + more)
    )


def xmp(orientation: int, element: bool = False) -> bytes:
    inside = (
        b"><tiff:Orientation>%d</tiff:Orientation></rdf:Description>" % orientation
        if element
        else b' tiff:Orientation="%d"/>' % orientation
    )
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description' + inside
    ) + b"</rdf:RDF></x:xmpmeta>"


def segment(content: bytes, marker: int = 0xE1) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg(*segments: bytes) -> bytes:
    data = encode(PHOTO, "JPEG", quality=95)
    return data[:20] + b"".join(segments) + data[20:]


def jpeg_exif(block: bytes) -> bytes:
    return segment(b"Exif\x00\x00" + block)


def jpeg_xmp(packet: bytes) -> bytes:
    return segment(b"http://ns.adobe.com/xap/1.0/\x00" + packet)


def png(*chunks: bytes, behind: bytes = b"") -> bytes:
    data = encode(PHOTO, "PNG")
    return data[:33] + b"".join(chunks) + data[33:-12] + behind + data[-12:]


def png_xmp(packet: bytes, compressed: bool = False) -> bytes:
    text = zlib.compress(packet) if compressed else packet
    return png_chunk(b"iTXt", b"XML:com.adobe.xmp\x00" + bytes([compressed, 0, 0, 0]) + text)


def raw_profile(block: bytes) -> bytes:
    content = b"Exif\x00\x00" + block
    text = b"\nexif\n%8d\n" % len(content) + content.hex().encode() + b"\n"
    return png_chunk(b"zTXt", b"Raw profile type exif\x00\x00" + zlib.compress(text))


def webp(**options: Any) -> bytes:
    return encode(PHOTO, "WEBP", lossless=True, **options)


def oriented_files() -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for n in ORIENTATIONS:
        other = n % 8 + 1
        files |= {
            f"{n}.jpg": jpeg(jpeg_exif(exif(n))),
            f"{n}, big-endian.jpg": jpeg(jpeg_exif(exif(n, ">"))),
            f"{n}, two blocks.jpg": jpeg(jpeg_exif(exif(n)), jpeg_exif(exif(other))),
            f"{n}, XMP before.jpg": jpeg(jpeg_xmp(xmp(other)), jpeg_exif(exif(n))),
            f"{n}, XMP alone.jpg": jpeg(jpeg_xmp(xmp(n))),
            f"{n}, XMP element.jpg": jpeg(jpeg_xmp(xmp(n, element=True))),
            f"{n}, as a long.jpg": jpeg(jpeg_exif(exif(n, kind=LONG))),
            f"{n}, as a byte.jpg": jpeg(jpeg_exif(exif(n, kind=BYTE))),
            f"{n}, mark twice.jpg": jpeg(jpeg_exif(b"Exif\x00\x00" + exif(n))),
            f"{n}.png": png(png_chunk(b"eXIf", exif(n))),
            f"{n}, behind the pixels.png": png(behind=png_chunk(b"eXIf", exif(n))),
            f"{n}, XMP.png": png(png_xmp(xmp(n))),
            f"{n}, XMP packed.png": png(png_xmp(xmp(n), compressed=True)),
            f"{n}, XMP before.png": png(png_xmp(xmp(other)), png_chunk(b"eXIf", exif(n))),
            f"{n}, ImageMagick's.png": png(raw_profile(exif(n))),
            f"{n}.webp": webp(exif=exif(n)),
            f"{n}, with a mark.webp": webp(exif=b"Exif\x00\x00" + exif(n)),
            f"{n}, XMP.webp": webp(xmp=xmp(n)),
            f"{n}, both.webp": webp(exif=exif(n), xmp=xmp(other)),
            f"{n}.tif": encode(PHOTO, "TIFF", tiffinfo={EXIF_ORIENTATION: n}),
            f"{n}, deflate.tif": encode(
                PHOTO, "TIFF", tiffinfo={EXIF_ORIENTATION: n}, compression="tiff_adobe_deflate"
            ),
            f"{n}, grey.tif": encode(
                Image.fromarray(PHOTO[..., 0].copy()), "TIFF", tiffinfo={EXIF_ORIENTATION: n}
            ),
            f"{n}, of two pictures.jpg": encode(
                PHOTO,
                "MPO",
                quality=95,
                exif=exif(n),
                save_all=True,
                append_images=[Image.fromarray(PHOTO)],
            ),
        }
    files["EXIF without the tag, XMP with it.jpg"] = jpeg(
        jpeg_exif(b"II*\x00\x08\x00\x00\x00\x00\x00" + bytes(4)), jpeg_xmp(xmp(6))
    )
    return files


FILES = oriented_files()


@pytest.mark.parametrize("name", FILES)
def test_pictures_stand_as_pillow_turns_them(name: str) -> None:
    image = Image.open(io.BytesIO(FILES[name]))
    image.load()  # of PNG, what stands behind the pixels too
    expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    picture = imaging.decode_picture(FILES[name], Path(name))
    assert picture.shape == expected.shape
    # JPEG decoders may differ by a rounding.
    assert np.abs(picture.astype(int) - expected).max() <= (2 if name.endswith("jpg") else 0)
    if not name.startswith(("1", "EXIF")) and "byte" not in name:
        assert not np.array_equal(picture, PHOTO)


# Kept from file to file


def display_p3() -> bytes:
    """An ICC profile of Display P3: its primaries under D50, sRGB's curve (Apple's has these)."""
    return matrix_profile(
        [(0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)],
        parametric(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
    )


def adobe_rgb() -> bytes:
    """Adobe RGB (1998): its primaries under D50, gamma 563/256."""
    return matrix_profile(
        [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)],
        b"curv" + struct.pack(">IIH2x", 0, 1, 563),
    )


def table_curve() -> bytes:
    """Primaries of Adobe RGB, a curve of 1024 values, as older sRGB profiles have."""
    values = np.rint(65535 * np.linspace(0, 1, 1024) ** 1.8).astype(">u2").tobytes()
    return matrix_profile(
        [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)],
        b"curv" + struct.pack(">II", 0, 1024) + values,
    )


def parametric(*values: float) -> bytes:
    numbers = struct.pack(f">{len(values)}i", *(round(v * 65536) for v in values))
    return (
        b"para" + struct.pack(">IHH", 0, {1: 0, 3: 1, 4: 2, 5: 3, 7: 4}[len(values)], 0) + numbers
    )


def matrix_profile(columns: list[tuple[float, float, float]], curve: bytes) -> bytes:
    text = (
        b"mluc"
        + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, 8, 28)
        + "test".encode("utf-16-be")
    )

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ " + struct.pack(">I3i", 0, *(round(v * 65536) for v in values))

    tags = {b"desc": text, b"cprt": text, b"wtpt": xyz((0.9642, 1.0, 0.8249))}
    tags |= {b"%cXYZ" % c: xyz(v) for c, v in zip(b"rgb", columns, strict=True)}
    tags |= {b"%cTRC" % c: curve for c in b"rgb"}
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += struct.pack(">4sII", name, at + len(body), len(content))
        body += content
    header = struct.pack(
        ">I4sI4s4s4s12x4s4s20x3i",
        at + len(body),
        bytes(4),
        0x04300000,
        b"mntr",
        b"RGB ",
        b"XYZ ",
        b"acsp",
        bytes(4),
        *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)),
    )
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


PROFILES = {"Display P3": display_p3, "Adobe RGB": adobe_rgb, "a table": table_curve}


def colours() -> Picture:
    """All corners, greys, and many between."""
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 5)] * 3), -1).reshape(52, -1, 3)
    return grid.astype(np.uint8)


SRGB = ImageCms.createProfile("sRGB")


def pillows_conversion(picture: Picture, source: Any, target: Any) -> Picture:
    image = ImageCms.profileToProfile(
        Image.fromarray(picture), source, target, renderingIntent=1, outputMode="RGB"
    )
    return np.asarray(image)


@pytest.mark.parametrize("name", PROFILES)
def test_colours_become_those_of_srgb_as_littlecms_has_them(name: str) -> None:
    icc = PROFILES[name]()
    profile, srgb = ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
    picture = colours()
    original = imaging.Original(picture, Metadata(icc))
    off = original.picture().astype(int) - pillows_conversion(picture, profile, srgb)
    assert np.abs(off).max() <= 2
    assert np.abs(original.picture().astype(int) - picture).max() > 20  # or there is no question
    assert original.space is not None
    back = original.space.from_srgb(picture).astype(int)
    assert np.abs(back - pillows_conversion(picture, srgb, profile)).max() <= 2
    again = original.space.to_srgb(back.astype(np.uint8)).astype(int)
    assert np.abs(again - picture).mean() < 0.6  # 8 bits are few near black


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_profile_of_a_pil_image_is_that_of_its_file(mode: str) -> None:
    transparent = PHOTO[..., :1] if mode == "RGBA" else PHOTO[..., :0]
    data = encode(np.concatenate([PHOTO, transparent], axis=-1), "PNG", icc_profile=display_p3())
    found = as_picture(Image.open(io.BytesIO(data)))
    assert np.array_equal(found, imaging.decode_picture(data, Path("x.png")))
    assert not np.array_equal(found, PHOTO)


def test_an_srgb_profile_changes_no_level() -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    original = imaging.decode_original(encode(PHOTO, "PNG", icc_profile=icc), Path("x.png"))
    assert original.picture() is original.stored
    assert np.array_equal(original.stored, PHOTO)
    assert original.metadata.icc == icc


def test_profiles_that_are_not_read_are_kept_and_said(caplog: pytest.LogCaptureFixture) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    tables = bytearray(display_p3())
    for name in (b"rTRC", b"gTRC", b"bTRC"):
        at = tables.index(name)
        tables[at : at + 4] = b"A2B" + name[:1]
    damaged = bytearray(adobe_rgb())
    damaged[-40:] = bytes(40)
    for icc, says in ((bytes(tables), "made of tables"), (bytes(damaged[:200]), "damaged")):
        caplog.clear()
        original = imaging.decode_original(encode(PHOTO, "PNG", icc_profile=icc), Path("x.png"))
        assert np.array_equal(original.picture(), PHOTO)
        assert original.metadata.icc == icc
        assert says in caplog.text
    # Of other pixels than RGB: they have become RGB, and the profile is none of theirs any more.
    grey = encode(Image.fromarray(PHOTO[..., 0].copy()), "PNG", icc_profile=lab)
    assert imaging.decode_original(grey, Path("x.png")).metadata.icc is None


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "HEIF"])
def test_metadata_go_from_file_to_file(kind: str, suffix: str, tmp_path: Path) -> None:
    block = Image.Exif()
    block[EXIF_ORIENTATION], block[0x010F], block[0x0132] = 6, "a camera", "2026:11:28 15:00:00"
    options: dict[str, Any] = {} if kind != "HEIF" else {"quality": -1, "chroma": 444}
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    data = encode(PHOTO, kind, exif=block, icc_profile=display_p3(), xmp=xmp(6), **options)
    if kind == "PNG":  # whose XMP Pillow does not write
        data = data[:33] + png_xmp(xmp(6)) + data[33:]
    original = imaging.decode_original(data, Path("x"))
    assert original.stored.shape == (64, 48, 3)
    path = tmp_path / f"x{suffix}"
    imaging.write_picture(path, original.stored, original.metadata)
    with Image.open(path) as image:
        assert image.info["icc_profile"] == display_p3()
        exif_read = image.getexif()
        assert exif_read[0x010F] == "a camera"
        assert exif_read[0x0132] == "2026:11:28 15:00:00"
        assert exif_read[EXIF_ORIENTATION] == 1
        packet = image.info["xmp"]
        assert b'tiff:Orientation="1"' in packet
        assert ImageOps.exif_transpose(image).size == image.size
    again = imaging.read_original(path)
    assert again.metadata == original.metadata
    if suffix == ".png":
        assert np.array_equal(again.stored, original.stored)


def test_what_a_tiff_says_becomes_exif(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[EXIF_ORIENTATION], tags[0x010F], tags[0x0132] = 8, "a camera", "2026:11:28 15:00:00"
    tags[0x010A] = 1  # of the file, not of the picture
    tags[0x8769] = {0x829A: 0.01, 0x9286: b"a comment of the user"}
    tags[0x8825] = {2: (50.0, 56.0, 30.5)}
    data = encode(PHOTO, "TIFF", tiffinfo=tags, icc_profile=display_p3())
    original = imaging.decode_original(data, Path("x.tif"))
    assert original.stored.shape == (64, 48, 3)
    for suffix in (".png", ".jpg", ".webp"):
        imaging.write_picture(tmp_path / f"x{suffix}", original.stored, original.metadata)
        with Image.open(tmp_path / f"x{suffix}") as image:
            kept = image.getexif()
            assert (kept[EXIF_ORIENTATION], kept[0x010F]) == (1, "a camera")
            assert kept[0x0132] == "2026:11:28 15:00:00"
            assert 0x010A not in kept
            inner = kept.get_ifd(ExifTags.IFD.Exif)
            assert float(inner[0x829A]) == pytest.approx(0.01)
            assert inner[0x9286] == b"a comment of the user"
            assert [float(n) for n in kept.get_ifd(ExifTags.IFD.GPSInfo)[2]] == [50, 56, 30.5]
            assert image.info["icc_profile"] == display_p3()
    plain = imaging.decode_original(encode(PHOTO, "TIFF"), Path("x.tif"))
    assert plain.metadata.exif is None


def test_the_old_thumbnail_is_not_kept() -> None:
    small = encode(PHOTO, "JPEG")
    one = exif(6)[:-4] + struct.pack("<I", 26)
    second = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, len(small), 0) + small
    data = jpeg(jpeg_exif(one + second))
    assert Image.open(io.BytesIO(data)).getexif().get_ifd(ExifTags.IFD.IFD1)
    block = imaging.decode_original(data, Path("x.jpg")).metadata.exif
    kept = Image.Exif()
    kept.load(b"Exif\x00\x00" + (block or b""))
    assert kept[EXIF_ORIENTATION] == 1
    assert not kept.get_ifd(ExifTags.IFD.IFD1)


def test_a_profile_longer_than_a_jpeg_segment_is_kept(tmp_path: Path) -> None:
    icc = display_p3() + np.random.default_rng(0).bytes(150_000)
    imaging.write_picture(tmp_path / "x.jpg", PHOTO, Metadata(icc, exif(1), xmp(1)))
    with Image.open(tmp_path / "x.jpg") as image:
        assert image.info["icc_profile"] == icc
    assert imaging.read_original(tmp_path / "x.jpg").metadata.icc == icc


def test_metadata_too_long_for_jpeg_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = Metadata(exif=exif(1, more=bytes(70_000)), xmp=xmp(1))
    imaging.write_picture(tmp_path / "x.jpg", PHOTO, metadata)
    assert "EXIF data have 70026 bytes, more than JPEG holds" in caplog.text
    assert imaging.read_original(tmp_path / "x.jpg").metadata == Metadata(xmp=xmp(1))
    imaging.write_picture(tmp_path / "x.png", PHOTO, metadata)
    assert imaging.read_original(tmp_path / "x.png").metadata == metadata


# Pasting


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize(("kind", "suffix"), [("PNG", ".png"), ("JPEG", ".png"), ("PNG", ".jpg")])
def test_a_pasted_face_has_the_photos_colours_and_the_file_its_metadata(
    name: str, kind: str, suffix: str, tmp_path: Path
) -> None:
    icc = PROFILES[name]()
    block = Image.Exif()
    block[EXIF_ORIENTATION], block[0x010F] = 8, "a camera"
    muted = Image.fromarray(90 + PHOTO // 4)  # colours that sRGB has, as skin is
    smooth = np.asarray(muted.resize((300, 200), Image.Resampling.BICUBIC))
    (tmp_path / "photo").write_bytes(encode(smooth, kind, exif=block, icc_profile=icc))
    original = imaging.read_original(tmp_path / "photo")
    photo_srgb = original.picture()
    height, width = photo_srgb.shape[:2]
    assert (height, width) == (300, 200)
    side, left, top = 80, 60, 110
    transform = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]])
    crop = photo_srgb[top : top + side, left : left + side]
    same = paste_into(original, transform, crop).stored.astype(int) - original.stored
    assert np.abs(same).max() <= 3  # there and back, in 8 bits
    assert not np.delete(same, np.s_[top : top + side], axis=0).any()

    face = np.empty_like(crop)
    face[:] = (200, 120, 90)
    pasted = paste_into(original, transform, face)
    path = tmp_path / f"pasted{suffix}"
    imaging.write_picture(path, pasted.stored, pasted.metadata)
    with Image.open(path) as image:
        assert image.info["icc_profile"] == icc
        assert image.getexif()[0x010F] == "a camera"
        assert image.getexif()[EXIF_ORIENTATION] == 1
        shown = pillows_conversion(
            np.asarray(image), ImageCms.ImageCmsProfile(io.BytesIO(icc)), SRGB
        )
    middle = shown[top + 35 : top + 45, left + 35 : left + 45].astype(int)
    assert np.abs(middle - (200, 120, 90)).max() <= (2 if suffix == ".png" else 6)
    if suffix == ".png":
        outside = np.ones((height, width), bool)
        outside[top : top + side, left : left + side] = False
        assert np.array_equal(np.asarray(Image.open(path))[outside], original.stored[outside])
