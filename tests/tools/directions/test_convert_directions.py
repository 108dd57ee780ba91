"""Directions of other projects, in the shapes and containers they are published in."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from directions import convert as tool
from hyperstyle_export.readers.pickled_arrays import unpickle_arrays
from hyperstyle_export.readers.torch_files import CheckpointError
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.directions_file import (
    ComponentDirection,
    LinearDirection,
    StyleDirection,
    bundle_directions,
    parse_directions,
)
from hyperstyle_rt.formats.optional_inputs import OptionalInputs, StyleLayer
from typer.testing import CliRunner, Result

LONG = f"conv1:{'9' * 5000}=1"  # more digits than Python makes a number of


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    return tmp_path / "tiny"


def convert(kind: str, bundle: Path, *arguments: object) -> Result:
    words = [kind, "--bundle", bundle, "--name", "it", *arguments]
    return CliRunner().invoke(tool.app, [str(word) for word in words])


def converted(kind: str, bundle: Path, *arguments: object) -> object:
    """The direction that a conversion adds to the bundle."""
    result = convert(kind, bundle, *arguments)
    assert result.exit_code == 0, result.output
    opened = Bundle.open(bundle)
    opened.verify()
    return bundle_directions(opened)["it"]


@pytest.mark.parametrize("shape", [(16,), (1, 16), (8, 16), (1, 8, 16)])
@pytest.mark.parametrize("suffix", [".npy", ".pt", ".pkl"])
def test_interfacegan(shape: tuple[int, ...], suffix: str, bundle: Path, tmp_path: Path) -> None:
    path, vector = tmp_path / f"smile{suffix}", normal(0, *shape)
    if suffix == ".npy":
        np.save(path, vector.astype(np.float64))
    elif suffix == ".pt":
        torch.save(torch.from_numpy(vector), path)
    else:
        path.write_bytes(pickle.dumps(vector))
    direction = converted("interfacegan", bundle, path, "--rows", "2:6", "--scale", 0.5)
    assert isinstance(direction, LinearDirection)
    assert np.array_equal(direction.vector, vector.reshape(shape[-2:] if 8 in shape else (16,)))
    assert (direction.rows, direction.scale) == ((2, 6), 0.5)


@pytest.mark.parametrize("container", ["pt", "pkl", "npz"])
def test_ganspace(container: str, bundle: Path, tmp_path: Path) -> None:
    file = {"mean": normal(0, 1, 16), "std": np.abs(normal(1, 6)), "comp": normal(2, 6, 1, 16)}
    path = tmp_path / f"pca.{container}"
    if container == "pt":
        torch.save({name: torch.from_numpy(array) for name, array in file.items()}, path)
    elif container == "pkl":
        path.write_bytes(pickle.dumps(file, protocol=2))
    else:
        names = {"mean": "lat_mean", "std": "lat_stdev", "comp": "lat_comp"}
        np.savez(path, **{names[name]: array for name, array in file.items()})
    arguments = ("--component", 4, "--rows", "3:6", "--target", 25)
    direction = converted("ganspace", bundle, path, *arguments)
    assert isinstance(direction, ComponentDirection)
    assert np.array_equal(direction.component, file["comp"][4, 0])
    assert np.array_equal(direction.mean, file["mean"][0])
    assert direction.deviation == pytest.approx(float(file["std"][4]))
    assert (direction.target, direction.rows) == (25.0, (3, 6))
    too_far = convert("ganspace", bundle, path, "--component", 6, "--target", 1)
    assert too_far.exit_code == 2
    assert "component 6 of it cannot be used" in too_far.stderr


def test_styleclip_deals_channels_out_to_the_official_layers() -> None:
    """Against the published description, on the layout of the 1024 generator."""
    names = ["conv1", "to_rgb1"]
    widths = [512, 512]
    for block, width in enumerate((512, 512, 512, 512, 256, 128, 64, 32)):
        before = (512, 512, 512, 512, 512, 256, 128, 64)[block]
        names += [f"convs.{2 * block}", f"convs.{2 * block + 1}", f"to_rgbs.{block}"]
        widths += [before, width, width]
    layout = OptionalInputs(tuple(map(StyleLayer, names, widths)), ())
    relevance, text = normal(0, 6048, 512) * 0.02, normal(1, 512)
    deviations = [np.abs(normal(n, width)) for n, width in enumerate(widths)]
    channels = tool.global_direction(relevance, text, beta=0.05)
    offsets = tool.dealt_out(channels, deviations, layout)

    expected = relevance.astype(np.float64) @ (text / np.linalg.norm(text.astype(np.float64)))
    expected[np.abs(expected) < 0.05] = 0
    expected /= np.abs(expected).max()
    starts = np.concatenate([[0], np.cumsum(widths)])
    edited = (0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15)
    position = 0
    for index, width in enumerate(widths):
        part = offsets[starts[index] : starts[index + 1]]
        if index not in edited:
            assert not part.any(), index
            continue
        wanted = expected[position : position + width] * deviations[index]
        assert np.abs(part - wanted).max() < 1e-5, index
        position += width
    assert position == 5376
    assert 0.001 < (channels != 0).mean() < 0.9
    with pytest.raises(EditError, match="give a smaller --beta"):
        tool.global_direction(relevance, text, beta=10)


@pytest.mark.parametrize("with_means", [True, False])
def test_styleclip_reads_its_published_files(
    with_means: bool, bundle: Path, tmp_path: Path
) -> None:
    layers = Bundle.open(bundle).manifest.optional_inputs.styles
    deviations = [np.abs(normal(n, layer.width)) for n, layer in enumerate(layers)]
    lists = ([0 * d for d in deviations], deviations) if with_means else deviations
    (tmp_path / "S_mean_std").write_bytes(pickle.dumps(lists))
    plain = sum(layer.width for layer in layers if not layer.name.startswith("to_rgb"))
    np.save(tmp_path / "fs3.npy", normal(0, plain, 512))
    np.save(tmp_path / "text.npy", normal(1, 512))
    arguments = ("--text-direction", tmp_path / "text.npy", "--statistics", tmp_path / "S_mean_std")
    direction = converted("styleclip", bundle, tmp_path / "fs3.npy", *arguments)
    assert isinstance(direction, StyleDirection)
    largest = np.abs(direction.offsets).max()
    assert 0 < largest <= max(d.max() for d in deviations)
    assert not direction.offsets[16:32].any()  # to_rgb1
    np.save(tmp_path / "fs3.npy", normal(0, plain - 1, 512))
    result = convert("styleclip", bundle, tmp_path / "fs3.npy", *arguments)
    assert "do not fit layer" in result.stderr


def test_styles_of_a_vector_or_of_channels(bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", normal(0, 148))
    direction = converted("styles", bundle, tmp_path / "all.npy")
    assert np.array_equal(direction.offsets, normal(0, 148))
    arguments = ("--channel", "to_rgb1:3=2.5", "--channel", "conv1:0=-1")
    direction = converted("styles", bundle, *arguments)
    assert {n: float(direction.offsets[n]) for n in direction.offsets.nonzero()[0]} == {
        0: -1.0,
        19: 2.5,
    }
    for channel in ("conv1:16=1", "conv9:0=1", "conv1=1", "conv1:0=1.2.3", "conv1:0=.", LONG):
        result = convert("styles", bundle, "--channel", channel)
        assert result.exit_code == 2
        assert "is no channel" in result.stderr
    np.save(tmp_path / "all.npy", normal(0, 147))
    assert "tensor offsets of shape [148]" in convert("styles", bundle, tmp_path / "all.npy").stderr


def test_a_file_of_its_own_leaves_the_bundle_alone(bundle: Path, tmp_path: Path) -> None:
    before = Bundle.open(bundle).manifest
    np.save(tmp_path / "smile.npy", normal(0, 16))
    out = tmp_path / "out.safetensors"
    assert convert("interfacegan", bundle, tmp_path / "smile.npy", "-o", out).exit_code == 0
    assert set(parse_directions(out.read_bytes(), before)) == {"it"}
    assert Bundle.open(bundle).manifest == before
    words = ["--name", "other", "-o", out]
    assert run("interfacegan", bundle, tmp_path / "smile.npy", *words).exit_code == 0
    assert set(parse_directions(out.read_bytes(), before)) == {"it", "other"}
    out.write_bytes(b"notes of mine")
    refused = run("interfacegan", bundle, tmp_path / "smile.npy", *words)
    assert refused.exit_code == 2 and "give another --out" in refused.stderr
    assert out.read_bytes() == b"notes of mine"


def test_directions_are_added_to_those_there_are(bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "smile.npy", normal(0, 16))
    converted("interfacegan", bundle, tmp_path / "smile.npy")
    space = Bundle.open(bundle).manifest.space
    words = ["interfacegan", tmp_path / "smile.npy", "--name", "other", "--bundle", bundle]
    assert CliRunner().invoke(tool.app, list(map(str, words))).exit_code == 0
    assert set(bundle_directions(Bundle.open(bundle))) == {"it", "other"}
    assert Bundle.open(bundle).manifest.space == space


# Several in one file


def run(kind: str, bundle: Path, *arguments: object) -> Result:
    words = [kind, "--bundle", bundle, *arguments]
    return CliRunner().invoke(tool.app, [str(word) for word in words])


VECTORS = {"00_5_o_Clock_Shadow": (1, 16), "31_Smiling": (16,), "pose in W+": (1, 8, 16)}


@pytest.fixture(params=["pt", "pkl", "npz", "nested.pt"])
def several(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Directions by key: as AnyCost GAN has them, pickled, of numpy, and a dictionary deeper."""
    path = tmp_path / f"boundaries.{request.param}"
    arrays = {key: 3 * normal(n, *shape) for n, (key, shape) in enumerate(VECTORS.items())}
    if request.param == "pt":
        torch.save({key: torch.from_numpy(array) for key, array in arrays.items()}, path)
    elif request.param == "pkl":
        path.write_bytes(pickle.dumps(arrays))
    elif request.param == "npz":
        np.savez(path, **arrays)
    else:
        torch.save({"w": {k: torch.from_numpy(a) for k, a in arrays.items()}, "epoch": 3}, path)
    return path


