"""Contact sheets with headings, and the one on top of the README."""

from pathlib import Path

import numpy as np
from figures.model import headings, sheet_row
from figures.sheets import headed_sheet
from hyperstyle_rt import Model
from hyperstyle_rt.imaging.pictures import read_picture, resize_bilinear

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "portrait_0.png"


def test_headings_stand_above_their_columns() -> None:
    rows = [[np.full((64, 64, 3), 40 * (3 * y + x), np.uint8) for x in range(3)] for y in range(2)]
    sheet = headed_sheet(["", "word", ""], rows)
    assert sheet.shape == (9 + 128, 192, 3)
    assert np.array_equal(sheet[9 + 64 :, 128:], rows[1][2])
    inked = (sheet[:9] < 128).any(axis=(0, 2))
    assert inked[64:128].any()
    assert not inked[:64].any() and not inked[128:].any()


def test_a_row_shows_how_a_bundle_gets_closer_and_edits() -> None:
    model = Model.load("portraits")
    picture = read_picture(EXAMPLE)
    row = sheet_row(model, picture)
    assert len(row) == len(headings())
    target, *results = (shown.astype(float) for shown in row)
    size = model.bundle.manifest.image_size
    assert np.array_equal(target, resize_bilinear(picture, size))
    encoded, first, _, last, *edited = (np.square(shown - target).mean() for shown in results)
    assert last < first < encoded
    assert min(edited) > last
