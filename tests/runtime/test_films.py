"""Films, folders of frames and contact sheets, read back with FFmpeg, OpenCV and Pillow."""

from __future__ import annotations

import os
import struct
import sys
import tracemalloc
from pathlib import Path

import av
import cv2
import fakeweights
import numpy as np
import pytest
from hyperstyle_rt.errors import PictureError
from hyperstyle_rt.imaging import films
from hyperstyle_rt.imaging.films import check_film, check_sheet, contact_sheet, in_rows, open_film
from hyperstyle_rt.imaging.pictures import read_picture, side_by_side
from PIL import Image

NOISE = fakeweights.image_u8(1, 64, 64)
FRAMES = [np.roll(cv2.GaussianBlur(NOISE, (9, 9), 3), 8 * n, axis=1) for n in range(5)]
NEEDS_GIF = pytest.mark.skipif(
    not cv2.haveImageWriter(".gif"), reason=f"OpenCV {cv2.__version__} writes no GIF"
)
FILMS = [
    *("film.mp4", "film.webm", "film.webp"),
    pytest.param("film.gif", marks=NEEDS_GIF),
]


def write(path: Path, frames: list[np.ndarray], rate: float = 10) -> None:
    with open_film(path, rate) as add:
        for frame in frames:
            add(frame)


@pytest.mark.parametrize(
    ("name", "container", "codec"),
    [("film.mp4", "mp4", "h264"), ("film.WEBM", "webm", "vp9")],
)
@pytest.mark.parametrize("rate", [10, 23.976, 30000 / 1001])
def test_a_film_is_one_that_browsers_play(
    name: str, container: str, codec: str, rate: float, tmp_path: Path
) -> None:
    path = tmp_path / name
    write(path, FRAMES, rate)
    with av.open(str(path)) as film:
        assert container in film.format.name
        (stream,) = film.streams
        assert stream.codec_context.name == codec
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == pytest.approx(rate, rel=1e-3)
        assert stream.codec_context.color_range == 1  # limited, as players take for granted
        assert stream.codec_context.colorspace == 1  # BT.709
        found = [
            frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
            for frame in film.decode(stream)
        ]
    assert len(found) == len(FRAMES)
    for shown, frame in zip(found, FRAMES, strict=True):
        assert np.abs(shown.astype(int) - frame).mean() < 6  # of noise, whose colours 4:2:0 halves
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_an_mp4_has_its_index_before_its_pictures(tmp_path: Path) -> None:
    write(tmp_path / "film.mp4", FRAMES)
    data, position, boxes = (tmp_path / "film.mp4").read_bytes(), 0, []
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        boxes.append(kind)
        position += length
    assert boxes.index(b"moov") < boxes.index(b"mdat")


@pytest.mark.parametrize("name", ["film.mp4", "film.webm"])
@pytest.mark.parametrize("size", [(63, 64), (64, 63), (65, 33)])
def test_odd_sides_become_even_and_nothing_is_lost(
    name: str, size: tuple[int, int], tmp_path: Path
) -> None:
    frames = [
        np.ascontiguousarray(np.tile(frame, (2, 2, 1))[: size[0], : size[1]]) for frame in FRAMES
    ]
    write(tmp_path / name, frames)
    with av.open(str(tmp_path / name)) as film:
        first = next(film.decode(video=0)).reformat(format="rgb24", src_colorspace="ITU709")
    shown = first.to_ndarray()
    assert shown.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    assert (
        np.abs(shown[: size[0], : size[1]].astype(int) - frames[0]).mean() < 6
    )  # of noise, whose colours 4:2:0 halves


def test_colours_survive_a_film(tmp_path: Path) -> None:
    """Whole areas, which 4:2:0 leaves alone: the matrix and the range are what the file says."""
    flat = np.zeros((64, 64, 3), np.uint8)
    flat[:32, :32], flat[:32, 32:], flat[32:, :32] = (200, 120, 90), (20, 200, 40), (250, 250, 250)
    for name in ("film.mp4", "film.webm"):
        write(tmp_path / name, [flat] * 3)
        reader = cv2.VideoCapture(str(tmp_path / name))
        shown = reader.read()[1][..., ::-1]
        for y, x in ((16, 16), (16, 48), (48, 16), (48, 48)):
            assert np.abs(shown[y, x].astype(int) - flat[y, x]).max() <= 8, name


