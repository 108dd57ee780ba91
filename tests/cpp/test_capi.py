"""The C library computes, reads and writes what the Python runtime does, to the last bit."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import capi
import numpy as np
import pytest
from attacks import inversions, manifests
from capi import random_picture, refusal_of, same_bytes
from hyperstyle_rt import Model
from hyperstyle_rt.adaptation import Adaptation
from hyperstyle_rt.errors import BundleError, InversionError
from hyperstyle_rt.formats.inversion_file import read_inversion, write_inversion
from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.inversion import Inversion

# Manifests that C refuses in words of its own.
C_WORDS = {"binary", "utf_16", "not_a_number", "infinity"}


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
    data = python.invert(random_picture(64, 64), iterations=1).data
    write_inversion(tmp_path / "python.safetensors", replace(data, picture="5" * 64))
    c.load(tmp_path / "python.safetensors").save(tmp_path / "c.safetensors")
    assert read_inversion(tmp_path / "c.safetensors").picture == "5" * 64


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


@pytest.mark.parametrize("rows", ["equal", "different"])
@pytest.mark.parametrize("codes", ["with codes", "without codes"])
def test_file_comes_back_from_c_unchanged(python, c, tmp_path, rows, codes):
    inverted = python.invert(random_picture(64, 64), iterations=1).data
    noise = np.random.default_rng(2).standard_normal(inverted.latents.shape, np.float32)
    latents = np.tile(noise[:1], (len(noise), 1)) if rows == "equal" else noise
    if codes == "without codes":
        inverted = replace(inverted, codes=None, code_space=None)
    written = replace(
        inverted,
        latents=latents,
        transform=np.array([[0.5, 0, 10], [0, 0.5, 20], [0, 0, 1]], np.float32),
        settings={"note": 'tab\t, "quotes", \\, \x7f, \u00e9, \u4e2d, \U0001f600', "until": 0.01},
    )
    write_inversion(tmp_path / "python.safetensors", written)
    loaded = c.load(tmp_path / "python.safetensors")
    np.testing.assert_array_equal(loaded.latents, latents)
    np.testing.assert_array_equal(loaded.transform, written.transform)
    assert (loaded.codes is None) == (written.codes is None)
    loaded.save(tmp_path / "c.safetensors")
    assert same_bytes(tmp_path)
    if capi.runtimes_agree(c.library):
        theirs = python.render(Inversion(written))
        np.testing.assert_array_equal(c.render(loaded)[0], theirs)


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
        image = np.ctypeslib.as_array(progress[0].rendering, shape).copy()
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
    assert c.info.space.decode() == manifest.space
    assert c.info.digest.decode() == python.bundle.digest
    assert c.info.default_method.decode() == manifest.default_method
    methods = {name: method.iterations for name, method in manifest.methods.items()}
    assert c.methods() == dict(sorted(methods.items()))
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
ENCODER = manifests.GOOD["graphs"]["encoder"]

FEATURE = {"layer": "convs.1", "shape": [4, 8, 8]}

# Fields a manifest can do without: (name, value, what both runtimes refuse it with; None: nothing).
OPTIONAL_FIELDS = {
    "of_tomorrow": ("of_tomorrow", {"a": [None, {}]}, None),
    "half_graphs": ("precisions", {"fp16": {"encoder": ENCODER}}, None),
    "half_graph_of_no_role": (
        "precisions",
        {"fp16": {"decoder": ENCODER}},
        "field precisions.fp16.decoder is not among the graphs",
    ),
    "half_graph_not_listed": (
        "precisions",
        {"fp16": {"weights": {"file": "x.onnx", "data": []}}},
        "field precisions.fp16.weights names 'x.onnx', which is not among the files",
    ),
    "plans": ("plans", {"10.13-sm89-fp16": {"encoder.plan": A_FILE}}, None),
    "plans_of_a_path": ("plans", {"../up": {}}, "field plans has the key '../up'"),
    "plan_is_a_path": ("plans", {"10.13-sm89-fp16": {"a/b": A_FILE}}, "has the key 'a/b'"),
    "base_and_methods": (
        "base",
        {"name": "faces", "space": "0" * 64},
        "must not give both the field base and methods",
    ),
    "base_is_a_path": ("base", {"name": "../x", "space": "0" * 64}, "base.name must be a plain"),
    "base_without_space": ("base", {"name": "faces"}, "lacks the field base.space"),
    "optional_inputs_of_no_graph": (
        "optional_inputs",
        {"styles": [{"name": "conv1", "width": 16}], "noise": []},
        "must give both the field optional_inputs and the graph styled_generator, or neither",
    ),
    "styles_an_object": (
        "optional_inputs",
        {"styles": {}, "noise": []},
        "field optional_inputs.styles must be a list",
    ),
    "parametric_inputs_of_no_graph": (
        "parametric_inputs",
        {"parameters": [], "feature": FEATURE},
        "must give the field parametric_inputs and the graphs parametric_generator and parameters",
    ),
    "parameter_without_axes": (
        "parametric_inputs",
        {"parameters": [{"name": "a", "shape": []}], "feature": FEATURE},
        "parameters[0].shape must be a list of 1 to 5 integers",
    ),
    "parameter_twice": (
        "parametric_inputs",
        {"parameters": [{"name": "a", "shape": [1]}] * 2, "feature": FEATURE},
        "gives two parameters one name",
    ),
    "parameters_too_many": (
        "parametric_inputs",
        {"parameters": [{"name": "a", "shape": [65536] * 5}], "feature": FEATURE},
        "field parametric_inputs.parameters has more than 134217728 numbers",
    ),
    "feature_too_large": (
        "parametric_inputs",
        {"parameters": [], "feature": {"layer": "a", "shape": [65536, 65536, 65536]}},
        "field parametric_inputs.feature.shape has more than 134217728 numbers",
    ),
    "objective": ("objective", {"perceptual": "encoder", "weight": 0.25}, None),
    "objective_of_a_whole_weight": ("objective", {"perceptual": "encoder", "weight": 1}, None),
    "objective_without_weight": (
        "objective",
        {"perceptual": "encoder", "weight": 0},
        "field objective.weight must be a number above 0, up to 1e+06",
    ),
    "noise_too_large": (
        "optional_inputs",
        {"styles": [], "noise": [{"name": "conv1", "side": 8192}]},
        "noise[0].side must be an integer from 1",
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
    # On latents of another inversion, as `Inversion.with_latents`.
    other = python.invert(random_picture(64, 60), 1)
    mixed = adapted.render(ours, other.latents[None])[0]
    with Adaptation.load(adapted_bundle, "cpu") as adaptation:
        np.testing.assert_array_equal(mixed, adaptation.render(theirs.with_latents(other)))
    assert (mixed != expected).any()
    assert "only renders what" in str(refusal_of(adapted.invert, random_picture(64, 64)))


@pytest.mark.parametrize("trick", inversions.ATTACKS)
def test_attacked_inversion_is_refused(library, tiny_bundle, tmp_path, trick):
    path = tmp_path / "x.safetensors"
    path.write_bytes(inversions.ATTACKS[trick][0])
    assert refusal_of(capi.CModel(library, tiny_bundle).load, path).kind == "INVERSION"


@pytest.fixture
def working_copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle to alter."""
    return shutil.copytree(tiny_bundle, tmp_path / "copy")


