"""Films as they are read, and as they are written with the sound of another one."""

from __future__ import annotations

import struct
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from film_files import RATE, SIZE, TICKS, frame_with, pictures_of, sound_of, write_film
from hyperstyle_rt.errors import PictureError
from hyperstyle_rt.imaging.films import ENCODINGS, Encoding, open_film
from hyperstyle_rt.video import writing
from hyperstyle_rt.video.names import WRITABLE_FILMS
from hyperstyle_rt.video.reading import describe_film, read_frames
from hyperstyle_rt.video.writing import WRITTEN_AS, open_film_with_sound, suffix_like

FRAMES = [frame_with((30 + 3 * n, 40)) for n in range(6)]
UNEVEN = [0, 40, 60, 140, 180, 250]


def mean_difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(int) - second).mean())


def test_frames_and_their_times(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", FRAMES, UNEVEN)
    facts = describe_film(path)
    assert (facts.size, facts.frames) == (SIZE, len(FRAMES))
    frames = list(read_frames(path))
    assert [frame.number for frame in frames] == list(range(6))
    seconds = [float(frame.time * facts.time_base) for frame in frames]
    assert seconds == pytest.approx([time / TICKS for time in UNEVEN], abs=1e-3)
    for frame, picture in zip(frames, FRAMES, strict=True):
        assert mean_difference(frame.picture, picture) < 3


@pytest.mark.parametrize(("degrees", "turns"), [(90, 3), (180, 2), (270, 1)])
def test_what_a_phone_has_turned_is_upright(degrees: int, turns: int, tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", FRAMES[:1], sound=None)
    data = bytearray(path.read_bytes())
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = struct.pack(
        ">9i", *(n << 16 for n in (cosine, sine, 0, -sine, cosine, 0, 0, 0)), 1 << 30
    )
    at = data.index(b"tkhd") + 4 + 40  # behind version, times, layer, volume
    data[at : at + 36] = matrix
    path.write_bytes(data)
    (frame,) = read_frames(path)
    assert mean_difference(frame.picture, np.rot90(FRAMES[0], turns)) < 3
    assert describe_film(path).size == frame.picture.shape[:2]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mpg"])
@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(4, 3), (72, 128)), (Fraction(8, 9), (81, 96))]
)
def test_pixels_that_are_not_square_become_square(
    aspect: Fraction, size: tuple[int, int], suffix: str, tmp_path: Path
) -> None:
    """Else a face of a camcorder's film is narrow, and so is the film that it is set back into."""
    sound = "mp2" if suffix == ".mpg" else "aac"
    path = write_film(tmp_path / f"film{suffix}", FRAMES, sound=sound, pixel_aspect=aspect)
    frames = list(read_frames(path))
    assert describe_film(path).size == size
    assert {frame.picture.shape for frame in frames} == {(*size, 3)}
    for frame, picture in zip(frames, FRAMES, strict=True):
        stretched = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR)
        assert mean_difference(frame.picture, stretched) < 4


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG"), (1, None)])
def test_hdr_is_said(
    transfer: int, name: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_film(tmp_path / "film.mp4", FRAMES[:1], sound=None, transfer=transfer)
    assert describe_film(path).frames == 1
    assert [f"{path} is in HDR ({name})" in text for text in caplog.messages] == [True] * bool(name)


@pytest.mark.parametrize("suffix", WRITABLE_FILMS)
def test_sound_is_copied_packet_by_packet(suffix: str, tmp_path: Path) -> None:
    sound, container = ("libopus", ".mkv") if suffix == ".webm" else ("aac", ".mp4")
    source = write_film(tmp_path / f"source{container}", FRAMES * 8, sound=sound)
    facts = describe_film(source)
    result = tmp_path / f"result{suffix}"
    pictures = [frame.picture for frame in read_frames(source)]
    with open_film_with_sound(result, facts.time_base, facts.rate, source) as add:
        for frame in read_frames(source):
            add(255 - frame.picture, frame.time)
    before, after = sound_of(source), sound_of(result)
    assert [content for _, content in after] == [content for _, content in before]
    shift = after[0][0] - before[0][0]  # of the whole film, where times may not be negative
    assert [time for time, _ in after] == pytest.approx([t + shift for t, _ in before], abs=2e-3)
    found, expected = pictures_of(result), pictures_of(source)
    assert [t for t, _ in found] == pytest.approx([t + shift for t, _ in expected], abs=2e-3)
    for (_, picture), original in zip(found, pictures, strict=True):
        assert mean_difference(picture, 255 - original) < 6
    assert {path.name for path in tmp_path.iterdir()} == {source.name, result.name}


def test_sound_is_read_as_the_pictures_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that neither is held in memory until the other has come as far."""
    source = write_film(tmp_path / "source.mp4", FRAMES * 20)
    facts, heard = describe_film(source), [0.0]
    copy = writing.Copies.until

    def watched(copies: writing.Copies, seconds: Fraction | None) -> None:
        copy(copies, seconds)
        assert copies.held is not None or seconds is None
        if copies.held is not None:
            heard.append(float(copies.held.dts * copies.held.time_base))

    monkeypatch.setattr(writing.Copies, "until", watched)
    with open_film_with_sound(tmp_path / "result.mp4", facts.time_base, facts.rate, source) as add:
        for frame in list(read_frames(source))[:-5]:
            add(frame.picture, frame.time)
            assert abs(heard[-1] - float(frame.time * facts.time_base)) < 0.05


def test_a_container_that_cannot_hold_the_sound(tmp_path: Path) -> None:
    source = write_film(tmp_path / "source.mp4", FRAMES)
    result = tmp_path / "result.webm"
    facts = describe_film(source)
    with (
        pytest.raises(PictureError, match=r"\.webm cannot hold the film's sound \(aac\).*\.mkv"),
        open_film_with_sound(result, facts.time_base, facts.rate, source) as add,
    ):
        add(FRAMES[0], 0)
    assert [path.name for path in tmp_path.iterdir()] == ["source.mp4"]


class _Full:
    """In the place of a container: on a full disk."""

    def __init__(self, container: av.container.OutputContainer) -> None:
        self._container = container

    def __getattr__(self, name: str) -> object:
        return getattr(self._container, name)

    def __enter__(self) -> _Full:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def mux(self, _packets: object) -> None:
        raise av.FFmpegError(28, "No space left on device")


@pytest.mark.parametrize("full", ["first.mp4", "second.mkv"])
def test_an_error_is_said_of_the_film_that_has_it(
    full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of the one whose sound is copied, nor of another that is written beside it."""
    monkeypatch.chdir(tmp_path)
    source = write_film(Path("source.mp4"), FRAMES)
    facts, opening = describe_film(source), writing.open_output
    container = WRITTEN_AS[Path(full).suffix].container

    def open_output(path: Path, encoding: Encoding) -> object:
        opened = opening(path, encoding)
        return _Full(opened) if encoding.container == container else opened

    monkeypatch.setattr(writing, "open_output", open_output)
    with (
        pytest.raises(PictureError, match=f"^cannot write {full}: No space left on device$"),
        open_film_with_sound(Path("first.mp4"), facts.time_base, facts.rate, source) as one,
        open_film_with_sound(Path("second.mkv"), facts.time_base, facts.rate, source) as other,
    ):
        for frame in read_frames(source):
            one(frame.picture, frame.time)
            other(frame.picture, frame.time)
    assert [path.name for path in tmp_path.iterdir()] == ["source.mp4"]


def test_a_folder_in_the_place_of_a_film(tmp_path: Path) -> None:
    result = tmp_path / "result.mp4"
    result.mkdir()
    with (
        pytest.raises(PictureError, match=r"^cannot write .*result\.mp4: "),
        open_film_with_sound(result, Fraction(1, TICKS), Fraction(RATE), None) as add,
    ):
        add(FRAMES[0], 0)
    assert [path.name for path in tmp_path.iterdir()] == ["result.mp4"]


def test_a_silent_film(tmp_path: Path) -> None:
    source = write_film(tmp_path / "source.mp4", FRAMES, sound=None)
    for sound in (source, None):
        result = tmp_path / "result.mp4"
        with open_film_with_sound(result, Fraction(1, TICKS), Fraction(RATE), sound) as add:
            add(FRAMES[0], 0)
        assert sound_of(result) == []
        assert len(pictures_of(result)) == 1


def test_suffixes() -> None:
    assert tuple(WRITTEN_AS) == WRITABLE_FILMS
    assert suffix_like(".MP4") == suffix_like(".m4v") == ".mp4"
    assert (suffix_like(".webm"), suffix_like(".avi")) == (".webm", ".mkv")


BAD_FILMS = {
    "nothing": b"",
    "text": b"no film at all",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(60),
    # FFmpeg would open what such lists name, here a file of the user's.
    "a playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "a list of files": b"ffconcat version 1.0\nfile secret.mp4\n",
    "a page": b"<!doctype html><html></html>",
}


@pytest.mark.parametrize("kind", BAD_FILMS)
def test_what_is_no_film_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_film(Path("secret.mp4"), FRAMES[:1], sound=None)
    Path("film.mp4").write_bytes(BAD_FILMS[kind])
    with pytest.raises(PictureError, match=r"cannot read the film film\.mp4: "):
        describe_film(Path("film.mp4"))


def test_names_are_files_and_no_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_film(tmp_path / "film.mp4", FRAMES[:1], sound=None)
    source.rename("concat:a|b.mp4")
    assert describe_film(Path("concat:a|b.mp4")).size == SIZE
    with pytest.raises(PictureError, match="No such file"):
        describe_film(Path("missing.mp4"))
    sound = tmp_path / "sound.mp4"
    sound.write_bytes(b"")
    with pytest.raises(PictureError, match="cannot read"):
        list(read_frames(sound))


@pytest.mark.parametrize("suffix", sorted({*WRITABLE_FILMS, *ENCODINGS}))
def test_folders_with_a_colon_are_no_addresses(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("10:30", f"film{suffix}")
    path.parent.mkdir()
    if suffix in ENCODINGS:
        with open_film(path, RATE) as add:
            add(FRAMES[0])
        assert path.stat().st_size > 0
    if suffix in WRITABLE_FILMS:
        with open_film_with_sound(path, Fraction(1, TICKS), Fraction(RATE), None) as add_at:
            add_at(FRAMES[0], 0)
        assert len(list(read_frames(path))) == 1


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(PictureError, match=r"install hyperstyle-rt\[films\]"):
        describe_film(tmp_path / "film.mp4")


def test_a_film_that_is_cut_short_gives_its_frames_up_to_there(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mkv", FRAMES * 4, sound=None, g="1")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert 2 < sum(1 for _ in read_frames(path)) < 24
