"""Bundles are refused with one clear sentence or used exactly as their manifest says."""

import copy
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from attacks import manifests, refusal
from hyperstyle_rt.errors import BundleError
from hyperstyle_rt.formats import bundle as bundle_module
from hyperstyle_rt.formats.bundle import Bundle, default_bundle, find_bundle
from hyperstyle_rt.formats.manifest import Manifest
from safetensors.numpy import save

PACKAGE = Path(bundle_module.__file__).parents[1]


@pytest.fixture
def directory(tmp_path):
    return manifests.write_bundle(tmp_path / "tiny")


def test_sound_bundle_opens_and_verifies(directory):
    bundle = Bundle.open(str(directory))
    bundle.verify()
    assert bundle.manifest == Manifest.from_json(manifests.GOOD)
    assert bundle.verified_path("encoder") == directory / "encoder.onnx"
    assert bundle.verified_file("encoder.onnx.data") == directory / "encoder.onnx.data"


def test_directory_of_the_bundle_may_be_a_link(directory, tmp_path):
    (tmp_path / "link").symlink_to(directory)
    Bundle.open(tmp_path / "link").verify()


def replace_by_link(file: Path, target: Path) -> None:
    file.replace(target)
    file.symlink_to(target)


def replace_by_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def replace_by_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


# What is done to a file of the bundle, and what the error says.
FILE_ATTACKS = {
    "missing": (lambda f: f.unlink(), "cannot find"),
    "cut_short": (lambda f: f.write_bytes(f.read_bytes()[:-1]), "bytes where the manifest says"),
    "emptied": (lambda f: f.write_bytes(b""), "bytes where the manifest says"),
    "grown": (lambda f: f.write_bytes(f.read_bytes() + b"\0"), "bytes where the manifest says"),
    "altered": (lambda f: f.write_bytes(f.read_bytes()[:-1] + b"!"), "is altered"),
    "link_inside": (lambda f: replace_by_link(f, f.with_name("x")), "is a symbolic link"),
    "link_outside": (lambda f: replace_by_link(f, f.parent.parent / "x"), "is a symbolic link"),
    "link_to_nowhere": (lambda f: (f.unlink(), f.symlink_to("x")), "is a symbolic link"),
    "directory": (replace_by_directory, "is not a regular file"),
    "pipe": (replace_by_pipe, "is not a regular file"),
}


@pytest.mark.parametrize("trick", FILE_ATTACKS)
@pytest.mark.parametrize("name", ["encoder.onnx", "encoder.onnx.data"])
def test_attacked_graph_or_its_data_is_refused(name, trick, directory):
    attack, says = FILE_ATTACKS[trick]
    attack(directory / name)
    bundle = Bundle.open(directory)
    sentence = refusal(BundleError, bundle.verified_path, "encoder")
    assert says in sentence
    assert str(directory / name) in sentence
    assert refusal(BundleError, bundle.verify) == sentence
    assert bundle.verified_path("hypernet") == directory / "hypernet.onnx"


@pytest.mark.parametrize(
    "trick", ["missing", "link_outside", "link_to_nowhere", "directory", "pipe"]
)
def test_attacked_manifest_is_refused(trick, directory):
    attack, says = FILE_ATTACKS[trick]
    attack(directory / "manifest.json")
    assert says in refusal(BundleError, Bundle.open, directory)


def test_refused_manifest_is_named_by_its_path(directory):
    (directory / "manifest.json").write_text('{"format": "hyperstyle-rt-bundle"}', encoding="utf-8")
    sentence = refusal(BundleError, Bundle.open, directory)
    assert sentence.startswith(
        f"{directory / 'manifest.json'}: the manifest lacks the field version"
    )


def test_huge_manifest_is_refused_unread(directory):
    os.truncate(directory / "manifest.json", 1 << 40)
    assert "is larger than 1048576 bytes" in refusal(BundleError, Bundle.open, directory)


@pytest.mark.parametrize("name", ["absent", "tiny/encoder.onnx", "nul\0", "long" * 70])
def test_what_is_no_directory_is_no_bundle(name, directory):
    assert refusal(BundleError, Bundle.open, directory.parent / name).startswith(
        "there is no directory"
    )


def test_data_that_the_manifest_does_not_list_is_refused(directory):
    (directory / "weights.onnx.data").write_bytes(b"slipped in")
    bundle = Bundle.open(directory)
    assert "weights.onnx.data is not listed" in refusal(
        BundleError, bundle.verified_path, "weights"
    )
    assert "weights.onnx.data is not listed" in refusal(BundleError, bundle.verify)


@pytest.mark.parametrize("name", manifests.CONTENTS)
def test_verify_looks_at_every_file(name, directory):
    FILE_ATTACKS["altered"][0](directory / name)
    assert name in refusal(BundleError, Bundle.open(directory).verify)


def test_a_file_is_verified_once_per_instance(directory):
    bundle = Bundle.open(directory)
    bundle.verified_path("encoder")
    FILE_ATTACKS["altered"][0](directory / "encoder.onnx")
    assert bundle.verified_path("encoder") == directory / "encoder.onnx"
    refusal(BundleError, Bundle.open(directory).verified_path, "encoder")


