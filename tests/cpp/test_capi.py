"""The C library computes, reads and writes what the Python runtime does, to the last bit."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hyperstyle_rt import Model
from hyperstyle_rt.adaptation import Adaptation
from hyperstyle_rt.errors import BundleError, InversionError
from hyperstyle_rt.formats.inversion_file import InversionData, read_inversion, write_inversion
from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.inversion import Inversion

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "runtime")]

import capi  # noqa: E402
from attacks import inversions, manifests  # noqa: E402
from capi import random_picture, refusal_of, same_bytes  # noqa: E402

# Manifests that C refuses in words of its own.
C_WORDS = {"binary", "utf_16", "not_a_number", "infinity"}


def average_of(model: Model):
    return lambda _name, _digest: model.bundle.latent_average()


# Smaller, larger, equal, odd, one pixel: every branch of the resize.
SIZES = [(64, 64), (32, 100), (301, 77), (256, 256), (513, 1), (1, 1)]


@pytest.mark.usefixtures("same_runtime")
@pytest.mark.parametrize("size", SIZES)
def test_inversion_is_bit_identical(python, c, size):
    if python.bundle.manifest.resolution > 64 and size not in SIZES[:3]:
        pytest.skip("the resize is the same for every bundle")
    picture = random_picture(*size)
    ours, theirs = c.invert(picture, iterations=2), python.invert(picture, iterations=2)
    np.testing.assert_array_equal(ours.latents, theirs.latents)
    np.testing.assert_array_equal(ours.codes, theirs.codes)
    np.testing.assert_array_equal(ours.image(capi.RGB_PLANES_F32), theirs.output)
    np.testing.assert_array_equal(ours.image(), theirs.image)
    np.testing.assert_array_equal(ours.image(capi.BGR8)[..., ::-1], theirs.image)


@pytest.mark.usefixtures("same_runtime")
def test_default_iterations_renders_and_edits_are_bit_identical(python, c):
    picture = random_picture(70, 90)
    ours, theirs = c.invert(picture), python.invert(picture)
    np.testing.assert_array_equal(ours.codes, theirs.codes)
    np.testing.assert_array_equal(c.render(ours)[0], python.render(theirs))
    generator = np.random.default_rng(1)
    batch = theirs.latents + generator.standard_normal((3, *theirs.latents.shape), np.float32)
    np.testing.assert_array_equal(c.render(ours, batch), python.render(theirs, batch))
    many = np.concatenate([batch, batch, batch, batch])  # more than are drawn at once
    np.testing.assert_array_equal(c.render(ours, many), python.render(theirs, many))
    for direction in (batch[0], batch[0, 0]):
        edited = theirs.latents + np.float32(0.5) * direction
        np.testing.assert_array_equal(c.edit(ours, direction, 0.5), python.render(theirs, edited))


def test_the_picture_a_file_names_is_kept(python, c, tmp_path):
    made = python.invert(random_picture(64, 64), iterations=1).data
    write_inversion(tmp_path / "python.safetensors", replace(made, picture="5" * 64))
    c.load(tmp_path / "python.safetensors").save(tmp_path / "c.safetensors")
    assert read_inversion(tmp_path / "c.safetensors", average_of(python)).picture == "5" * 64


def test_files_are_exchanged_byte_for_byte(python, c, tmp_path):
    picture = random_picture(64, 64)
    ours, theirs = c.invert(picture, iterations=1), python.invert(picture, iterations=1)
    ours.save(tmp_path / "c.safetensors")
    theirs.save(tmp_path / "python.safetensors")
    if capi.runtimes_agree(c.library):
        assert same_bytes(tmp_path)
    read_by_python = Inversion.load(tmp_path / "c.safetensors")
    read_by_c = c.load(tmp_path / "python.safetensors")
    np.testing.assert_array_equal(read_by_python.codes, ours.codes)
    np.testing.assert_array_equal(read_by_c.codes, theirs.codes)
    np.testing.assert_array_equal(read_by_c.latents, theirs.latents)
    np.testing.assert_array_equal(c.render(read_by_c)[0], python.render(theirs))


@pytest.mark.parametrize("rows_share_a_style", [True, False])
def test_file_comes_back_from_c_unchanged(python, c, tmp_path, rows_share_a_style):
    made = python.invert(random_picture(64, 64), iterations=1).data
    noise = np.random.default_rng(2).standard_normal(made.latents.shape, np.float32)
    average = python.bundle.latent_average()
    latents = noise[:1] + average if rows_share_a_style else noise
    transform = np.array([[0.5, 0, 10], [0, 0.5, 20], [0, 0, 1]], np.float32)
    write_inversion(
        tmp_path / "python.safetensors",
        replace(made, latents=latents, transform=transform),
        average,
    )
    loaded = c.load(tmp_path / "python.safetensors")
    np.testing.assert_array_equal(loaded.latents, latents)
    np.testing.assert_array_equal(loaded.transform, transform)
    loaded.save(tmp_path / "c.safetensors")
    assert same_bytes(tmp_path)


@pytest.mark.usefixtures("same_runtime")
def test_transparent_pictures_are_laid_over_white(c, python):
    rgba = np.random.default_rng(3).integers(0, 256, (40, 50, 4), np.uint8)
    colour, alpha = rgba[..., :3].astype(int), rgba[..., 3:].astype(int)
    flat = ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    ours, theirs = c.invert(rgba, capi.RGBA8, iterations=1), python.invert(flat, iterations=1)
    np.testing.assert_array_equal(ours.codes, theirs.codes)
    assert (ours.image(capi.RGBA8)[..., 3] == 255).all()


@pytest.mark.usefixtures("same_runtime")
def test_progress_reports_what_python_reports(c, python):
    shape = (3, c.info.image_height, c.info.image_width)
    codes_shape = (c.info.code_rows, c.info.code_width)
    seen, expected = [], []

    def note(_user, progress):
        image = np.ctypeslib.as_array(progress[0].image, shape).copy()
        codes = np.ctypeslib.as_array(progress[0].codes, codes_shape).copy()
        seen.append((progress[0].iteration, image, codes))
        return 0

    picture = random_picture(64, 64)
    c.invert(picture, iterations=2, progress=capi.OnProgress(note))
    python.invert(picture, 2, on_iteration=lambda *report: expected.append(report))
    assert len(seen) == len(expected) == 2
    for one, other in zip(seen, expected, strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[1], other[1])
        np.testing.assert_array_equal(one[2], other[2])


def test_until_stops_where_python_stops(c, python):
    picture = random_picture(64, 64)
    moved = []
    before = None

    def note(_iteration, reconstruction, _codes):
        nonlocal before
        if before is not None:
            moved.append(float(np.abs(reconstruction - before).mean()))
        before = reconstruction

    theirs = python.invert(picture, 6, until=10.0, on_iteration=note)
    assert theirs.iterations == 2  # the first comparison there is
    assert c.invert(picture, iterations=6, until=10.0).codes[0, -1] == 2
    assert c.invert(picture, iterations=3, until=1e-30).codes[0, -1] == 3


def test_info_is_the_manifests(c, python):
    manifest = python.bundle.manifest
    assert c.info.name.decode() == manifest.name
    assert c.info.digest.decode() == python.bundle.digest
    assert (c.info.image_height, c.info.image_width) == manifest.image_size
    assert (c.info.input_height, c.info.input_width) == manifest.input_size
    assert c.info.provider.decode().endswith("CPUExecutionProvider")


def _bundle_of(tmp_path: Path, manifest: bytes) -> Path:
    directory = manifests.write_bundle(tmp_path / "tiny")
    (directory / "manifest.json").write_bytes(manifest)
    return directory


ATTACKED_MANIFESTS = {
    **{
        k: (json.dumps(manifests.edited(*v[:2])).encode(), v[2])
        for k, v in (manifests.ILL_FORMED | manifests.CONTRADICTORY).items()
    },
    **manifests.NOT_STRICT_JSON,
}


@pytest.mark.parametrize("trick", ATTACKED_MANIFESTS)
def test_attacked_manifest_is_refused_as_python_refuses_it(library, tmp_path, trick):
    manifest, says = ATTACKED_MANIFESTS[trick]
    with pytest.raises(BundleError):
        Manifest.parse(manifest)
    error = refusal_of(capi.CModel, library, _bundle_of(tmp_path, manifest))
    assert error.kind == "BUNDLE"
    if trick not in C_WORDS:
        assert says in str(error)


A_FILE = manifests.A_FILE
ALL_ROLES = manifests.GOOD["graphs"]

# Fields a manifest can do without: (name, value, what both runtimes refuse it with; None: nothing).
OPTIONAL_FIELDS = {
    "of_tomorrow": ("of_tomorrow", {"a": [None, {}]}, None),
    "twins": ("precisions", {"fp16": ALL_ROLES}, None),
    "a_twin_alone": (
        "precisions",
        {"fp16": {"encoder": "encoder.onnx"}},
        "lacks the field precisions.fp16.hypernet",
    ),
    "twin_not_listed": (
        "precisions",
        {"fp16": {**ALL_ROLES, "weights": "x.onnx"}},
        "field precisions.fp16.weights names 'x.onnx', which is not among the files",
    ),
    "plans": ("plans", {"10.13-sm89-fp16": {"encoder.plan": A_FILE}}, None),
    "plans_of_a_path": ("plans", {"../up": {}}, "field plans has the key '../up'"),
    "plan_is_a_path": ("plans", {"10.13-sm89-fp16": {"a/b": A_FILE}}, "has the key 'a/b'"),
    "base": ("base", {"name": "faces", "digest": "0" * 64}, None),
    "base_is_a_path": ("base", {"name": "../x", "digest": "0" * 64}, "base.name must be a plain"),
    "base_without_digest": ("base", {"name": "faces"}, "lacks the field base.digest"),
    "optional_inputs": (
        "optional_inputs",
        {"styles": [{"name": "conv1", "width": 16}], "noise": [{"name": "conv1", "side": 4}]},
        None,
    ),
    "styles_an_object": (
        "optional_inputs",
        {"styles": {}, "noise": []},
        "field optional_inputs.styles must be a list",
    ),
    "noise_too_large": (
        "optional_inputs",
        {"styles": [], "noise": [{"name": "conv1", "side": 8192}]},
        "noise[0].side must be an integer from 1",
    ),
    "refinement": ("refinement", {"refine": "encoder.onnx"}, None),
    "refinement_not_listed": (
        "refinement",
        {"refine": "x.onnx"},
        "field refinement.refine names 'x.onnx', which is not among the files",
    ),
}


@pytest.mark.parametrize("case", OPTIONAL_FIELDS)
def test_optional_fields_are_taken_as_python_takes_them(library, tmp_path, case):
    name, value, says = OPTIONAL_FIELDS[case]
    manifest = json.dumps(manifests.edited((name,), value)).encode()
    error = refusal_of(capi.CModel, library, _bundle_of(tmp_path, manifest))
    if says is None:
        Manifest.parse(manifest)
        assert "cannot load the graph 'generator'" in str(error)  # which is a text in these bundles
        return
    with pytest.raises(BundleError, match=re.escape(says)):
        Manifest.parse(manifest)
    assert says in str(error)


@pytest.mark.usefixtures("same_runtime")
def test_adapted_bundle_renders_what_its_base_inverted(library, base_bundle, adapted_bundle):
    python, c = Model.load(base_bundle, "cpu"), capi.CModel(library, base_bundle)
    theirs, ours = (model.invert(random_picture(64, 64)) for model in (python, c))
    adapted = capi.CModel(library, adapted_bundle)
    expected = Adaptation.load(adapted_bundle, "cpu").render(theirs)
    np.testing.assert_array_equal(adapted.render(ours)[0], expected)
    assert (expected != theirs.image).any()  # the coarse layer's offsets are left out
    assert "only renders what" in str(refusal_of(adapted.invert, random_picture(64, 64)))


@pytest.mark.parametrize("trick", inversions.ATTACKS)
def test_attacked_inversion_is_refused(library, tiny_bundle, tmp_path, trick):
    path = tmp_path / "x.safetensors"
    path.write_bytes(inversions.ATTACKS[trick][0])
    assert refusal_of(capi.CModel(library, tiny_bundle).load, path).kind == "INVERSION"


def test_altered_missing_and_linked_files_are_refused(library, tmp_path):
    directory = manifests.write_bundle(tmp_path / "tiny")
    generator = directory / "generator.onnx"
    content = generator.read_bytes()
    generator.write_bytes(content[::-1])
    assert "is altered" in str(refusal_of(capi.CModel, library, directory))
    generator.write_bytes(content[1:])
    assert "bytes where the manifest says" in str(refusal_of(capi.CModel, library, directory))
    generator.unlink()
    assert "cannot find" in str(refusal_of(capi.CModel, library, directory))
    (tmp_path / "elsewhere").write_bytes(content)
    generator.symlink_to(tmp_path / "elsewhere")
    assert "symbolic link" in str(refusal_of(capi.CModel, library, directory))
    generator.unlink()
    generator.write_bytes(content)
    (directory / "generator.onnx.data").write_bytes(b"x")
    assert "is not listed" in str(refusal_of(capi.CModel, library, directory))


def test_inversion_of_another_bundle_is_refused(library, tiny_bundle, tmp_path):
    data = InversionData(
        inversions.TENSORS["latents"], inversions.TENSORS["codes"], 5, "tiny", inversions.DIGEST
    )
    write_inversion(tmp_path / "x.safetensors", data)
    error = refusal_of(capi.CModel(library, tiny_bundle).load, tmp_path / "x.safetensors")
    assert error.kind == "INVERSION" and "does not belong to bundle" in str(error)
    with pytest.raises(InversionError):
        Model.load(tiny_bundle, "cpu").render(Inversion.load(tmp_path / "x.safetensors"))
