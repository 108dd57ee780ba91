"""Inversion files give back every bit, and damaged or foreign ones are refused in one sentence."""

import copy
import json
import os
import struct
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from attacks import inversions, manifests, refusal
from hyperstyle_rt.errors import InversionError
from hyperstyle_rt.formats.inversion_file import (
    HALVES,
    InversionData,
    parse_inversion,
    read_inversion,
    serialize_inversion,
    write_inversion,
)
from hyperstyle_rt.formats.inversion_fit import check_fits
from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.formats.tensors import parse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import safe_open

MAX_SIZE_AT_1024 = 48 * 1024
fuzzed = settings(derandomize=True, deadline=None, max_examples=200)


def same_bits(one, other) -> bool:
    """Whether two optional arrays are the same to the last bit: -0.0 is not 0.0."""
    if one is None or other is None:
        return one is other
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def same(one: InversionData, other: InversionData) -> bool:
    arrays = {"latents", "codes", "transform", *HALVES}
    names = {field.name for field in fields(InversionData)}
    return all(getattr(one, name) == getattr(other, name) for name in names - arrays) and all(
        same_bits(getattr(one, name), getattr(other, name)) for name in arrays
    )


PROVENANCE = {
    "space": manifests.SPACE,
    "code_space": manifests.CODE_SPACE,
    "bundle_name": "tiny",
    "bundle_digest": inversions.DIGEST,
    "method": "hyperstyle",
    "settings": {"iterations": 5},
    "computed": {"backend": "cpu", "precision": "fp32", "provider": "a test"},
}
MANIFEST = Manifest.from_json(manifests.GOOD)