def test_a_refused_file_stays_refused_until_mended(directory):
    bundle = Bundle.open(directory)
    (directory / "encoder.onnx").write_bytes(b"?")
    refusal(BundleError, bundle.verified_path, "encoder")
    refusal(BundleError, bundle.verified_path, "encoder")
    (directory / "encoder.onnx").write_bytes(manifests.CONTENTS["encoder.onnx"])
    bundle.verified_path("encoder")


def test_absent_roles_and_files_are_named(directory):
    bundle = Bundle.open(directory)
    sentence = refusal(BundleError, bundle.verified_path, "offsets")
    assert "no graph 'offsets', only encoder, generator, hypernet, weights" in sentence
    assert "lists no file '../x'" in refusal(BundleError, bundle.verified_file, "../x")


def test_digest_is_that_of_the_canonical_table_of_what_defines_an_inversion(directory):
    table = ",".join(
        f'"{name}":{{"bytes":{len(content)},"precision":"fp32",'
        f'"sha256":"{hashlib.sha256(content).hexdigest()}"}}'
        for name, content in sorted(manifests.CONTENTS.items())
    )
    assert Bundle.open(directory).digest == hashlib.sha256(f"{{{table}}}".encode()).hexdigest()


def with_file(directory: Path, name: str, content: bytes) -> Bundle:
    """The bundle with one file replaced and listed as it then is."""
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    document = manifests.edited(("files", name), {**entry, "precision": "fp32"})
    (directory / name).write_bytes(content)
    (directory / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    return Bundle.open(directory)


def test_digest_does_not_change_with_the_name(directory):
    digest = Bundle.open(directory).digest
    renamed = Manifest.from_json(manifests.edited(("name",), "renamed"))
    assert Bundle(directory, renamed).digest == digest


@pytest.mark.parametrize("name", manifests.CONTENTS)
def test_digest_changes_with_every_file_that_defines_an_inversion(name, directory):
    digest = Bundle.open(directory).digest
    assert with_file(directory, name, b"another").digest != digest


def test_digest_outlives_what_computes_the_same(directory):
    """Twins, plans and files of later versions are added without orphaning inversions."""
    digest = Bundle.open(directory).digest
    assert with_file(directory, "directions.safetensors", b"added later").digest == digest
    assert with_twins(directory).digest == digest


# --------------------------------------------------------------------- twins in other precisions

KEY = "10.13.2-sm89-fp16"
PLANS = ("encoder.plan", "encoder.onnx")


def with_twins(directory: Path) -> Bundle:
    """The bundle with fp16 twins of its graphs, one TensorRT plan and its model."""
    document = copy.deepcopy(manifests.GOOD)
    twins = {role: f"{role}.fp16.onnx" for role in document["graphs"]}
    (directory / "tensorrt" / KEY).mkdir(parents=True)
    for path in [*twins.values(), *(f"tensorrt/{KEY}/{name}" for name in PLANS)]:
        (directory / path).write_bytes(Path(path).name.encode())
    entries = {name: entry(name.encode(), "fp16") for name in twins.values()}
    document["files"] |= entries
    document["precisions"] = {"fp16": twins}
    document["plans"] = {KEY: {name: entry(name.encode(), "fp16") for name in PLANS}}
    (directory / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    return Bundle.open(directory)


def entry(content: bytes, precision: str) -> dict:
    digest = hashlib.sha256(content).hexdigest()
    return {"sha256": digest, "bytes": len(content), "precision": precision}


def test_twins_are_given_by_precision(directory):
    bundle = with_twins(directory)
    bundle.verify()
    assert bundle.verified_path("weights", "fp16") == directory / "weights.fp16.onnx"
    assert bundle.verified_path("weights") == directory / "weights.onnx"


def test_a_precision_the_bundle_lacks_is_named(directory):
    sentence = refusal(BundleError, Bundle.open(directory).verified_path, "weights", "fp16")
    assert "has no fp16 graphs, only fp32" in sentence
    assert "--precision fp32,fp16" in sentence


def test_an_altered_twin_is_refused(directory):
    bundle = with_twins(directory)
    (directory / "weights.fp16.onnx").write_bytes(b"weights.fp16.onnX")
    for attempt in (lambda: bundle.verified_path("weights", "fp16"), bundle.verify):
        assert "is altered" in refusal(BundleError, attempt)
    bundle.verified_path("weights")


def test_a_sound_plan_is_given(directory):
    bundle, plans = with_twins(directory), directory / "tensorrt" / KEY
    assert bundle.verified_plan(KEY, "encoder") == plans / "encoder.plan"
    assert bundle.verified_ep_context(KEY, "encoder") == plans / "encoder.onnx"


@pytest.mark.parametrize(("key", "role"), [(KEY, "generator"), ("11.4-sm89-fp16", "encoder")])
def test_a_plan_the_bundle_lacks_is_named(key, role, directory):
    sentence = refusal(BundleError, with_twins(directory).verified_plan, key, role)
    assert f"no {role}.plan for TensorRT {key}, only plans for {KEY}" in sentence


@pytest.mark.parametrize("trick", FILE_ATTACKS)
def test_an_attacked_plan_is_refused(trick, directory):
    attack, says = FILE_ATTACKS[trick]
    bundle = with_twins(directory)
    attack(directory / "tensorrt" / KEY / "encoder.plan")
    assert says in refusal(BundleError, bundle.verified_plan, KEY, "encoder")
    assert says in refusal(BundleError, bundle.verified_ep_context, KEY, "encoder")
    assert says in refusal(BundleError, bundle.verify)


@pytest.mark.parametrize("link", ["tensorrt", f"tensorrt/{KEY}"])
def test_a_plan_behind_a_linked_directory_is_refused(link, directory):
    bundle = with_twins(directory)
    replace_by_link(directory / link, directory.parent / "elsewhere")
    assert "is a symbolic link" in refusal(BundleError, bundle.verified_plan, KEY, "encoder")


# ------------------------------------------------------------------------------ latent average


def test_latent_average_is_read(directory):
    average = Bundle.open(directory).latent_average()
    assert average.dtype == np.float32
    np.testing.assert_array_equal(average, manifests.LATENT_AVERAGE)


def test_latent_average_is_optional(directory):
    document = manifests.edited(("files", "latent_average.safetensors"), manifests.REMOVED)
    assert Bundle(directory, Manifest.from_json(document)).latent_average() is None


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"average": manifests.LATENT_AVERAGE}, "must hold the float32 tensor latent_average"),
        ({"latent_average": np.zeros((8, 16))}, "must hold the float32 tensor latent_average"),
        ({"latent_average": manifests.LATENT_AVERAGE[:4]}, "of shape [10, 16]"),
        ({"latent_average": manifests.LATENT_AVERAGE * np.float32(np.inf)}, "NaN or infinity"),
    ],
)
def test_unsuitable_latent_average_is_refused(tensors, says, directory):
    bundle = with_file(directory, "latent_average.safetensors", save(tensors))
    assert says in refusal(BundleError, bundle.latent_average)


