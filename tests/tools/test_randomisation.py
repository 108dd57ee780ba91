"""Domain randomisation: deterministic, within range, each disturbance does what it is named for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from hyperstyle_rt.errors import HyperStyleError
from numpy.typing import NDArray
from training.config_files import from_table, read_config
from training.randomisation import OFF, PHOTOGRAPHS, Chance, Randomisation, disturbed

Picture = NDArray[np.uint8]

NAMES = [f.name for f in dataclasses.fields(Randomisation) if f.name != "clean"]
SIDE = 64


@pytest.fixture(scope="module")
def face() -> Picture:
    """A coloured oval with a darker band on a background of detail, nowhere at the extremes."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    inside = ((columns - 0.5) / 0.3) ** 2 + ((rows - 0.5) / 0.4) ** 2 < 1
    detail = np.random.default_rng(0).uniform(60, 190, (SIDE, SIDE, 3))
    x = np.where(inside[..., None], (190, 140, 110), detail)
    x[28:32] *= 0.6
    return x.astype(np.uint8)


def only(name: str, strength: float = 1.0) -> Randomisation:
    return Randomisation(**{name: Chance(1.0, strength)})


def difference(a: Picture, b: Picture) -> float:
    return float(np.abs(a.astype(float) - b).mean())


def test_nothing_happens_by_default(face: Picture) -> None:
    assert all(np.array_equal(disturbed(face, Randomisation(), (s,)), face) for s in range(20))


@pytest.mark.parametrize("name", NAMES)
def test_each_disturbance_changes_the_picture_and_keeps_its_kind(face: Picture, name: str) -> None:
    before = face.copy()
    results = [disturbed(face, only(name), (seed,)) for seed in range(8)]
    for result in results:
        assert result.shape == face.shape
        assert result.dtype == np.uint8
        assert 0.2 < difference(result, face) < 100
    if name != "grey":  # which has nothing to draw but a rare tint
        assert all(difference(results[0], other) > 0.02 for other in results[1:])
    assert np.array_equal(face, before)


@pytest.mark.parametrize("name", NAMES)
def test_a_disturbance_is_the_same_for_the_same_seed(face: Picture, name: str) -> None:
    twice = [disturbed(face, only(name), (3, 1, 4)) for _ in range(2)]
    assert np.array_equal(*twice)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "occluder"])
def test_less_strength_changes_less(face: Picture, name: str) -> None:
    weak, strong = (
        np.mean([difference(disturbed(face, only(name, s), (k,)), face) for k in range(24)])
        for s in (0.25, 1.0)
    )
    assert weak < strong


def test_chances_are_kept(face: Picture) -> None:
    sometimes = Randomisation(tone=Chance(0.3))
    changed = sum(difference(disturbed(face, sometimes, (k,)), face) > 0 for k in range(400))
    assert 0.2 < changed / 400 < 0.4
    mostly_clean = dataclasses.replace(PHOTOGRAPHS, clean=0.9)
    kept = sum(disturbed(face, mostly_clean, (k,)) is face for k in range(200))
    assert kept > 160


def test_grey_pictures_have_no_colour(face: Picture) -> None:
    spreads = [np.ptp(disturbed(face, only("grey"), (k,)), axis=2).mean() for k in range(20)]
    assert np.median(spreads) == 0
    assert max(spreads) > 0  # the tint


def test_blur_lowers_and_sharpening_raises_detail(face: Picture) -> None:
    def detail(x: Picture) -> float:
        return float(np.abs(cv2.Laplacian(x.astype(np.float32), -1)).mean())

    for seed in range(6):
        assert detail(disturbed(face, only("blur"), (seed,))) < detail(face)
        assert detail(disturbed(face, only("sharpen"), (seed,))) > detail(face)


def test_the_background_changes_and_the_middle_of_the_face_stays(face: Picture) -> None:
    middle = slice(SIDE * 2 // 5, SIDE * 3 // 5)
    for seed in range(6):
        result = disturbed(face, only("background"), (seed,))
        assert np.array_equal(result[middle, middle], face[middle, middle])
        assert difference(result[:8, :8], face[:8, :8]) > 5


def test_a_crop_moves_by_what_alignment_errs() -> None:
    """A dot in the middle stays within 3 % of the side, and rarely stays where it was."""
    x = np.zeros((256, 256, 3), np.uint8)
    x[127:129, 127:129] = 255
    moves = []
    for seed in range(30):
        rows, columns = np.nonzero(disturbed(x, only("crop"), (seed,))[..., 0] > 60)
        moves.append(max(abs(rows.mean() - 127.5), abs(columns.mean() - 127.5)) / 256)
    assert max(moves) < 0.035
    assert np.median(moves) > 0.01


def test_a_recipe_may_set_chances(tmp_path: Path) -> None:
    path = tmp_path / "randomisation.toml"
    path.write_text("clean = 0.5\n[jpeg]\nchance = 0.4\n[tone]\nchance = 1\nstrength = 0.5\n")
    read = read_config(path, Randomisation)
    assert (read.clean, read.jpeg, read.tone) == (0.5, Chance(0.4), Chance(1.0, 0.5))
    assert read.blur == OFF


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"tone": {"chance": 1.5}}, "0 to 1"),
        ({"tone": {"chance": 1, "strength": 0}}, "above 0"),
        ({"clean": -0.1}, "0 to 1"),
        ({"rain": {"chance": 1}}, "rain"),
    ],
)
def test_impossible_chances_are_refused(table: dict[str, object], said: str) -> None:
    with pytest.raises(HyperStyleError, match=said):
        from_table(table, Randomisation)
