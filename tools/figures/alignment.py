"""Draw `docs/alignment.jpg`: a face found, cut out, and set back into its photo.

    pip install scikit-image
    python -m figures.alignment --out docs/alignment.jpg

The photo is scikit-image's astronaut, by NASA, in the public domain.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from hyperstyle_rt.imaging.pictures import resize_bilinear, side_by_side, write_picture
from hyperstyle_rt.photos.alignment import quadrilateral
from hyperstyle_rt.photos.portraits import Portrait, find_portraits, paste
from hyperstyle_rt.types import Picture
from mistakes import one_sentence
from skimage.data import astronaut

PART = (slice(0, 300), slice(75, 375))  # of the photo, the face in it
SIDE = 384
COLD = (0.75, 0.95, 1.25)  # stands for an edit


def part(photo: Picture) -> Picture:
    """The part of the photo around the face."""
    large = cv2.resize(photo[PART], (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_CUBIC)
    return resize_bilinear(large.astype(np.uint8), (SIDE, SIDE))


def marked(photo: Picture, portrait: Portrait) -> Picture:
    """The part with the crop's square and the four points."""
    left, top = PART[1].start, PART[0].start
    scale = SIDE / (PART[0].stop - top)
    picture = part(photo)

    def places(points: np.ndarray) -> np.ndarray:
        return ((points + 0.5 - [left, top]) * scale).round().astype(np.int32)

    square = places(quadrilateral(portrait.landmarks))
    cv2.polylines(picture, [square.reshape(-1, 1, 2)], True, (255, 220, 0), 2, cv2.LINE_AA)
    for x, y in places(portrait.landmarks).tolist():
        cv2.circle(picture, (x, y), 4, (0, 230, 80), -1, cv2.LINE_AA)
    return picture


@one_sentence()
def main(out: Annotated[Path, typer.Option("--out", "-o", help="A picture.")]) -> None:
    """Draw the sheet."""
    photo = astronaut()
    (portrait,) = find_portraits(photo, which="largest")
    unchanged = paste(photo, portrait.transform, portrait.crop)
    difference = 255 - np.minimum(8 * np.abs(unchanged.astype(int) - photo), 255)
    cold = np.clip(portrait.crop * np.array(COLD), 0, 255).astype(np.uint8)
    pictures = [
        marked(photo, portrait),
        resize_bilinear(portrait.crop, (SIDE, SIDE)),
        part(unchanged),
        part(difference.astype(np.uint8)),
        part(paste(photo, portrait.transform, cold)),
    ]
    write_picture(out, side_by_side(pictures))


if __name__ == "__main__":
    typer.run(main)
