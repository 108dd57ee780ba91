"""HEIC and AVIF, against Pillow."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from format_files import (
    ALPHA,
    PHOTO,
    avif,
    heic,
    pillows,
)
from hyperstyle_rt.errors import PictureError
from hyperstyle_rt.imaging import pictures as imaging
from pictures import EXIF_ORIENTATION, over_white
from PIL import Image

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("make", [heic, avif])
def test_heic_and_avif_are_read(make: Callable[..., bytes]) -> None:
    picture = imaging.decode_picture(make(), Path("phone.heic"))
    assert picture.shape == PHOTO.shape
    assert np.abs(picture.astype(int) - PHOTO).mean() < 2
    data = make(Image.fromarray(np.dstack([PHOTO, ALPHA])))
    see_through = imaging.decode_picture(data, Path("x.heic"))
    assert np.abs(see_through.astype(int) - pillows(data)).max() <= 1
    assert np.abs(see_through.astype(int) - over_white(PHOTO, ALPHA)).mean() < 3


@pytest.mark.parametrize("make", [heic, avif])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_and_avif_stand_upright(orientation: int, make: Callable[..., bytes]) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    data = make(exif=exif)
    original = imaging.decode_original(data, Path("phone.heic"))
    expected = pillows(data)
    assert original.stored.shape == expected.shape
    assert np.abs(original.stored.astype(int) - expected).mean() < 2
    assert original.metadata.orientation() == 1


@pytest.mark.parametrize(
    ("make", "module", "kind"),
    [(heic, "pillow_heif", "HEIC"), (avif, "PIL", "AVIF")],
)
def test_without_the_extra_a_sentence_names_it(
    make: Callable[..., bytes], module: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        PictureError, match=rf"x\.heic is an? {kind} picture;.*hyperstyle-rt\[heif\]"
    ):
        imaging.decode_picture(data, Path("x.heic"))
