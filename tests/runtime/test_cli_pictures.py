"""Pictures of all kinds through the commands: read from folders, pasted with their metadata."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from command_line import succeed
from face_pictures import in_a_photo, known_faces
from hyperstyle_rt.imaging.pictures import read_original
from pictures import EXIF_ORIENTATION, encode
from PIL import Image
from test_metadata import display_p3, xmp


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image.Exif:
    """A photo of a face in Display P3, stored on its side, with all a camera writes."""
    monkeypatch.chdir(tmp_path)
    whole = in_a_photo(known_faces()[3], (400, 500), np.array([240.0, 200.0]), 280, 8).picture
    exif = Image.Exif()
    exif[EXIF_ORIENTATION], exif[0x010F] = 6, "a camera"
    turned = np.ascontiguousarray(np.rot90(whole))
    data = encode(turned, "WEBP", lossless=True, exif=exif, icc_profile=display_p3(), xmp=xmp(6))
    Path("photo.webp").write_bytes(data)
    return exif


def check_metadata(path: str) -> None:
    with Image.open(path) as image:
        assert image.info["icc_profile"] == display_p3()
        assert image.getexif()[0x010F] == "a camera"
        assert image.getexif()[EXIF_ORIENTATION] == 1
        assert b'Orientation="1"' in image.info["xmp"]
        assert image.size == (500, 400)


def test_invert_and_edit_paste_into_the_photo_and_keep_what_it_carries(photo: Image.Exif) -> None:
    succeed("invert", "photo.webp", "--out", "out", "--paste", "--save-inversion", "-n", "1")
    check_metadata("out/photo.pasted.png")
    before, after = read_original("photo.webp"), read_original("out/photo.pasted.png")
    changed = (before.stored != after.stored).any(axis=2)
    assert 0.1 < changed.mean() < 0.6
    assert not changed[:, -60:].any()
    off = np.abs(after.picture().astype(int) - before.picture())[changed]
    assert off.mean() < 25  # the same colours to the eye
    more = ("--paste", "photo.webp", "--out")
    succeed("edit", "out/photo.safetensors", "smile=1", *more, "edited.jpg")
    check_metadata("edited.jpg")
    succeed("edit", "out/photo.safetensors", "smile=0:1:3", *more, "film.mp4")
    with av.open("film.mp4") as film:
        shown = next(film.decode(video=0)).reformat(format="rgb24", src_colorspace="ITU709")
    assert np.abs(shown.to_ndarray()[:, -60:].astype(int) - before.picture()[:, -60:]).mean() < 4
    succeed("edit", "out/photo.safetensors", "smile=0:1:3", *more, "film.webp")
    with Image.open("film.webp") as animation:
        assert animation.n_frames == 3


def test_all_readable_kinds_of_a_folder_are_inverted(photo: Image.Exif) -> None:
    face = known_faces()[0].picture
    Path("in").mkdir()
    kinds = {
        "bmp": "BMP",
        "tif": "TIFF",
        "ppm": "PPM",
        "gif": "GIF",
        "jfif": "JPEG",
        "avif": "AVIF",
    }
    for suffix, kind in kinds.items():
        Path("in", f"{suffix}.{suffix}").write_bytes(encode(face, kind))
    succeed("invert", "in", "--out", "out", "-n", "1", "--align", "never", "--bundle", "portraits")
    assert sorted(p.name for p in Path("out").iterdir()) == sorted(
        f"{suffix}.inverted.png" for suffix in kinds
    )