def test_a_webp_is_an_animation(tmp_path: Path) -> None:
    write(tmp_path / "film.webp", FRAMES)
    with Image.open(tmp_path / "film.webp") as film:
        assert (film.n_frames, film.size, film.info["loop"]) == (5, (64, 64), 0)
        for n, frame in enumerate(FRAMES):
            film.seek(n)
            assert np.abs(np.asarray(film.convert("RGB")).astype(int) - frame).mean() < 5
            assert film.info["duration"] == 100
    assert [p.name for p in tmp_path.iterdir()] == ["film.webp"]


@pytest.mark.parametrize(("extra", "suffix"), [(True, ".mp4"), (False, ".gif")])
def test_the_default_is_a_film_that_can_be_written(
    extra: bool, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(films, "find_spec", lambda name: object() if extra else None)
    assert films.default_film_suffix() == suffix


@pytest.mark.parametrize("name", ["film.mp4", "film.webm", "film.webp"])
def test_without_the_extra_a_sentence_names_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(PictureError, match=r"need PyAV; install hyperstyle-rt\[films\]") as refusal:
        check_film(tmp_path / name)
    assert "\n" not in str(refusal.value)
    with pytest.raises(PictureError, match="need PyAV"):
        write(tmp_path / name, FRAMES[:1])
    assert not list(tmp_path.iterdir())
    if cv2.haveImageWriter(".gif"):
        write(tmp_path / "film.gif", FRAMES[:2])


def test_what_a_killed_run_left_is_removed_by_the_next_film(tmp_path: Path) -> None:
    left = tmp_path / f".{'0a' * 16}.part"
    left.write_bytes(b"half a film")
    os.utime(left, (0, 0))
    write(tmp_path / "film.mp4", FRAMES[:2])
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
    write(tmp_path / "film.gif", FRAMES, rate=1000)
    with Image.open(tmp_path / "film.gif") as film:
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


def test_a_folder_keeps_no_frames_of_a_longer_film(tmp_path: Path) -> None:
    write(tmp_path, FRAMES)
    (tmp_path / "frame_last.png").touch()
    write(tmp_path, FRAMES[3:])
    names = ["frame_00000.png", "frame_00001.png", "frame_last.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert np.array_equal(read_picture(tmp_path / names[0]), FRAMES[3])


@pytest.mark.parametrize("name", FILMS)
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


@pytest.mark.parametrize("name", FILMS)
def test_a_film_into_nowhere_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="cannot write"):
        write(tmp_path / "missing" / name, FRAMES[:1])


def test_an_opencv_without_gif_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(films.cv2, "haveImageWriter", lambda _suffix: False)
    with pytest.raises(PictureError, match=r"writes no GIF; name an \.mp4 or a folder"):
        write(tmp_path / "film.gif", FRAMES[:1])


@pytest.mark.parametrize("name", FILMS)
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


def test_what_is_too_long_for_a_row_is_set_in_several() -> None:
    assert np.array_equal(in_rows(FRAMES, 5 * 64 + 4 * 2), side_by_side(FRAMES))
    rows = in_rows(FRAMES, 5 * 64 + 4 * 2 - 1)
    assert np.array_equal(rows, contact_sheet(FRAMES, columns=3))
    assert in_rows(FRAMES, 10).shape == (5 * 64 + 4 * 2, 64, 3)


@pytest.mark.parametrize("count", [1, 5, 8, 9, 17])
def test_a_sheet_that_is_too_large_is_told_by_its_first_picture(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    height, width, _ = contact_sheet([FRAMES[0]] * count).shape
    check_sheet(FRAMES[0], count)
    monkeypatch.setattr(films, "MAX_PIXELS", height * width)
    monkeypatch.setattr(films, "MAX_SIDE", max(height, width))
    check_sheet(FRAMES[0], count)
    for name in ("MAX_PIXELS", "MAX_SIDE"):
        with monkeypatch.context() as patch:
            patch.setattr(films, name, getattr(films, name) - 1)
            with pytest.raises(PictureError, match=f"a sheet of {width} x {height} pixels"):
                check_sheet(FRAMES[0], count)
