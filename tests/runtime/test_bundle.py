"""Bundles are refused with one clear sentence or used exactly as their manifest says."""

import copy
import gc
import hashlib
import json
import os
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
from attacks import manifests, refusal
from hyperstyle_rt.errors import BundleError
from hyperstyle_rt.formats import verified_files
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.manifest import Manifest
from safetensors.numpy import save


@pytest.fixture
def directory(tmp_path):
    return manifests.write_bundle(tmp_path / "tiny")


def test_sound_bundle_opens_and_verifies(directory):
    bundle = Bundle.open(str(directory))
    bundle.verify()
    assert bundle.manifest == Manifest.from_json(manifests.GOOD)
    assert bundle.verified_path("encoder") == directory / "encoder.onnx"
    assert bundle.verified_file("encoder.onnx.data") == directory / "encoder.onnx.data"


def test_a_graph_is_given_with_what_it_reads(directory):
    bundle = Bundle.open(directory)
    graph = bundle.graph("encoder")
    assert graph.path == directory / "encoder.onnx"
    assert graph.model == manifests.CONTENTS["encoder.onnx"]
    assert {name: bytes(data) for name, data in graph.data.items()} == {
        "encoder.onnx.data": manifests.CONTENTS["encoder.onnx.data"]
    }
    assert all(data.readonly for data in graph.data.values())
    assert dict(bundle.graph("generator").data) == {}


def test_directory_of_the_bundle_may_be_a_link(directory, tmp_path):
    (tmp_path / "link").symlink_to(directory)
    Bundle.open(tmp_path / "link").verify()


def test_files_may_be_links_as_caches_keep_them(directory, tmp_path):
    """Hugging Face's cache, ConfigMaps, DVC and git-annex: every file is a link, some to links."""
    store = tmp_path / "store"
    store.mkdir()
    for number, path in enumerate(sorted(directory.iterdir())):
        blob = store / f"blob{number}"
        path.replace(blob)
        (store / f"link{number}").symlink_to(blob.name)
        path.symlink_to(f"../store/link{number}")
    bundle = Bundle.open(directory)
    bundle.verify()
    assert bundle.graph("encoder").model == manifests.CONTENTS["encoder.onnx"]
    assert bundle.latent_average() is not None
    (store / "blob0").write_bytes(b"altered behind the link")
    first = sorted(manifests.CONTENTS)[0]
    assert str(directory / first) in refusal(BundleError, Bundle.open(directory).verify)


