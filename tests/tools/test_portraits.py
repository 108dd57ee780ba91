"""The portraits' crowd and pictures, on a small made-up head (the real one is not in the clone)."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("numba")

from hyperstyle_rt.photos.alignment import quadrilateral
from portraits import assets
from portraits.factors import FACTORS, NAMES, Person, description, from_vector, to_vector
from portraits.picture import Renderer
from portraits.population import DISTRIBUTIONS, person_at
from small_head import small_head

SIZE = 64
CROWD = [0.9900927, 20.594873, -14.8181827, 0.3047914, 0.0873265, 0.9859926]
# Mean and deviation of the quarters of the first three portraits of seed 1.
SMALL_REGIONS = [
    [[93.6, 32.0], [79.5, 37.7], [109.9, 18.3], [110.6, 28.2]],
    [[57.3, 40.8], [64.8, 34.2], [58.2, 49.1], [58.0, 46.4]],
    [[126.1, 43.7], [122.4, 44.8], [95.5, 29.9], [92.4, 28.1]],
]
REAL_REGIONS = [
    [[110.8, 30.0], [109.0, 44.1], [112.7, 25.9], [123.9, 33.4]],
    [[89.5, 64.6], [101.4, 69.3], [95.2, 59.5], [118.9, 74.6]],
    [[150.5, 55.3], [140.9, 55.0], [128.5, 55.7], [118.2, 52.7]],
]
STILL = {"shift_x": 0.0, "shift_y": 0.0, "zoom": 1.0, "roll": 0.0}


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(small_head())


def bare(index: int = 0, **factors: float) -> Person:
    """Someone with short hair and nothing in front of the face."""
    person = person_at(4, index)
    person |= {name: 0.1 for name in NAMES if name.startswith("length_")}
    return person | {"glasses": 0.0, "comb_back": 0.0, "volume": 0.02} | factors


def test_names_are_distinct_and_described() -> None:
    assert len(set(NAMES)) == len(NAMES) <= 200
    assert description().count("\n") == len(NAMES) + 1


def test_a_vector_holds_a_person() -> None:
    person = person_at(1, 0)
    assert from_vector(to_vector(person)) == pytest.approx(person, rel=1e-6)
    with pytest.raises(ValueError, match="factors are needed"):
        from_vector(np.zeros(3, np.float32))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_factors_stay_in_range(distribution: str) -> None:
    crowd = np.stack([to_vector(person_at(2, i, distribution)) for i in range(300)])
    low = np.array([factor.low for factor in FACTORS], np.float32)
    high = np.array([factor.high for factor in FACTORS], np.float32)
    assert np.all(crowd >= low) and np.all(crowd <= high)
    constant = [name for name, spread in zip(NAMES, crowd.std(0), strict=True) if spread == 0]
    assert constant == []


def test_people_depend_on_seed_and_index_alone() -> None:
    forwards = [person_at(3, i) for i in range(4)]
    backwards = [person_at(3, i) for i in reversed(range(4))]
    assert forwards == backwards[::-1]
    assert person_at(3, 1) != person_at(3, 2)
    assert person_at(3, 1) != person_at(4, 1)
    assert person_at(3, 1) != person_at(3, 1, "shifted")


def test_the_crowd_is_the_one_the_sets_were_drawn_from() -> None:
    """Trained models depend on it; numbers of 2026-11-23."""
    someone = person_at(1, 0)
    told = [someone[name] for name in ("sex", "age", "yaw", "smile", "light_x", "zoom")]
    assert told == pytest.approx(CROWD, abs=1e-6)


def test_age_and_presentation_go_with_hair() -> None:
    crowd = [person_at(5, i) for i in range(400)]
    feminine = [person for person in crowd if person["sex"] < 0.5]
    masculine = [person for person in crowd if person["sex"] > 0.5]
    assert all(person["beard"] == person["bald"] == 0 for person in feminine)
    assert np.mean([p["length_side"] for p in feminine]) > 4 * np.mean(
        [p["length_side"] for p in masculine]
    )
    assert np.mean([p["brow_width"] for p in masculine]) > np.mean(
        [p["brow_width"] for p in feminine]
    )
    young = [person for person in crowd if person["age"] < 35]
    old = [person for person in crowd if person["age"] > 65]
    for name in ("grey", "wrinkles", "recession"):
        assert np.mean([p[name] for p in old]) > np.mean([p[name] for p in young]) + 0.2


def test_a_picture_is_a_function_of_its_factors(renderer: Renderer) -> None:
    first = renderer.render(person_at(1, 0), SIZE)
    renderer.render(person_at(1, 1), SIZE)
    again = Renderer(small_head()).render(person_at(1, 0), SIZE)
    np.testing.assert_array_equal(again.picture, first.picture)
    np.testing.assert_array_equal(again.landmarks, first.landmarks)
    assert first.picture.shape == (SIZE, SIZE, 3) and first.picture.dtype == np.uint8


def test_fixed_patterns_follow_the_seed() -> None:
    person = person_at(1, 0)
    one, two = (Renderer(small_head(), seed).render(person, SIZE).picture for seed in (0, 7))
    assert np.any(one != two)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("skin_r", 0.2),
        ("hair_g", 0.9),
        ("iris_b", 1.0),
        ("length_side", 2.5),
        ("light_x", 0.9),
        ("yaw", 20.0),
        ("glasses", 1.0),
        ("backdrop_a_r", 0.0),
        ("lipstick", 1.0),
        ("exposure", 1.5),
        ("gaze_x", 15.0),
    ],
)
def test_factors_show(renderer: Renderer, name: str, value: float) -> None:
    before = renderer.render(bare(), SIZE).picture.astype(int)
    after = renderer.render(bare(**{name: value}), SIZE).picture.astype(int)
    assert np.abs(after - before).max() > 10


def changed_place(renderer: Renderer, colour: str, **factors: float) -> tuple[np.ndarray, ...]:
    """Rows and columns of the pixels that change with a colour factor, and the landmarks."""
    size = 256
    shown = []
    for value in (0.0, 1.0):
        person = bare(**factors, **{f"{colour}_{channel}": value for channel in "rgb"})
        shown.append(renderer.render(person, size))
    difference = np.abs(shown[0].picture.astype(int) - shown[1].picture.astype(int)).sum(-1)
    rows, columns = np.nonzero(difference > 30)
    return rows + 0.5, columns + 0.5, shown[0].landmarks


@pytest.mark.parametrize("yaw", [-15.0, 0.0, 15.0])
def test_eye_landmarks_are_at_the_eyes(renderer: Renderer, yaw: float) -> None:
    rows, columns, landmarks = changed_place(renderer, "iris", yaw=yaw, gaze_x=yaw, gaze_y=0.0)
    middle = landmarks[:2, 0].mean()
    for eye, side in zip(landmarks[:2], (columns < middle, columns > middle), strict=True):
        assert columns[side].mean() == pytest.approx(eye[0], abs=5)
        assert rows[side].mean() == pytest.approx(eye[1], abs=5)


def test_mouth_landmarks_are_at_its_corners(renderer: Renderer) -> None:
    person = {"lipstick": 1.0, "yaw": 0.0, "moustache": 0.0, "beard": 0.0, "beard_length": 0.0}
    rows, columns, landmarks = changed_place(renderer, "lipstick", **person)
    left, right = landmarks[2:]
    assert left[0] < right[0]
    assert columns.min() - 4 < left[0] < columns.min() + 30
    assert columns.max() - 30 < right[0] < columns.max() + 4
    assert rows.mean() == pytest.approx(landmarks[2:, 1].mean(), abs=8)


def test_pictures_are_framed_as_ffhq_frames_them(renderer: Renderer) -> None:
    for index in range(3):
        landmarks = renderer.landmarks(person_at(6, index) | STILL, 128)
        expected = [[0, 0], [0, 128], [128, 128], [128, 0]]
        np.testing.assert_allclose(quadrilateral(landmarks), expected, atol=0.01)


def test_jitter_moves_the_frame(renderer: Renderer) -> None:
    still = renderer.landmarks(bare() | STILL, 100)
    moved = renderer.landmarks(bare() | STILL | {"shift_x": 0.03, "shift_y": -0.02}, 100)
    np.testing.assert_allclose(moved - still, np.broadcast_to([3, -2], (4, 2)), atol=1e-3)
    zoomed = renderer.landmarks(bare() | STILL | {"zoom": 1.1}, 100)
    np.testing.assert_allclose(zoomed - 50, 1.1 * (still - 50), atol=1e-3)


def test_a_head_without_a_target_is_named() -> None:
    head = small_head()
    names = np.array([str(name).replace("chin-width-incr", "other") for name in head.names])
    with pytest.raises(assets.AssetError, match="chin-width-incr"):
        Renderer(assets.Head(**{**vars(head), "names": names}))


def real_head() -> assets.Head:
    try:
        return assets.load()
    except assets.AssetError as error:
        pytest.skip(str(error))


def test_the_small_heads_pictures_are_frozen(renderer: Renderer) -> None:
    """Region means and deviations rather than bits: compilers may round differently."""
    np.testing.assert_allclose(regions(renderer, SIZE), SMALL_REGIONS, atol=1.0)


def test_the_real_heads_pictures_are_frozen() -> None:
    """The trained models know these pictures; a change needs `dataset.FORMAT` + 1."""
    np.testing.assert_allclose(regions(Renderer(real_head()), 128), REAL_REGIONS, atol=1.0)


def regions(renderer: Renderer, size: int) -> np.ndarray:
    """Mean and deviation of the quarters of three portraits [3, 4, 2]."""
    half = size // 2
    figures = []
    for index in range(3):
        picture = renderer.render(person_at(1, index), size).picture.astype(float)
        for row in (0, half):
            for column in (0, half):
                quarter = picture[row : row + half, column : column + half]
                figures.append([quarter.mean(), quarter.std()])
    return np.array(figures).reshape(3, 4, 2)


@pytest.mark.slow
def test_speed(capsys: pytest.CaptureFixture[str]) -> None:
    renderer = Renderer(real_head())
    people = [person_at(1, i) for i in range(61)]
    renderer.render(people[0], 128)  # compiles
    start = time.process_time()
    for person in people[1:]:
        renderer.render(person, 128)
    rate = (len(people) - 1) / (time.process_time() - start)
    with capsys.disabled():
        print(f"\nportraits at 128 px: {rate:.1f} images/s per core")
    assert rate > 8
