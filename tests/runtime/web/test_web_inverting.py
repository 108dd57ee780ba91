"""The loop on onnxruntime-web against Python's: methods as data, edits, and the examples."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import fakeweights
import numpy as np
import pytest
from hyperstyle_rt import Inversion, Model
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.inversion_file import InversionData
from hyperstyle_rt.imaging.pictures import read_picture, resize_bilinear
from hyperstyle_rt.inverting.preparing import Crop, crops_of
from method_bundles import NUDGED, add_method
from node_programs import needs_onnxruntime_web, run
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

pytestmark = needs_onnxruntime_web

ROOT = Path(__file__).parents[3]
PORTRAITS = [f"portrait_{n}.png" for n in range(3)]


class Results:
    """What a run of Node gave."""

    def __init__(self, folder: Path, refusals: dict[str, str | None]) -> None:
        self.folder = folder
        self.refusals = refusals
        self.arrays = load_file(folder / "arrays")

    def inversion(self, name: str) -> Inversion:
        return Inversion.load(self.folder / f"{name}.safetensors")


def computed(
    bundle: Path,
    folder: Path,
    pictures: dict[str, Any],
    jobs: list[dict[str, Any]],
    threads: int = 1,
) -> Results:
    """What the browser's code makes of pictures and inversion files; one run of Node."""
    folder.mkdir(exist_ok=True)
    save_file({name: np.ascontiguousarray(p) for name, p in pictures.items()}, folder / "in")
    arguments = (bundle, folder / "in", folder / "out", json.dumps(jobs))
    return Results(folder / "out", run("invert.mjs", *arguments, threads=threads))