def test_altered_and_missing_files_are_refused(library, working_copy):
    generator = working_copy / "generator.onnx"
    content = generator.read_bytes()
    generator.write_bytes(content[::-1])
    assert "is altered" in str(refusal_of(capi.CModel, library, working_copy))
    generator.write_bytes(content[1:])
    assert "bytes where the manifest says" in str(refusal_of(capi.CModel, library, working_copy))
    generator.unlink()
    assert "cannot find" in str(refusal_of(capi.CModel, library, working_copy))
    os.mkfifo(generator)  # which nobody writes to
    assert "not a regular file" in str(refusal_of(capi.CModel, library, working_copy))


@pytest.mark.usefixtures("same_runtime")
def test_bundles_of_links_are_those_they_lead_to(library, tmp_path, portraits_bundle):
    """As in the caches of Hugging Face, DVC and git-annex: every file is a link to a link."""
    linked = tmp_path / "linked"
    (tmp_path / "blobs").mkdir()
    linked.mkdir()
    for file in portraits_bundle.iterdir():
        blob = tmp_path / "blobs" / hashlib.sha256(file.name.encode()).hexdigest()
        blob.symlink_to(file)
        (linked / file.name).symlink_to(Path("..", "blobs", blob.name))
    picture = random_picture(64, 64)
    direct, through_links = (
        capi.CModel(library, bundle).invert(picture, iterations=1)
        for bundle in (portraits_bundle, linked)
    )
    np.testing.assert_array_equal(through_links.codes, direct.codes)
    np.testing.assert_array_equal(through_links.image(), direct.image())
    (linked / "generator.onnx").unlink()
    (linked / "generator.onnx").symlink_to(tmp_path / "gone")
    assert "cannot find" in str(refusal_of(capi.CModel, library, linked))
    (linked / "generator.onnx").unlink()
    (linked / "generator.onnx").symlink_to(tmp_path)
    assert "not a regular file" in str(refusal_of(capi.CModel, library, linked))


