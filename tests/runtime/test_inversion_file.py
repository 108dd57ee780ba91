"""Inversion files give back every bit, and damaged or foreign ones are refused in one sentence."""

import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from attacks import inversions, manifests, refusal
from hyperstyle_rt.errors import InversionError
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.inversion_file import (
    InversionData,
    check_belongs,
    read_inversion,
    shared_style,
    write_inversion,
)
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
    scalars = ("iterations", "bundle_name", "bundle_digest")
    return all(getattr(one, name) == getattr(other, name) for name in scalars) and all(
        same_bits(getattr(one, name), getattr(other, name))
        for name in ("latents", "codes", "transform")
    )


def inversion(bundle: Bundle, latents: np.ndarray, seed: int = 0) -> InversionData:
    """Random codes for these latents."""
    manifest = bundle.manifest
    codes = np.random.default_rng(seed).standard_normal(
        (len(manifest.tuned_layers), manifest.code_width + 1), np.float32
    )
    codes[:, -1] = 5
    return InversionData(latents, codes, 5, manifest.name, bundle.digest)


@pytest.fixture
def bundle(tmp_path):
    return Bundle.open(manifests.write_bundle(tmp_path / "tiny"))


@pytest.fixture
def data(bundle):
    """As the loop makes it: one style vector in all rows, plus the bundle's average."""
    style = np.random.default_rng(1).standard_normal(16, np.float32)
    return inversion(bundle, style + bundle.latent_average())


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
            "version": "1",
            "bundle": "tiny",
            "bundle_digest": data.bundle_digest,
            "iterations": "5",
        }
        assert set(file.keys()) == {"latents", "codes", "transform"}
        np.testing.assert_array_equal(file.get_tensor("codes"), data.codes)
        np.testing.assert_array_equal(file.get_tensor("latents"), data.latents)
        np.testing.assert_array_equal(file.get_tensor("transform"), transform)


def test_free_offsets_are_stored_as_halves_in_a_file_of_version_2(data, bundle, tmp_path):
    path = tmp_path / "x.safetensors"
    pairs = sum(layer.shape[0] * layer.shape[1] for layer in bundle.manifest.tuned_layers)
    channels = np.linspace(-1, 1, pairs).astype(np.float16)
    refined = replace(data, channels=channels)
    check_belongs(refined, bundle)
    write_inversion(path, refined)
    with safe_open(path, "numpy") as file:
        assert file.metadata()["version"] == "2"
        assert set(file.keys()) == {"latents", "codes", "channels"}
    assert same_bits(read_inversion(path).channels, channels)
    write_inversion(path, data)
    assert read_inversion(path).channels is None


def test_damaged_free_offsets_are_refused(data, bundle, tmp_path):
    path = tmp_path / "x.safetensors"
    refused = {
        "float16": np.zeros(4, np.float32),
        r"float16 \[\?\]": np.zeros((2, 2), np.float16),
        "NaN or infinity": np.full(4, np.inf, np.float16),
    }
    for complaint, channels in refused.items():
        with pytest.raises(InversionError, match=complaint):
            replace(data, channels=channels)
    with pytest.raises(InversionError, match=r"channels of shape \[4\]"):
        check_belongs(replace(data, channels=np.zeros(4, np.float16)), bundle)
    write_inversion(path, replace(data, channels=np.zeros(4, np.float16)))
    path.write_bytes(path.read_bytes().replace(b'"channels"', b'"chainels"'))
    with pytest.raises(InversionError, match="lacks the tensor channels"):
        read_inversion(path)


def test_file_written_by_another_program_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(inversions.metadata(made_by="another program"))
    read = read_inversion(str(path))
    assert (read.iterations, read.bundle_name, read.bundle_digest) == (5, "tiny", inversions.DIGEST)
    for name, tensor in inversions.TENSORS.items():
        np.testing.assert_array_equal(getattr(read, name), tensor)


def test_latents_of_the_encoder_are_stored_as_one_row_and_read_exactly(data, bundle, tmp_path):
    path = tmp_path / "x.safetensors"
    write_inversion(path, data, bundle.latent_average())
    assert tensors_of(path) == {"w", "codes"}
    asked = []

    def latent_average_of(name, digest):
        asked.append((name, digest))
        return bundle.latent_average()

    assert same(read_inversion(path, latent_average_of), data)
    assert asked == [("tiny", bundle.digest)]


def test_edited_latents_are_stored_whole_and_read_exactly(data, bundle, tmp_path):
    path = tmp_path / "x.safetensors"
    edited = data.latents.copy()
    edited[3] += np.float32(0.25)
    write_inversion(path, replace(data, latents=edited), bundle.latent_average())
    assert tensors_of(path) == {"latents", "codes"}
    assert same(read_inversion(path), replace(data, latents=edited))


def test_the_picture_is_named_where_it_is_known(data, bundle, tmp_path):
    path = tmp_path / "x.safetensors"
    for picture in (None, "ab" * 32):
        write_inversion(path, replace(data, picture=picture))
        assert read_inversion(path).picture == picture
    with pytest.raises(InversionError, match="no SHA-256"):
        replace(data, picture="x.png")


def test_same_inversion_gives_the_same_bytes(data, bundle, tmp_path):
    files = [tmp_path / str(number) for number in range(8)]
    for path in files:
        write_inversion(path, data, bundle.latent_average())
    assert len({path.read_bytes() for path in files}) == 1


def test_inversion_of_a_bundle_that_is_not_at_hand_is_refused(data, bundle, tmp_path):
    path = tmp_path / "x.safetensors"
    write_inversion(path, data, bundle.latent_average())
    says = f"made with bundle 'tiny' ({bundle.digest[:12]}), which is not at hand"
    assert says in refusal(InversionError, read_inversion, path)
    assert says in refusal(InversionError, read_inversion, path, lambda name, digest: None)


