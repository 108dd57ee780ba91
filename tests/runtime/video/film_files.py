"""Films of moving faces, with sound, and stand-ins that find faces at once."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from hyperstyle_rt.photos.faces import Face
from hyperstyle_rt.types import Picture

SIZE = (72, 96)
RATE = 25
TICKS = 1000  # a second
SIDE = 20  # of the marker that stands for a face
MARKER = (230, 30, 30)


def frame_with(*centres: tuple[float, float], ground: int = 90) -> Picture:
    """A frame of `SIZE` with a marker for a face at each place (x, y), on a shaded ground."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    picture = np.stack([ground + rows // 2, ground + columns // 2, ground + 0 * rows], -1)
    for x, y in centres:
        top, left = round(y) - SIDE // 2, round(x) - SIDE // 2
        picture[max(top, 0) : top + SIDE, max(left, 0) : left + SIDE] = MARKER
    return picture.astype(np.uint8)


def find_markers(picture: Picture) -> list[Face]:
    """In the place of `find_prominent_faces`: a face for every marker, from left to right."""
    import cv2

    near = np.abs(picture.astype(int) - MARKER).max(-1) < 60
    _, _, stats, centres = cv2.connectedComponentsWithStats(near.astype(np.uint8))
    faces = [
        Face(1.0, np.array([*(centre - SIDE / 2), *(centre + SIDE / 2)]), points_at(centre))
        for stat, centre in zip(stats[1:], centres[1:], strict=True)
        if stat[cv2.CC_STAT_AREA] > SIDE * SIDE / 4
    ]
    return sorted(faces, key=lambda face: float(face.points[0, 0]))


def points_at(centre: Sequence[float]) -> np.ndarray:
    """The four points of a face in the middle of a marker."""
    return np.asarray(centre) + np.array([[-5.0, -4], [5, -4], [-4, 6], [4, 6]])


def write_film(
    path: Path,
    frames: Sequence[Picture],
    times: Sequence[int] | None = None,
    sound: str | None = "aac",
    pixel_aspect: Fraction | None = None,
    transfer: int | None = None,
    **stream_options: str,
) -> Path:
    """Write a film whose frames are shown at `times`, in 1/`TICKS` s; sound is a tone.

    `pixel_aspect` is the width of a pixel beside its height, where they are not square; `transfer`
    FFmpeg's number of a transfer function, by which alone the film is labelled.
    """
    when = [n * TICKS // RATE for n in range(len(frames))] if times is None else times
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=RATE, options={"crf": "6", **stream_options})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, TICKS)
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if transfer is not None:
            stream.codec_context.color_trc = transfer
        tone = None if sound is None else film.add_stream(sound, rate=48000, layout="mono")
        for picture, time in zip(frames, when, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, TICKS)
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
        if tone is not None:
            _add_tone(film, tone, when[-1] / TICKS)
    return path


def _add_tone(film: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    count = int(48000 * max(seconds, 0.1))
    wave = np.sin(np.arange(count) * 2 * np.pi * 440 / 48000)
    fifo = av.AudioFifo()
    samples = (wave * 20000).astype(np.int16)[None]
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
    frame.sample_rate, frame.pts = 48000, 0
    resampler = av.AudioResampler(stream.codec_context.format, "mono", 48000)
    for resampled in resampler.resample(frame):
        fifo.write(resampled)
    size = stream.codec_context.frame_size or 1024
    while piece := fifo.read(size, partial=True):
        film.mux(stream.encode(piece))
    film.mux(stream.encode(None))


def sound_of(path: Path) -> list[tuple[float, bytes]]:
    """Times in seconds and bytes of all packets of sound."""
    with av.open(str(path)) as film:
        return [
            (float(packet.dts * packet.time_base), bytes(packet))
            for packet in film.demux()
            if packet.dts is not None and packet.stream.type == "audio"
        ]


def pictures_of(path: Path) -> list[tuple[float, Picture]]:
    """Times in seconds and pictures of all frames, read as players do."""
    with av.open(str(path)) as film:
        return [
            (
                float(frame.pts * frame.time_base),
                frame.to_ndarray(format="rgb24", src_colorspace=1 if frame.colorspace == 1 else 5),
            )
            for frame in film.decode(video=0)
        ]


def lightness_differs(first: Picture, second: Picture) -> float:
    """Mean difference of what a film does not halve: the colours of noise are blurred by 4:2:0."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    return float(np.abs(first @ weights - second @ weights).mean())