def test_all_directions_of_a_file_are_converted_by_their_keys(bundle: Path, several: Path) -> None:
    result = run("interfacegan", bundle, several)
    assert result.exit_code == 0, result.output
    found = bundle_directions(Bundle.open(bundle))
    begin = "w_" if "nested" in several.name else ""
    assert set(found) == {
        begin + name for name in ("00_5_o_Clock_Shadow", "31_Smiling", "pose_in_W")
    }
    for n, (key, shape) in enumerate(VECTORS.items()):
        name = begin + key.replace(" ", "_").strip("+")
        assert np.array_equal(found[name].vector.ravel(), 3 * normal(n, *shape).ravel())


def test_one_direction_of_a_file_is_converted_under_a_name(bundle: Path, several: Path) -> None:
    key = "w.31_Smiling" if "nested" in several.name else "31_Smiling"
    result = run("interfacegan", bundle, several, "--key", key, "--name", "smile")
    assert result.exit_code == 0, result.output
    found = bundle_directions(Bundle.open(bundle))
    assert set(found) == {"smile"}
    assert np.array_equal(found["smile"].vector, 3 * normal(1, 16))


def test_a_file_of_one_entry_needs_no_key(bundle: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "smile.npz", normal(0, 1, 16))
    assert run("interfacegan", bundle, tmp_path / "smile.npz", "--name", "it").exit_code == 0
    assert set(bundle_directions(Bundle.open(bundle))) == {"it"}