def test_latent_average_that_is_no_tensor_file_is_refused(directory):
    bundle = with_file(directory, "latent_average.safetensors", b"\x80\x04K\x01.")
    assert "is not a safetensors file" in refusal(BundleError, bundle.latent_average)


def test_altered_latent_average_is_refused(directory):
    bundle = Bundle.open(directory)
    FILE_ATTACKS["altered"][0](directory / "latent_average.safetensors")
    assert "is altered" in refusal(BundleError, bundle.latent_average)


# -------------------------------------------------------------------------------------- lookup


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """An empty working directory, and a repository with the package in it but no bundles yet."""
    package = tmp_path / "repository" / "runtime" / "hyperstyle_rt"
    package.mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(bundle_module, "_PACKAGE", package)
    return package


def test_default_is_the_packaged_bundle_before_the_repository_one(checkout):
    assert "embedded bundle is missing" in refusal(BundleError, default_bundle)
    in_repository = manifests.write_bundle(checkout.parents[1] / "engines" / "portraits")
    assert find_bundle(None) == default_bundle() == in_repository
    packaged = manifests.write_bundle(checkout / "engines" / "portraits")
    assert find_bundle(None) == default_bundle() == packaged


def test_name_is_looked_up_here_and_in_the_embedded_engines(checkout):
    embedded = manifests.write_bundle(checkout / "engines" / "cars")
    assert find_bundle("cars") == embedded
    manifests.write_bundle(Path("engines/cars"))
    assert find_bundle("cars") == Path("engines/cars")


def test_directory_is_taken_as_it_is(checkout, tmp_path):
    (tmp_path / "unfinished").mkdir()
    assert find_bundle(tmp_path / "unfinished") == tmp_path / "unfinished"
    written = manifests.write_bundle(tmp_path / "elsewhere")
    assert find_bundle(str(written)) == written


def test_folder_of_pictures_does_not_hide_the_bundle_of_its_name(checkout):
    embedded = manifests.write_bundle(checkout / "engines" / "portraits")
    Path("portraits").mkdir()
    assert find_bundle("portraits") == embedded


@pytest.mark.parametrize("name", ["faces", "a/cars", "../engines/x", "long" * 70, "nul\0"])
def test_unknown_name_lists_the_names_there_are(name, checkout):
    assert "found here: none" in refusal(BundleError, find_bundle, name)
    manifests.write_bundle(checkout / "engines" / "portraits")
    manifests.write_bundle(Path("engines/cars"))
    (Path("engines") / "notes").mkdir()
    assert "found here: cars, portraits" in refusal(BundleError, find_bundle, name)


def test_looking_a_bundle_up_imports_nothing_heavy():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import hyperstyle_rt.formats.bundle; "
        "print({'numpy', 'safetensors', 'cv2', 'onnxruntime', 'jsonschema'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program, str(PACKAGE.parent)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"
