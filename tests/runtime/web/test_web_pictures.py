"""The browser's picture maths against the official code's, Pillow's, OpenCV's and Python's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import fakeweights
import numpy as np
import pytest
from hyperstyle_rt.imaging import resampling
from hyperstyle_rt.imaging.pictures import to_input, to_picture
from hyperstyle_rt.photos.alignment import align, face_points, quadrilateral
from node_programs import needs_node, run
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

pytestmark = needs_node
SLOW = pytest.mark.slow  # of 12 million pixels

Arrays = dict[str, NDArray[Any]]


def computed(tmp_path: Path, jobs: list[list[Any]], arrays: Arrays) -> Arrays:
    """What the browser's code makes of pictures; one run of Node for all jobs."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(contiguous, tmp_path / "in")
    (tmp_path / "jobs").write_text(json.dumps(jobs), encoding="utf-8")
    run("pictures.mjs", tmp_path / "jobs", tmp_path / "in", tmp_path / "out")
    return load_file(tmp_path / "out")


@pytest.mark.parametrize("case", ["inside", "padded", pytest.param("shrunk", marks=SLOW)])
def test_the_golden_crops_come_out_to_the_last_bit(
    case: str, golden_dir: Path, tmp_path: Path
) -> None:
    golden = np.load(golden_dir / "misc.npz")
    seed, height, width = (int(n) for n in golden[f"align/{case}/params"])
    photo = fakeweights.image_u8(seed, height, width)
    points = face_points(golden[f"align/{case}/landmarks"])
    quad = quadrilateral(points)
    jobs = [
        ["quad", "quadrilateral", points.tolist()],
        ["crop", "align", "photo", quad.tolist(), 1024],
    ]
    made = computed(tmp_path, jobs, {"photo": photo})
    np.testing.assert_allclose(made["quad"], quad, rtol=1e-14)
    crop = made["crop"]
    means = crop.reshape(64, 16, 64, 16, 3).astype(np.float64).mean(axis=(1, 3))
    np.testing.assert_array_equal(means.astype(np.float32), golden[f"align/{case}/area64"])
    np.testing.assert_array_equal(crop[480:544, 480:544], golden[f"align/{case}/crop_centre64_u8"])


def test_crops_and_their_transforms_are_pythons(tmp_path: Path) -> None:
    photo = fakeweights.image_u8(3, 500, 610)
    centre, x = np.array([300.0, 240.0]), np.array([150.0, 30.0])
    y = np.array([-x[1], x[0]])
    inside = np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])
    quads = {"small": inside, "shrunk": inside, "padded": inside - [200, 60], "far": inside + 250}
    sides = {"shrunk": 60}
    jobs = [[n, "align", "photo", q.tolist(), sides.get(n, 200)] for n, q in quads.items()]
    made = computed(tmp_path, jobs, {"photo": photo})
    for name, quad in quads.items():
        crop, transform = align(photo, quad, sides.get(name, 200))
        np.testing.assert_array_equal(made[name], crop)
        np.testing.assert_allclose(made[f"{name}/transform"], transform, rtol=1e-9, atol=1e-9)


def test_resizing_is_pillows_to_the_last_bit(tmp_path: Path) -> None:
    photo = fakeweights.image_u8(4, 300, 420)
    sizes = [(97, 60), (150, 333), (300, 210), (451, 700), (300, 420)]
    kernels = {"bilinear": resampling.BILINEAR, "lanczos": resampling.LANCZOS}
    jobs = [
        [f"{kernel} {size}", "resize", "photo", size, kernel]
        for kernel in kernels
        for size in sizes
    ]
    made = computed(tmp_path, jobs, {"photo": photo})
    for name, kernel in kernels.items():
        for size in sizes:
            expected = resampling.resize(photo, size, kernel)
            np.testing.assert_array_equal(made[f"{name} {size}"], expected)


def test_what_networks_take_and_give_is_pythons_to_the_last_bit(tmp_path: Path) -> None:
    photo = fakeweights.image_u8(5, 90, 70)
    planes = np.random.default_rng(1).normal(0, 1, (3, 20, 30)).astype(np.float32)
    jobs = [["in", "input", "photo", [64, 48]], ["out", "picture", "planes", [20, 30]]]
    made = computed(tmp_path, jobs, {"photo": photo, "planes": planes})
    np.testing.assert_array_equal(made["in"], to_input(photo, (64, 48)))
    np.testing.assert_array_equal(made["out"], to_picture(planes))


SAMPLED = [("area", size) for size in [(125, 97), (165, 120), (110, 80), (329, 2), (1, 239)]]
SAMPLED += [("linear", size) for size in [(400, 350), (331, 1000), (330, 240)]]
MAPS = [[[0.8, -0.5, 40.3], [0.45, 0.9, -20.7]], [[1.37, 0.12, 3.3], [-0.12, 1.37, 20.7]]]


def test_sampling_is_opencvs_to_the_last_bit(tmp_path: Path) -> None:
    photo = fakeweights.image_u8(6, 240, 330)
    jobs: list[list[Any]] = [[f"{kind} {size}", kind, "photo", size] for kind, size in SAMPLED]
    jobs += [[f"map {n}", "warp", "photo", m, 192] for n, m in enumerate(MAPS)]
    jobs += [[f"turn {turns}", "turned", "photo", turns] for turns in range(4)]
    made = computed(tmp_path, jobs, {"photo": photo})
    ways = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR}
    for kind, size in SAMPLED:
        expected = cv2.resize(photo, size, interpolation=ways[kind])
        np.testing.assert_array_equal(made[f"{kind} {size}"], expected, f"{kind} {size}")
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for n, m in enumerate(MAPS):
        expected = cv2.warpAffine(photo, np.array(m), (192, 192), flags=flags)
        np.testing.assert_array_equal(made[f"map {n}"], expected)
    for turns in range(4):
        np.testing.assert_array_equal(made[f"turn {turns}"], np.rot90(photo, turns))