def test_styles_are_converted_by_key(bundle: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", lips=normal(0, 148), eyes=normal(1, 1, 148), other=normal(2, 3))
    assert run("styles", bundle, tmp_path / "all.npz").exit_code == 0
    found = bundle_directions(Bundle.open(bundle))
    assert set(found) == {"lips", "eyes"}
    assert np.array_equal(found["eyes"].offsets, normal(1, 148))


def test_keys_and_names_that_do_not_fit_the_file(bundle: Path, tmp_path: Path) -> None:
    two, one, odd, same = (tmp_path / f"{name}.npz" for name in ("two", "one", "odd", "same"))
    np.savez(two, a=normal(0, 16), b=normal(1, 16))
    np.save(tmp_path / "one.npy", normal(0, 16))
    np.savez(odd, a=normal(0, 17), b=normal(1, 18))
    np.savez(same, **{"a b": normal(0, 16), "a+b": normal(1, 16)})
    one = tmp_path / "one.npy"
    for arguments, says in {
        (two, "--key", "c"): "has no entry 'c'; it has a, b",
        (two, "--name", "x"): "holds 2 directions, a, b; choose one with --key",
        (one, "--key", "a", "--name", "x"): "one array and no keys; leave --key away",
        (one,): "holds one array; give its --name",
        (odd,): "holds a vector of shape [18]",
        (odd, "--key", "a"): "shape [17], and bundle 'tiny' takes [16] or [8,16] (entry 'a')",
        (same,): "make the same name",
    }.items():
        result = run("interfacegan", bundle, *arguments)
        assert result.exit_code == 2, arguments
        assert says in " ".join(result.stderr.split()), (arguments, result.stderr)
        assert "Traceback" not in result.stderr
    assert bundle_directions(Bundle.open(bundle)) == {}


# Made for another generator


@pytest.mark.parametrize(
    ("name", "length", "says"),
    [
        ("stylegan_ffhq_smile_w_boundary.npy", 7.0, "named as directions for StyleGAN 1 or PGGAN"),
        ("pggan_celebahq_age_boundary.npy", 7.0, "named as directions for StyleGAN 1 or PGGAN"),
        ("smile.npy", 1.0, "vectors of length 1, as InterFaceGAN's boundaries for StyleGAN 1"),
        ("stylegan2_ffhq_smile.npy", 7.0, None),
        ("smile.npy", 7.0, None),
    ],
)
def test_boundaries_of_other_generators_get_a_warning(
    name: str, length: float, says: str | None, bundle: Path, tmp_path: Path
) -> None:
    vector = normal(0, 1, 16)
    np.save(tmp_path / name, length * vector / np.linalg.norm(vector))
    result = run("interfacegan", bundle, tmp_path / name, "--name", "smile")
    assert result.exit_code == 0  # it may be right all the same
    stderr = " ".join(result.stderr.split())
    assert (says in stderr) if says else (stderr == "")


def test_what_a_file_says_of_its_generator_counts(bundle: Path, tmp_path: Path) -> None:
    file = {"model": "stylegan1-ffhq", "boundary": torch.from_numpy(5 * normal(0, 1, 16))}
    torch.save(file, tmp_path / "x.pt")
    result = run("interfacegan", bundle, tmp_path / "x.pt", "--name", "smile")
    assert result.exit_code == 0
    assert "StyleGAN 1" in result.stderr


# What must not be run or believed


class Attack:
    """Leaves a marker when it is unpickled by pickle itself."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.marker),)


def test_pickled_code_is_not_run(bundle: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for name, contents in {
        "alone": Attack(marker),
        "inside": {"mean": normal(0, 16), "std": Attack(marker)},
    }.items():
        path = tmp_path / f"{name}.pkl"
        path.write_bytes(pickle.dumps(contents))
        result = convert("interfacegan", bundle, path)
        assert result.exit_code == 2
        assert "more than arrays and plain values, and nothing in it was run" in result.stderr
        assert not marker.exists()
    np.save(tmp_path / "objects.npy", np.array([Attack(marker)], object), allow_pickle=True)
    result = convert("interfacegan", bundle, tmp_path / "objects.npy")
    assert "more than arrays and plain values, and nothing in it was run" in result.stderr
    torch.save({"comp": Attack(marker)}, tmp_path / "attack.pt")
    assert "nothing in it was run" in convert("interfacegan", bundle, tmp_path / "attack.pt").stderr
    assert not marker.exists()


class Forged:
    """An array whose pickle claims another shape or type than its bytes have."""

    def __init__(self, shape: tuple[int, ...], kind: object, data: bytes) -> None:
        self.state = (1, shape, kind, False, data)

    def __reduce__(self) -> tuple[object, ...]:
        reconstruct = np.zeros(1).__reduce__()[0]
        return reconstruct, (np.ndarray, (0,), b"b"), self.state


@pytest.mark.parametrize(
    "forged",
    [
        Forged((1 << 40,), np.dtype("f4"), b"\0" * 16),
        Forged((4,), np.dtype("O"), b"\0" * 32),
        Forged((4,), np.dtype("f4"), b"\0" * 15),
        Forged((-1, 3), np.dtype("f4"), b"\0" * 16),
        Forged((2,), np.dtype([("x", "f8")]), b"\0" * 16),
    ],
    ids=["too large", "objects", "too short", "negative", "structured"],
)
def test_forged_arrays_are_refused(forged: Forged) -> None:
    with pytest.raises(CheckpointError, match=r"x\.pkl is damaged or no pickle of arrays"):
        unpickle_arrays(pickle.dumps(forged), Path("x.pkl"))


def test_pickles_of_arrays_are_read_whole() -> None:
    contents = {
        "fortran": np.asfortranarray(normal(0, 3, 4)),
        "swapped": normal(1, 5).astype(">f8"),
        "list": [np.arange(6).reshape(2, 3), (np.float32(2.5), 3, "text", None)],
    }
    for protocol in (2, 3, 4, 5):
        read = unpickle_arrays(pickle.dumps(contents, protocol), Path("x"))
        assert np.array_equal(read["fortran"], contents["fortran"])
        assert np.array_equal(read["swapped"], contents["swapped"])
        assert np.array_equal(read["list"][0], contents["list"][0])
        assert read["list"][1] == [2.5, 3, "text", None]


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.full(16, np.nan), "holds NaN or infinity"),
        (np.array(["a"] * 16), "something other than an array of numbers"),
        (np.zeros((0, 16)), "something other than an array of numbers"),
        (np.zeros(17), r"vector of shape [17], and bundle 'tiny' takes [16] or [8,16]"),
        (np.zeros((2, 16)), "vector of shape [2, 16]"),
    ],
    ids=["nan", "text", "empty", "width", "rows"],
)
def test_other_arrays_are_refused(
    array: np.ndarray, says: str, bundle: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", array)
    result = convert("interfacegan", bundle, tmp_path / "x.npy")
    assert result.exit_code == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_other_files_and_options_are_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(b"junk")
    (tmp_path / "x.npz").write_bytes(b"junk")
    np.save(tmp_path / "x.npy", np.zeros(16))
    for arguments, says in {
        (tmp_path / "missing.npy",): "missing.npy",
        (tmp_path / "x.pkl",): "damaged or no pickle",
        (tmp_path / "x.npz",): "no file of plain arrays",
        (tmp_path / "x.npy", "--rows", "3"): "--rows 3 must be START:STOP",
        (tmp_path / "x.npy", "--rows", "3:9"): "rows within the 8 of the latents",
        (tmp_path / "x.npy", "--scale", "nan"): "the direction it needs finite numbers",
    }.items():
        result = convert("interfacegan", bundle, *arguments)
        assert result.exit_code == 2, arguments
        assert says in result.stderr, arguments
    assert bundle_directions(Bundle.open(bundle)) == {}