@pytest.fixture
def data():
    """As HyperStyle's loop makes it: one latent of W in all rows, and codes."""
    random = np.random.default_rng(1)
    latents = np.tile(random.standard_normal(16, np.float32), (10, 1))
    codes = random.standard_normal((3, 13), np.float32)
    codes[:, -1] = 5
    return InversionData(latents=latents, codes=codes, iterations=5, **PROVENANCE)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A file name that fuzzing may write to again and again."""
    return tmp_path_factory.mktemp("fuzz") / "x.safetensors"


def tensors_of(path: Path) -> set[str]:
    with safe_open(path, "numpy") as file:
        return set(file.keys())


# ---------------------------------------------------------------------------------- round trip


def test_file_has_the_documented_tensors_and_metadata(data, tmp_path):
    path = tmp_path / "x.safetensors"
    transform = inversions.TENSORS["transform"]
    write_inversion(path, replace(data, transform=transform))
    with safe_open(path, "numpy") as file:
        assert file.metadata() == {
            "format": "hyperstyle-rt-inversion",
            "version": "3",
            "space": manifests.SPACE,
            "needs": '["codes"]',
            "code_space": manifests.CODE_SPACE,
            "num_latents": "10",
            "bundle": "tiny",
            "bundle_digest": inversions.DIGEST,
            "method": "hyperstyle",
            "settings": '{"iterations":5}',
            "iterations": "5",
            "computed": '{"backend":"cpu","precision":"fp32","provider":"a test"}',
        }
        assert set(file.keys()) == {"w", "codes", "transform"}
        np.testing.assert_array_equal(file.get_tensor("codes"), data.codes)
        np.testing.assert_array_equal(file.get_tensor("w"), data.latents[0])
        np.testing.assert_array_equal(file.get_tensor("transform"), transform)


def test_a_file_says_what_a_reader_must_know(data):
    offsets = np.linspace(-1, 1, MANIFEST.num_channel_offsets).astype(np.float16)
    bare = replace(data, codes=None, code_space=None)
    for stored, needs in (
        (bare, ()),
        (data, ("codes",)),
        (replace(bare, channel_offsets=offsets), ("channel_offsets",)),
        (replace(data, channel_offsets=offsets), ("codes", "channel_offsets")),
    ):
        assert stored.needs == needs
        content = serialize_inversion(stored)
        assert json.dumps(needs, separators=(",", ":")) == parse(content).metadata["needs"]
        assert same(parse_inversion(content), stored)
        check_fits(stored, MANIFEST)


@pytest.mark.parametrize("name", HALVES)
def test_damaged_halves_are_refused(data, name):
    shape = (2,) * HALVES[name]
    refused = {
        f"{name} must be float16": np.zeros(shape, np.float32),
        r"float16 \[\?[?, ]*\]": np.zeros((2, *shape), np.float16),
        "NaN or infinity": np.full(shape, np.inf, np.float16),
    }
    for complaint, array in refused.items():
        with pytest.raises(InversionError, match=complaint):
            replace(data, **{name: array})


def test_what_descent_has_changed_is_stored_and_needed(data, tmp_path):
    halves = {
        name: np.linspace(-2, 2, 2**axes, dtype=np.float16).reshape((2,) * axes)
        for name, axes in HALVES.items()
    }
    stored = replace(data, **halves)
    assert stored.needs == ("codes", "channel_offsets", "noise", "weights", "features")
    write_inversion(tmp_path / "x.safetensors", stored)
    assert same(read_inversion(tmp_path / "x.safetensors"), stored)
    for name in ("noise", "weights", "features"):
        one = replace(data, **{name: halves[name]})
        assert f"needs {name}, and bundle 'tiny' cannot render it" in refusal(
            InversionError, check_fits, one, MANIFEST
        )


def test_free_parts_of_other_shapes_are_refused(data):
    """By a bundle that knows them all."""
    document = copy.deepcopy(manifests.GOOD)
    document["optional_inputs"] = {"styles": [], "noise": [{"name": "conv1", "side": 4}]}
    document["parametric_inputs"] = {
        "parameters": [{"name": "a", "shape": [2, 3]}],
        "feature": {"layer": "b", "shape": [2, 4, 4]},
    }
    for role in ("styled_generator", "noise", "parametric_generator", "parameters"):
        document["graphs"][role] = document["graphs"]["generator"]
    manifest = Manifest.from_json(document)
    fitting = {
        "noise": np.zeros(16, np.float16),
        "weights": np.zeros(6, np.float16),
        "features": np.zeros((2, 4, 4), np.float16),
    }
    check_fits(replace(data, **fitting), manifest)
    for name, array in fitting.items():
        other = replace(data, **{name: np.concatenate([array, array])})
        assert f"has {name} of shape" in refusal(InversionError, check_fits, other, manifest)


def test_file_written_by_another_program_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(inversions.metadata(made_by="another program"))
    read = read_inversion(str(path))
    assert (read.iterations, read.bundle_name, read.bundle_digest) == (5, "tiny", inversions.DIGEST)
    for name, tensor in inversions.TENSORS.items():
        np.testing.assert_array_equal(getattr(read, name), tensor)


def test_equal_rows_are_stored_once_and_read_exactly(data, tmp_path):
    path = tmp_path / "x.safetensors"
    for rows in (1, 10):
        stored = replace(data, latents=data.latents[:rows])
        write_inversion(path, stored)
        assert tensors_of(path) == {"w", "codes"}
        assert same(read_inversion(path), stored)


@pytest.mark.parametrize("value", [0.25, -0.0])
def test_other_latents_are_stored_whole_and_read_exactly(value, data, tmp_path):
    path = tmp_path / "x.safetensors"
    latents = data.latents.copy()
    latents[:, 3] = 0.0
    latents[3, 3] = value  # -0.0 is another bit pattern than 0.0
    edited = replace(data, latents=latents)
    write_inversion(path, edited)
    assert tensors_of(path) == {"latents", "codes"}
    assert same(read_inversion(path), edited)


def test_the_picture_is_named_where_it_is_known(data, tmp_path):
    path = tmp_path / "x.safetensors"
    for picture in (None, "ab" * 32):
        write_inversion(path, replace(data, picture=picture))
        assert read_inversion(path).picture == picture
    with pytest.raises(InversionError, match="no SHA-256"):
        replace(data, picture="x.png")


def test_same_inversion_gives_the_same_bytes(data, tmp_path):
    files = [tmp_path / str(number) for number in range(8)]
    for path in files:
        write_inversion(path, data)
    assert len({path.read_bytes() for path in files}) == 1


def test_arrays_are_stored_as_they_look_not_as_they_lie_in_memory(data, tmp_path):
    latents = np.asfortranarray(data.latents)
    codes = np.repeat(data.codes, 2, axis=0)[::2]
    write_inversion(tmp_path / "x", replace(data, latents=latents, codes=codes))
    read = read_inversion(tmp_path / "x")
    np.testing.assert_array_equal(read.latents, data.latents)
    np.testing.assert_array_equal(read.codes, data.codes)


def test_official_size_fits_in_48_kilobytes(data, tmp_path):
    """18 equal rows, 17 tuned layers, as at 1024 x 1024."""
    random = np.random.default_rng(2)
    codes = random.standard_normal((17, 513), np.float32)
    latents = np.tile(random.standard_normal(512, np.float32), (18, 1))
    transform = np.eye(3, dtype=np.float32)
    path = tmp_path / "x.safetensors"
    write_inversion(path, replace(data, latents=latents, codes=codes, transform=transform))
    assert path.stat().st_size <= MAX_SIZE_AT_1024


floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


def matrices(rows, columns):
    return arrays.arrays(np.float32, st.tuples(rows, columns), elements=floats)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | floats | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@fuzzed
@given(st.data(), st.integers(0, 999_999), st.dictionaries(st.text(max_size=5), json_values))
def test_any_inversion_is_read_back_to_the_bit(scratch, draws, iterations, setting):
    def optional(values):
        return draws.draw(st.none() | values)

    codes = optional(matrices(st.integers(1, 4), st.integers(1, 5)))
    halves = st.floats(width=16, allow_nan=False, allow_infinity=False)
    offsets = arrays.arrays(np.float16, st.integers(1, 5), elements=halves)
    written = InversionData(
        latents=draws.draw(matrices(st.integers(1, 4), st.integers(1, 5))),
        codes=codes,
        iterations=iterations,
        **PROVENANCE | {"settings": setting, "code_space": None if codes is None else "0" * 64},
        transform=optional(matrices(st.just(3), st.just(3))),
        channel_offsets=optional(offsets),
    )
    write_inversion(scratch, written)
    assert same(read_inversion(scratch), written)


# --------------------------------------------------------------------------------------- files


def test_failed_write_leaves_the_old_file_and_nothing_else(data, tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    sentence = refusal(InversionError, write_inversion, path, data)
    assert sentence == f"cannot write {path}: No space left on device"
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir() if entry.is_file()] == [path.name]


@pytest.mark.parametrize("name", ["", "tiny", "absent/x.safetensors", "nul\0", "long" * 70])
def test_what_cannot_be_written_is_one_sentence(name, data, tmp_path):
    (tmp_path / "tiny").mkdir()
    assert "cannot write" in refusal(InversionError, write_inversion, tmp_path / name, data)
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize("name", ["absent", "file/x", "nul\0", "long" * 70])
def test_what_is_not_there_is_one_sentence(name, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot read" in refusal(InversionError, read_inversion, tmp_path / name)


def test_directories_and_pipes_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refusal(InversionError, read_inversion, tmp_path / "pipe")
    assert "is not a regular file" in refusal(InversionError, read_inversion, tmp_path)


def test_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 20))
    os.truncate(path, 1 << 40)
    assert "is larger than 134217728 bytes" in refusal(InversionError, read_inversion, path)


# ------------------------------------------------------------------------------------- attacks


@pytest.mark.parametrize("trick", inversions.ATTACKS)
def test_attack_is_refused(trick, tmp_path):
    content, says = inversions.ATTACKS[trick]
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    sentence = refusal(InversionError, read_inversion, path)
    assert says in sentence
    assert sentence.startswith(str(path))
    assert sentence.isprintable()


@fuzzed
@given(st.binary(max_size=64) | st.binary(max_size=64).map(inversions.raw))
def test_any_bytes_are_refused(scratch, content):
    scratch.write_bytes(content)
    refusal(InversionError, read_inversion, scratch)


@fuzzed
@given(st.data())
def test_damaged_file_is_refused_or_still_an_inversion(scratch, draws):
    content = bytearray(inversions.GOOD)
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(draws.draw(st.integers(1, 3))):
        start = draws.draw(st.integers(0, header) | st.integers(0, len(content)))
        content[start : start + draws.draw(st.integers(0, 3))] = draws.draw(
            st.binary(max_size=3) | st.sampled_from([b"0", b"9", b'"', b",", b"{", b"}", b"]"])
        )
    scratch.write_bytes(content)
    try:
        read = read_inversion(scratch)
    except InversionError as error:
        assert "\n" not in str(error)
        return
    write_inversion(scratch, read)
    assert same(read_inversion(scratch), read)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"codes": np.full((3, 13), np.nan, np.float32)}, "NaN or infinity"),
        ({"codes": None}, "both codes and their code_space"),
        ({"code_space": None}, "both codes and their code_space"),
        ({"iterations": -1}, "cannot have -1 iterations"),
        ({"iterations": 2.0}, "cannot have 2.0 iterations"),
        ({"latents": np.zeros((4097, 1), np.float32)}, "4097 rows of latents, more than 4096"),
        ({"bundle_name": "../tiny"}, "does not name the bundle"),
        ({"method": ""}, "does not name the method"),
        ({"space": "x"}, "has no SHA-256 as its space"),
        ({"settings": {"until": float("nan")}}, "has settings that JSON cannot hold"),
        ({"settings": {"model": object()}}, "has settings that JSON cannot hold"),
        ({"settings": []}, "has settings that are no object"),
        ({"settings": {"long": "x" * 70_000}}, "no object of at most 65536 characters"),
        ({"computed": {"backend": "cpu"}}, "say all of backend, provider, precision"),
    ],
)
def test_inversion_that_could_not_be_read_back_cannot_be_made(change, says, data):
    assert says in refusal(InversionError, lambda: replace(data, **change))


# ------------------------------------------------------------------------------- what renders it


def test_an_inversion_fits_every_bundle_of_its_space(data):
    """Whatever else is in the bundle: other graphs, methods, files, another name."""
    check_fits(data, MANIFEST)
    document = copy.deepcopy(manifests.GOOD)
    document |= {"name": "renamed", "methods": {}}
    for absent in ("encoder", "hypernet"):
        del document["graphs"][absent]
    del document["default_method"]
    check_fits(data, Manifest.from_json(document))


def test_an_adapted_bundle_renders_inversions_of_its_base(data):
    document = manifests.edited(("base",), {"name": "tiny", "space": manifests.SPACE})
    document |= {"name": "toon", "space": "0" * 64, "methods": {}}
    del document["default_method"]
    check_fits(data, Manifest.from_json(document))
    sentence = refusal(
        InversionError, check_fits, replace(data, space="0" * 64), Manifest.from_json(document)
    )
    assert "does not fit bundle 'toon', which renders inversions of bundle 'tiny'" in sentence


def test_inversion_of_another_generator_is_refused_with_both_names(data):
    foreign = replace(data, bundle_name="faces", space=inversions.DIGEST)
    sentence = refusal(InversionError, check_fits, foreign, MANIFEST)
    assert "made with bundle 'faces' (space 0123456789ab)" in sentence
    assert "does not fit bundle 'tiny' (space 5ace5ace5ace)" in sentence


def test_codes_need_what_expands_them(data):
    document = manifests.edited(("codes",), manifests.REMOVED)
    sentence = refusal(InversionError, check_fits, data, Manifest.from_json(document))
    assert "needs codes, which bundle 'tiny' does not know" in sentence
    check_fits(replace(data, codes=None, code_space=None), Manifest.from_json(document))
    other = manifests.edited(("codes", "space"), "0" * 64)
    sentence = refusal(InversionError, check_fits, data, Manifest.from_json(other))
    assert "code space c0dec0dec0de) are not those of bundle 'tiny' (000000000000)" in sentence


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"latents": np.zeros((10, 15), np.float32)}, "latents of shape [10, 15]"),
        ({"latents": np.zeros((9, 16), np.float32)}, "latents of shape [9, 16]"),
        ({"codes": np.full((2, 13), 5, np.float32)}, "codes of shape [2, 13]"),
        ({"codes": np.full((3, 12), 5, np.float32)}, "codes of shape [3, 12]"),
        ({"channel_offsets": np.zeros(4, np.float16)}, "channel_offsets of shape [4]"),
    ],
)
def test_other_shapes_in_the_right_space_are_refused(change, says, data):
    assert says in refusal(InversionError, check_fits, replace(data, **change), MANIFEST)