def test_relative_bundle_is_looked_up_once(library, working_copy, monkeypatch, tmp_path):
    monkeypatch.chdir(working_copy.parent)
    model = capi.CModel(library, Path(working_copy.name))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert model.invert(random_picture(64, 64), iterations=1).iterations == 1


def test_a_bundle_that_went_is_a_sentence(library, working_copy):
    model = capi.CModel(library, working_copy)
    shutil.rmtree(working_copy)
    error = refusal_of(model.invert, random_picture(64, 64))
    assert error.kind == "BUNDLE" and f"cannot find {working_copy}/encoder.onnx" in str(error)


def test_data_that_the_manifest_does_not_list_is_not_read(
    library, rich_bundle, monkeypatch, tmp_path
):
    """A graph whose tensors lie in the working directory, and nowhere the manifest says."""
    copy = shutil.copytree(rich_bundle, tmp_path / "copy")
    document = json.loads((copy / "manifest.json").read_bytes())
    document["graphs"]["generator"]["data"] = []
    (copy / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    for folder in (copy, "/"):
        monkeypatch.chdir(folder)
        error = refusal_of(capi.CModel, library, copy)
        assert error.kind == "BUNDLE"
        assert "cannot load the graph 'generator'" in str(error)


def test_inversion_of_another_space_is_refused(library, tiny_bundle, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(inversions.GOOD)
    error = refusal_of(capi.CModel(library, tiny_bundle).load, tmp_path / "x.safetensors")
    with pytest.raises(InversionError) as caught:
        Model.load(tiny_bundle, "cpu").render(Inversion.load(tmp_path / "x.safetensors"))
    assert error.kind == "INVERSION" and "does not fit bundle 'tiny'" in str(error)
    assert str(error).endswith(str(caught.value))


def test_inversion_of_other_codes_or_another_shape_is_refused(library, tiny_bundle, tmp_path):
    python, c = Model.load(tiny_bundle, "cpu"), capi.CModel(library, tiny_bundle)
    inverted = python.invert(random_picture(64, 64), iterations=1).data
    path = tmp_path / "x.safetensors"
    refused = {
        "are not those of bundle 'tiny'": replace(inverted, code_space=inversions.DIGEST),
        "has codes of shape [6, 17] where": replace(inverted, codes=inverted.codes[1:]),
        "has latents of shape [7, 16] where": replace(inverted, latents=inverted.latents[1:]),
    }
    for says, data in refused.items():
        write_inversion(path, data)
        error = refusal_of(c.load, path)
        with pytest.raises(InversionError) as caught:
            python.render(Inversion(data))
        assert error.kind == "INVERSION" and says in str(error)
        assert str(error).endswith(str(caught.value))