def test_arrays_are_stored_as_they_look_not_as_they_lie_in_memory(data, tmp_path):
    latents = np.asfortranarray(data.latents)
    codes = np.repeat(data.codes, 2, axis=0)[::2]
    write_inversion(tmp_path / "x", replace(data, latents=latents, codes=codes))
    read = read_inversion(tmp_path / "x")
    np.testing.assert_array_equal(read.latents, data.latents)
    np.testing.assert_array_equal(read.codes, data.codes)


def test_official_size_fits_in_48_kilobytes(tmp_path):
    """18 different rows of averages, 17 tuned layers, as at 1024 x 1024."""
    random = np.random.default_rng(2)
    average = np.float32(0.1) * random.standard_normal((18, 512), np.float32)
    codes = random.standard_normal((17, 513), np.float32)
    codes[:, -1] = 5
    latents = random.standard_normal(512, np.float32) + average
    made = InversionData(latents, codes, 5, "faces", "0" * 64, np.eye(3, dtype=np.float32))
    path = tmp_path / "x.safetensors"
    write_inversion(path, made, average)
    assert path.stat().st_size <= MAX_SIZE_AT_1024
    assert tensors_of(path) == {"w", "codes", "transform"}
    assert same(read_inversion(path, lambda name, digest: average), made)


floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


def matrices(rows, columns):
    return arrays.arrays(np.float32, st.tuples(rows, columns), elements=floats)


@fuzzed
@given(st.data(), st.integers(0, 999_999), st.booleans())
def test_any_inversion_is_read_back_to_the_bit(scratch, draws, iterations, aligned):
    codes = draws.draw(matrices(st.integers(1, 4), st.integers(1, 5)))
    codes[:, -1] = iterations
    latents = draws.draw(matrices(st.integers(1, 4), st.integers(1, 5)))
    transform = draws.draw(matrices(st.just(3), st.just(3))) if aligned else None
    written = InversionData(latents, codes, iterations, "b", inversions.DIGEST, transform)
    write_inversion(scratch, written)
    assert same(read_inversion(scratch), written)


@fuzzed
@given(matrices(st.integers(1, 4), st.integers(1, 5)), st.data())
def test_shared_style_is_found_whenever_there_is_one(average, draws):
    style = draws.draw(arrays.arrays(np.float32, average.shape[1], elements=floats))
    with np.errstate(over="ignore"):
        latents = style + average
    # A sum that overflows is no latent; a zero of two negative zeros is not searched for.
    if not np.isfinite(latents).all() or (np.signbit(latents) & (latents == 0)).any():
        return
    assert same_bits(shared_style(latents, average) + average, latents)


@fuzzed
@given(
    matrices(st.just(3), st.just(4)),
    matrices(st.sampled_from([3, 2, 1]), st.just(4)),
)
def test_shared_style_is_exact_or_none(latents, average):
    style = shared_style(latents, average)
    assert style is None or same_bits(style + average, latents)


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
    assert "cannot write" in refusal(InversionError, write_inversion, tmp_path / name, data)
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize("name", ["absent", "tiny/manifest.json/x", "nul\0", "long" * 70])
def test_what_is_not_there_is_one_sentence(name, bundle):
    assert "cannot read" in refusal(InversionError, read_inversion, bundle.directory.parent / name)


def test_directories_and_pipes_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refusal(InversionError, read_inversion, tmp_path / "pipe")
    assert "is not a regular file" in refusal(InversionError, read_inversion, tmp_path)


def test_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 20))
    os.truncate(path, 1 << 40)
    assert "is larger than 16777216 bytes" in refusal(InversionError, read_inversion, path)


# ------------------------------------------------------------------------------------- attacks


@pytest.mark.parametrize("trick", inversions.ATTACKS)
def test_attack_is_refused(trick, tmp_path):
    content, says = inversions.ATTACKS[trick]
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    sentence = refusal(
        InversionError, read_inversion, path, lambda name, digest: inversions.AVERAGE
    )
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


def test_inversion_that_could_not_be_read_back_cannot_be_made(data):
    with pytest.raises(InversionError, match="NaN or infinity"):
        replace(data, codes=data.codes * np.float32(np.nan))
    with pytest.raises(InversionError, match="cannot have -1 iterations"):
        replace(data, iterations=-1)
    with pytest.raises(InversionError, match="does not count 4 iterations"):
        replace(data, iterations=4)
    with pytest.raises(InversionError, match="does not name the bundle"):
        replace(data, bundle_name="../tiny")


# ------------------------------------------------------------------------- whose inversion it is


def test_inversion_belongs_to_its_own_bundle(data, bundle):
    check_belongs(data, bundle)


def test_inversion_of_another_bundle_is_refused_with_both_names(data, bundle):
    foreign = replace(data, bundle_name="faces", bundle_digest=inversions.DIGEST)
    sentence = refusal(InversionError, check_belongs, foreign, bundle)
    assert "'faces' (0123456789ab)" in sentence
    assert f"'tiny' ({bundle.digest[:12]})" in sentence


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"latents": np.zeros((10, 15), np.float32)}, "latents of shape [10, 15]"),
        ({"latents": np.zeros((9, 16), np.float32)}, "latents of shape [9, 16]"),
        ({"codes": np.full((2, 13), 5, np.float32)}, "codes of shape [2, 13]"),
        ({"codes": np.full((3, 12), 5, np.float32)}, "codes of shape [3, 12]"),
    ],
)
def test_other_shapes_under_the_right_digest_are_refused(change, says, data, bundle):
    assert says in refusal(InversionError, check_belongs, replace(data, **change), bundle)
