"""Films, folders of frames and contact sheets; GIFs and MP4s are read back with OpenCV."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import cv2
import fakeweights
import numpy as np
import pytest
from hyperstyle_rt.errors import PictureError
from hyperstyle_rt.imaging import films
from hyperstyle_rt.imaging.films import contact_sheet, open_film
from hyperstyle_rt.imaging.pictures import read_picture, side_by_side

NOISE = fakeweights.image_u8(1, 64, 64)
FRAMES = [np.roll(cv2.GaussianBlur(NOISE, (9, 9), 3), 8 * n, axis=1) for n in range(5)]
NEEDS_GIF = pytest.mark.skipif(
    not cv2.haveImageWriter(".gif"), reason=f"OpenCV {cv2.__version__} writes no GIF"
)


def write(path: Path, frames: list[np.ndarray], rate: float = 10) -> None:
    with open_film(path, rate) as add:
        for frame in frames:
            add(frame)


def test_an_mp4_has_the_frames_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write(path, FRAMES)
    film = cv2.VideoCapture(str(path))
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    for frame in FRAMES:
        read, found = film.read()
        assert read
        assert np.abs(found[..., ::-1].astype(int) - frame).mean() < 8
    assert not film.read()[0]
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


@NEEDS_GIF
def test_a_gif_has_the_frames_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "film.GIF"
    write(path, FRAMES)
    read, animation = cv2.imreadanimation(str(path))
    assert read
    assert len(animation.frames) == 5
    assert list(animation.durations) == [100] * 5
    assert animation.loop_count == 0  # for ever
    for found, frame in zip(animation.frames, FRAMES, strict=True):
        assert np.abs(found[..., 2::-1].astype(int) - frame).mean() < 6
    assert [p.name for p in tmp_path.iterdir()] == ["film.GIF"]


@NEEDS_GIF
def test_a_gif_is_what_pillow_reads(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    write(tmp_path / "film.gif", FRAMES, rate=1000)
    with image.open(tmp_path / "film.gif") as film:
        assert (film.n_frames, film.size) == (5, (64, 64))
        assert film.info["duration"] == 20  # no viewer shows more than 50 a second
        for n, frame in enumerate(FRAMES):
            film.seek(n)
            assert np.abs(np.asarray(film.convert("RGB")).astype(int) - frame).mean() < 6


def test_a_folder_has_numbered_frames(tmp_path: Path) -> None:
    write(tmp_path / "new" / "frames", FRAMES)
    paths = sorted((tmp_path / "new" / "frames").iterdir())
    assert [p.name for p in paths] == [f"frame_0000{n}.png" for n in range(5)]
    for path, frame in zip(paths, FRAMES, strict=True):
        assert np.array_equal(read_picture(path), frame)


@pytest.mark.parametrize("name", ["film.mp4", pytest.param("film.gif", marks=NEEDS_GIF)])
def test_a_film_that_fails_leaves_the_old_one(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"old")

    def fail() -> None:
        with open_film(path, 10) as add:
            add(FRAMES[0])
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["film.mp4", pytest.param("film.gif", marks=NEEDS_GIF)])
def test_a_film_into_nowhere_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="cannot write"):
        write(tmp_path / "missing" / name, FRAMES[:1])


def test_an_opencv_without_gif_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(films.cv2, "haveImageWriter", lambda _suffix: False)
    with pytest.raises(PictureError, match=r"writes no GIF; name an \.mp4 or a folder"):
        write(tmp_path / "film.gif", FRAMES[:1])


@pytest.mark.parametrize("name", ["film.mp4", pytest.param("film.gif", marks=NEEDS_GIF)])
def test_memory_does_not_grow_with_the_film(name: str, tmp_path: Path) -> None:
    peaks = []
    for count in (3, 60):
        tracemalloc.start()
        with open_film(tmp_path / name, 10) as add:
            for n in range(count):
                add(np.roll(FRAMES[0], n, axis=0))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 20_000  # a frame has 12 288 bytes


def test_a_contact_sheet_fills_rows() -> None:
    row = side_by_side(FRAMES[:2])
    sheet = contact_sheet(FRAMES, columns=2)
    assert sheet.shape == (3 * 64 + 2 * 2, row.shape[1], 3)
    assert np.array_equal(sheet[:64], row)
    assert np.array_equal(sheet[132:, :64], FRAMES[4])
    assert (sheet[132:, 64:] == 255).all()
    assert (sheet[64:66] == 255).all()
    assert np.array_equal(contact_sheet(FRAMES[:1]), FRAMES[0])
    assert np.array_equal(contact_sheet(FRAMES), side_by_side(FRAMES))