def psnr(one: NDArray[Any], other: NDArray[Any]) -> float:
    error = np.square(one.astype(float) - other.astype(float)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def timed(model: Model, picture: Any, method: str | None = None) -> tuple[Inversion, float]:
    """An inversion by the method alone, and the median time of an iteration after the first."""
    times = [time.perf_counter()]
    inversion = model.invert(
        picture,
        method=method,
        effort="fast",
        on_iteration=lambda *_: times.append(time.perf_counter()),
    )
    return inversion, float(np.median(np.diff(times)[1:] if len(times) > 2 else [np.nan]))


def ratio(made: Results, name: str, seconds: float) -> str:
    """How many times as long an iteration takes as in Python."""
    seen = made.arrays[f"{name}/wall"][1:]
    if not len(seen):
        return "no iterations"
    here = float(np.median(seen))
    return f"{here:.2f} s an iteration, {here / seconds:.1f} times Python's"


def check_same(found: Inversion, expected: Inversion, tolerance: float = 1e-4) -> None:
    """Both inversions are the same but for rounding, and for what computed them."""
    np.testing.assert_allclose(found.latents, expected.latents, atol=tolerance)
    if expected.codes is None:
        assert found.codes is None
    else:
        np.testing.assert_allclose(found.codes, expected.codes, atol=tolerance)
    assert found.computed == {
        "backend": "onnxruntime-web",
        "provider": "wasm",
        "precision": "fp32",
    }
    for name in ("space", "code_space", "bundle_name", "bundle_digest", "method", "settings"):
        assert getattr(found.data, name) == getattr(expected.data, name), name
    assert found.iterations == expected.iterations


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_method(tiny_bundle, tmp_path_factory.mktemp("methods") / "tiny")


@pytest.fixture(scope="module")
def model(bundle: Path) -> Model:
    return Model.load(bundle, "cpu", threads=1)


def varied(data: InversionData, model: Model) -> InversionData:
    """An inversion with channel offsets, and noise where the bundle takes some."""
    manifest, source = model.bundle.manifest, np.random.default_rng(5)
    inputs = manifest.optional_inputs
    noise = 0 if inputs is None else sum(layer.side**2 for layer in inputs.noise)
    offsets = source.normal(0, 0.05, manifest.num_channel_offsets).astype(np.float16)
    return dataclasses.replace(
        data,
        channel_offsets=offsets if "channel_offsets" in manifest.graphs else None,
        noise=source.normal(0, 1, noise).astype(np.float16) if noise else None,
    )


ASKED: dict[str, dict[str, Any]] = {
    "default": {},
    "none": {"iterations": 0},
    "until": {"until": 1000.0},
    "nudged": {"method": NUDGED},
    "encoder": {"method": "encoder"},
    "average": {"method": "average"},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "blind": (
        {"method": "blind"},
        "BundleError: the graph 'nudge' reads the tensor 'colours'",
    ),
    "unknown": ({"method": "magic"}, "BundleError: bundle 'tiny' has no method 'magic', only"),
    "many": ({"iterations": 101}, "HyperStyleError: iterations must be from 0 to 100"),
    "one pass": (
        {"method": "encoder", "iterations": 2},
        "HyperStyleError: the method 'encoder' does not iterate",
    ),
}
FRACTIONS = (0.0, 0.25, 1.0)


@pytest.fixture(scope="module")
def saved(model: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Inversion]:
    """Two inversions of Python's with their files; the second with all that is rendered here."""
    folder = tmp_path_factory.mktemp("saved")
    first = model.invert(fakeweights.image_u8(1, 64, 64), 2, align="never")
    second = model.invert(fakeweights.image_u8(2, 64, 64), 1, align="never")
    inversions = {folder / "first": first, folder / "second": Inversion(varied(second.data, model))}
    for file, inversion in inversions.items():
        inversion.save(file)
    return inversions


@pytest.fixture(scope="module")
def made(
    bundle: Path, saved: dict[Path, Inversion], tmp_path_factory: pytest.TempPathFactory
) -> Results:
    """All that one run of Node gives."""
    files = [str(file) for file in saved]
    asked = ASKED | {name: how for name, (how, _) in REFUSED.items()}
    jobs: list[dict[str, Any]] = [{"name": n, "picture": "p", **how} for n, how in asked.items()]
    jobs += [{"name": Path(file).name, "file": file} for file in files]
    jobs += [{"name": f"at {f}", "between": files, "fraction": f} for f in FRACTIONS]
    pictures = {"p": fakeweights.image_u8(1, 64, 64)}
    return computed(bundle, tmp_path_factory.mktemp("made"), pictures, jobs)


def test_methods_are_run_as_the_manifest_lists_them(
    made: Results, model: Model, picture: NDArray[Any]
) -> None:
    assert {name: made.refusals[name] for name in ASKED} == dict.fromkeys(ASKED)
    for name, how in ASKED.items():
        expected = model.invert(picture, align="never", effort="fast", **how)
        check_same(made.inversion(name), expected)
        assert psnr(made.arrays[f"{name}/found"], expected.image) > 50, name
        assert psnr(made.arrays[f"{name}/rendering"], expected.image) > 50, name
    assert made.inversion("until").iterations == 2


def test_what_cannot_be_done_is_refused_with_pythons_sentences(made: Results) -> None:
    for name, (_, sentence) in REFUSED.items():
        assert sentence in str(made.refusals[name])


def test_what_python_has_saved_is_rendered_and_interpolated(
    made: Results, model: Model, saved: dict[Path, Inversion]
) -> None:
    for file, inversion in saved.items():
        assert psnr(made.arrays[f"{file.name}/rendering"], model.render(inversion)) > 50
    first, second = saved.values()
    for fraction, expected in zip(
        FRACTIONS, model.interpolate(first, second, FRACTIONS), strict=True
    ):
        assert psnr(made.arrays[f"at {fraction}/rendering"], expected) > 50


def test_inversions_of_another_generator_are_refused(
    bundle: Path, model: Model, picture: NDArray[Any], tmp_path: Path
) -> None:
    data = model.invert(picture, 0, align="never").data
    wrong = {
        "space": dataclasses.replace(data, space="0" * 64),
        "shape": dataclasses.replace(data, latents=data.latents[:, 1:]),
        "weights": dataclasses.replace(data, weights=np.zeros(3, np.float16)),
    }
    for name, changed in wrong.items():
        Inversion(changed).save(tmp_path / name)
    jobs = [{"name": name, "file": str(tmp_path / name)} for name in wrong]
    said = computed(bundle, tmp_path / "made", {"p": picture}, jobs).refusals
    assert "does not fit bundle 'tiny'" in str(said["space"])
    assert "has latents of shape" in str(said["shape"])
    assert "needs weights, which browsers do not render" in str(said["weights"])


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_the_examples_come_out_as_in_python(threads: int, tmp_path: Path) -> None:
    bundle = ROOT / "engines" / "portraits"
    pictures = {name: read_picture(ROOT / "examples" / name) for name in PORTRAITS}
    jobs = [
        {"name": name, "picture": name, "align": "auto", "edits": {"smile": 2}} for name in pictures
    ]
    made = computed(bundle, tmp_path, pictures, jobs, threads)
    assert set(made.refusals.values()) == {None}
    with Model.load(bundle, "cpu", threads=threads) as model:
        for name, picture in pictures.items():
            expected, seconds = timed(model, picture)
            found = made.inversion(name)
            check_same(found, expected)
            assert psnr(made.arrays[f"{name}/found"], expected.image) > 50
            edited = model.edit(expected, {"smile": 2.0}).image
            assert psnr(made.arrays[f"{name}/edited"], edited) > 50
            codes = np.abs(np.subtract(found.codes, expected.codes)).max()
            decibels = psnr(made.arrays[f"{name}/found"], expected.image)
            print(f"{name} on {threads}: codes {codes:.1e}, {decibels:.0f} dB")
            print(f"  {ratio(made, name, seconds)}")


@pytest.mark.slow
def test_the_face_of_a_photo_is_cropped_as_in_python(tmp_path: Path) -> None:
    """But for the last digits of the networks that find it, hundredths of a pixel."""
    bundle = ROOT / "engines" / "portraits"
    photo = read_picture(ROOT / "examples" / "astronaut.jpg")
    job = {"name": "photo", "picture": "photo", "align": "auto", "iterations": 0}
    made = computed(bundle, tmp_path, {"photo": photo}, [job])
    assert made.refusals == {"photo": None}
    (crop,), _ = crops_of(photo, Bundle.open(bundle).manifest)
    off = np.abs(made.arrays["photo/crop"].astype(int) - crop.picture)
    print(f"the crop is off by {off.max()} levels at most, {off.mean():.3f} on average")
    assert off.max() <= 3
    assert off.mean() < 0.1
    transform = made.inversion("photo").data.transform
    assert transform is not None
    assert crop.transform is not None
    corners = np.array([[0, 0, 1], [512, 0, 1], [0, 512, 1], [512, 512, 1]])
    assert np.abs(corners @ (transform - crop.transform).T).max() < 0.05  # pixels of 128


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"), [("portraits", "hyperstyle"), ("faces", "encoder"), ("faces", "restyle")]
)
def test_a_photograph_comes_out_as_in_python(name: str, method: str, tmp_path: Path) -> None:
    """Of ``restyle`` the fit alone: its steps enlarge the last digits of a photograph.

    A level more or less at every 64th pixel moves Python's own latents by 0.3, and the picture by
    what leaves 26 dB.
    """
    bundle = ROOT / "engines" / name
    photo = read_picture(ROOT / "examples" / "astronaut.jpg")
    with Model.load(bundle, "cpu", threads=1) as model:
        (crop,), _ = crops_of(photo, model.bundle.manifest)
        size = model.bundle.manifest.image_size
        job = {"name": "crop", "picture": "crop", "method": method, "edits": {"smile": 2}}
        made = computed(bundle, tmp_path, {"crop": crop.picture}, [job])
        assert made.refusals == {"crop": None}
        expected, seconds = timed(model, Crop(crop.picture), method)
        smiling = model.edit(expected, {"smile": 2.0}).image
    found = made.inversion("crop")
    picture, edited = made.arrays["crop/found"], made.arrays["crop/edited"]
    latents = np.abs(found.latents - expected.latents).max()
    print(f"{name} {method}: latents {latents:.1e}, {psnr(picture, expected.image):.0f} dB")
    print(f"  {ratio(made, 'crop', seconds)}")
    target = resize_bilinear(crop.picture, size)
    fits = [psnr(each, target) for each in (picture, expected.image)]
    print(f"  closeness to the photo {fits[0]:.2f} dB, Python's {fits[1]:.2f} dB")
    assert abs(fits[0] - fits[1]) < 0.5
    if method != "restyle":
        check_same(found, expected)
        assert psnr(picture, expected.image) > 50
        assert psnr(edited, smiling) > 50