def test_a_relative_bundle_outlives_a_change_of_directory(directory, tmp_path, monkeypatch):
    monkeypatch.chdir(directory.parent)
    bundle = Bundle.open(directory.name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    bundle.verify()
    assert bundle.directory == directory
    assert bundle.graph("encoder").model == manifests.CONTENTS["encoder.onnx"]


def test_a_working_directory_that_is_gone_is_one_sentence(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "the working directory is gone" in refusal(BundleError, Bundle.open, "tiny")


def test_a_bundle_that_is_removed_after_it_was_opened_is_one_sentence(directory):
    bundle = Bundle.open(directory)
    shutil.rmtree(directory)
    for call in (bundle.graph, bundle.verified_path):
        says = refusal(BundleError, call, "encoder")
        assert f"cannot open {directory / 'encoder.onnx'} (No such file or directory)" in says


def test_what_was_verified_is_what_is_given(directory, monkeypatch):
    """A file that is replaced between its verification and its use: the one that was verified."""
    opened = []
    real = verified_files.os.open

    def replacing_open(path, *arguments):
        descriptor = real(path, *arguments)
        opened.append(Path(path).name)
        impostor = directory / "impostor"
        impostor.write_bytes(b"another file, put in its place")
        impostor.replace(path)
        return descriptor

    bundle = Bundle.open(directory)
    monkeypatch.setattr(verified_files.os, "open", replacing_open)
    graph = bundle.graph("encoder")
    assert opened == ["encoder.onnx", "encoder.onnx.data"]
    assert graph.model == manifests.CONTENTS["encoder.onnx"]
    assert graph.data["encoder.onnx.data"] == manifests.CONTENTS["encoder.onnx.data"]


def test_a_file_that_turns_into_a_pipe_as_it_is_opened_is_refused(directory, monkeypatch):
    path = directory / "encoder.onnx"
    bundle = Bundle.open(directory)
    real = verified_files.os.open

    def pipe(name, *arguments):
        path.unlink()
        os.mkfifo(path)
        return real(name, *arguments)

    monkeypatch.setattr(verified_files.os, "open", pipe)
    assert "is not a regular file" in refusal(BundleError, bundle.graph, "encoder")


def test_graphs_that_share_a_file_share_its_mapping(directory):
    document = manifests.edited(("graphs", "weights", "data"), ["encoder.onnx.data"])
    (directory / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    bundle = Bundle.open(directory)
    encoder, weights = bundle.graph("encoder"), bundle.graph("weights")
    assert encoder.data["encoder.onnx.data"] is weights.data["encoder.onnx.data"]
    mapping = weakref.ref(encoder.data["encoder.onnx.data"])
    del encoder, weights
    gc.collect()
    assert mapping() is None  # memory goes back


def test_an_empty_data_file_is_given(directory):
    bundle = with_file(directory, "encoder.onnx.data", b"")
    assert bytes(bundle.graph("encoder").data["encoder.onnx.data"]) == b""


def link_to(file: Path, target: str) -> None:
    (file.parent / "LICENSE").write_bytes(b"a file that is not listed")
    file.unlink()
    file.symlink_to(target)


def replace_by_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def replace_by_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


# What is done to a file of the bundle, and what the error says.
FILE_ATTACKS = {
    "missing": (lambda f: f.unlink(), "cannot open"),
    "cut_short": (lambda f: f.write_bytes(f.read_bytes()[:-1]), "bytes where the manifest says"),
    "emptied": (lambda f: f.write_bytes(b""), "bytes where the manifest says"),
    "grown": (lambda f: f.write_bytes(f.read_bytes() + b"\0"), "bytes where the manifest says"),
    "altered": (lambda f: f.write_bytes(f.read_bytes()[:-1] + b"!"), "is altered"),
    "link_to_another_file": (lambda f: link_to(f, "LICENSE"), "bytes where the manifest says"),
    "link_to_nowhere": (lambda f: link_to(f, "x"), "cannot open"),
    "link_to_itself": (lambda f: link_to(f, f.name), "cannot open"),
    "link_to_a_directory": (lambda f: link_to(f, "."), "is not a regular file"),
    "link_to_a_device": (lambda f: link_to(f, "/dev/zero"), "is not a regular file"),
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
    assert refusal(BundleError, bundle.graph, "encoder") == sentence
    assert refusal(BundleError, bundle.verify) == sentence
    assert bundle.verified_path("hypernet") == directory / "hypernet.onnx"


@pytest.mark.parametrize(
    "trick", ["missing", "link_to_nowhere", "link_to_a_device", "directory", "pipe"]
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
    for call in (bundle.verified_path, bundle.graph):
        assert "weights.onnx.data is not listed" in refusal(BundleError, call, "weights")
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


def test_digest_is_that_of_the_canonical_table_of_files(directory):
    table = ",".join(
        f'"{name}":{{"bytes":{len(content)},'
        f'"sha256":"{hashlib.sha256(content).hexdigest()}","stored":"fp32"}}'
        for name, content in sorted(manifests.CONTENTS.items())
    )
    assert Bundle.open(directory).digest == hashlib.sha256(f"{{{table}}}".encode()).hexdigest()


def with_file(directory: Path, name: str, content: bytes) -> Bundle:
    """The bundle with one file replaced and listed as it then is."""
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    document = manifests.edited(("files", name), {**entry, "stored": "fp32"})
    (directory / name).write_bytes(content)
    (directory / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    return Bundle.open(directory)


def test_digest_does_not_change_with_the_name(directory):
    digest = Bundle.open(directory).digest
    renamed = Manifest.from_json(manifests.edited(("name",), "renamed"))
    assert Bundle(directory, renamed).digest == digest


@pytest.mark.parametrize("name", [*manifests.CONTENTS, "directions.safetensors"])
def test_digest_changes_with_every_file_and_the_space_with_none(name, directory):
    before = Bundle.open(directory)
    after = with_file(directory, name, b"another")
    assert after.digest != before.digest
    assert after.manifest.space == before.manifest.space


# --------------------------------------------------------------------- fp16 graphs and plans

KEY = "10.13.2-sm89-fp16"
PLANS = ("encoder.plan", "encoder.onnx")


def with_half_graphs(directory: Path) -> Bundle:
    """The bundle with fp16 forms of some graphs, one TensorRT plan and its model."""
    document = copy.deepcopy(manifests.GOOD)
    half = {role: f"{role}.fp16.onnx" for role in ("weights", "generator")}
    (directory / "tensorrt" / KEY).mkdir(parents=True)
    for path in [*half.values(), *(f"tensorrt/{KEY}/{name}" for name in PLANS)]:
        (directory / path).write_bytes(Path(path).name.encode())
    document["files"] |= {name: entry(name.encode(), "fp16") for name in half.values()}
    document["precisions"] = {
        "fp16": {role: {"file": name, "data": []} for role, name in half.items()}
    }
    document["plans"] = {KEY: {name: entry(name.encode(), "fp16") for name in PLANS}}
    (directory / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    return Bundle.open(directory)


def entry(content: bytes, stored: str) -> dict:
    digest = hashlib.sha256(content).hexdigest()
    return {"sha256": digest, "bytes": len(content), "stored": stored}


def test_graphs_are_given_by_precision(directory):
    bundle = with_half_graphs(directory)
    bundle.verify()
    assert bundle.verified_path("weights", "fp16") == directory / "weights.fp16.onnx"
    assert bundle.graph("weights", "fp16").model == b"weights.fp16.onnx"
    assert bundle.verified_path("weights") == directory / "weights.onnx"
    assert bundle.verified_path("encoder", "fp16") == directory / "encoder.onnx"
    assert set(bundle.graph_digests("encoder", "fp16")) == {"encoder.onnx", "encoder.onnx.data"}


def test_a_precision_the_bundle_lacks_is_named(directory):
    sentence = refusal(BundleError, Bundle.open(directory).verified_path, "weights", "fp16")
    assert "has no fp16 graphs, only fp32" in sentence
    assert "--precision fp32,fp16" in sentence


def test_an_altered_half_graph_is_refused(directory):
    bundle = with_half_graphs(directory)
    (directory / "weights.fp16.onnx").write_bytes(b"weights.fp16.onnX")
    for attempt in (lambda: bundle.verified_path("weights", "fp16"), bundle.verify):
        assert "is altered" in refusal(BundleError, attempt)
    bundle.verified_path("weights")


def test_a_sound_plan_is_given(directory):
    bundle, plans = with_half_graphs(directory), directory / "tensorrt" / KEY
    assert bundle.verified_plan(KEY, "encoder") == plans / "encoder.plan"
    assert bundle.plan(KEY, "encoder") == b"encoder.plan"
    assert bundle.verified_ep_context(KEY, "encoder") == plans / "encoder.onnx"


@pytest.mark.parametrize(("key", "role"), [(KEY, "generator"), ("11.4-sm89-fp16", "encoder")])
def test_a_plan_the_bundle_lacks_is_named(key, role, directory):
    sentence = refusal(BundleError, with_half_graphs(directory).verified_plan, key, role)
    assert f"no {role}.plan for TensorRT {key}, only plans for {KEY}" in sentence


@pytest.mark.parametrize("trick", FILE_ATTACKS)
def test_an_attacked_plan_is_refused(trick, directory):
    attack, says = FILE_ATTACKS[trick]
    bundle = with_half_graphs(directory)
    attack(directory / "tensorrt" / KEY / "encoder.plan")
    assert says in refusal(BundleError, bundle.verified_plan, KEY, "encoder")
    assert says in refusal(BundleError, bundle.plan, KEY, "encoder")
    assert says in refusal(BundleError, bundle.verified_ep_context, KEY, "encoder")
    assert says in refusal(BundleError, bundle.verify)


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
        ({"average": manifests.LATENT_AVERAGE}, "must hold the tensor latent_average of float32"),
        ({"latent_average": np.zeros((8, 16))}, "must hold the tensor latent_average of float32"),
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


# ------------------------------------------------------------------------------ latent samples

SAMPLES = "latent_samples.safetensors"


def test_latent_samples_are_read_and_optional(directory):
    assert Bundle.open(directory).latent_samples() is None
    stored = np.random.default_rng(0).standard_normal((5, 16)).astype(np.float16)
    samples = with_file(directory, SAMPLES, save({"latent_samples": stored})).latent_samples()
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, stored)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"latents": np.zeros((5, 16), np.float16)}, "latent_samples of float32 or float16"),
        ({"latent_samples": np.zeros((5, 16), np.int32)}, "latent_samples of float32 or float16"),
        ({"latent_samples": np.zeros((5, 8), np.float16)}, "of shape [N,16], N at least 2"),
        ({"latent_samples": np.zeros((1, 16), np.float16)}, "N at least 2, not [1, 16]"),
        ({"latent_samples": np.full((5, 16), np.nan, np.float16)}, "NaN or infinity"),
    ],
)
def test_unsuitable_latent_samples_are_refused(tensors, says, directory):
    bundle = with_file(directory, SAMPLES, save(tensors))
    assert says in refusal(BundleError, bundle.latent_samples)
