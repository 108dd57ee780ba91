"""Refined inversions, which have channel offsets, are to the C library what they are to Python."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import capi
import numpy as np
import pytest
from attacks import inversions
from capi import random_picture, refusal_of, same_bytes
from hyperstyle_rt import Model
from hyperstyle_rt.adaptation import Adaptation
from hyperstyle_rt.errors import BundleError, InversionError
from hyperstyle_rt.formats.inversion_file import (
    HALVES,
    MAX_FILE_SIZE,
    parse_inversion,
    read_inversion,
    write_inversion,
)
from hyperstyle_rt.formats.inversion_fit import check_fits
from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.inversion import Inversion

# Bundles that have the graph `channel_offsets`.
REFINING = [
    ("tiny", "fp32"),
    ("rich", "fp32"),
    ("rich", "fp16"),
    pytest.param(("official", "fp32"), marks=pytest.mark.slow),
]
of_refining = pytest.mark.parametrize("bundle", REFINING, indirect=True, ids="-".join)


def with_offsets(inversion: Inversion, manifest: Manifest) -> Inversion:
    """The inversion with channel offsets as refining finds them, only larger."""
    count = manifest.num_channel_offsets
    offsets = np.random.default_rng(5).normal(0, 0.3, count).astype(np.float16)
    offsets[:4] = [-0.0, 6e-8, -6e-5, 0.0]  # with the smallest there are
    return Inversion(replace(inversion.data, channel_offsets=offsets))


@pytest.mark.usefixtures("same_runtime")
@of_refining
def test_renders_and_edits_are_bit_identical(python, c, tmp_path):
    unrefined = python.invert(random_picture(64, 64), iterations=2)
    theirs = with_offsets(unrefined, python.bundle.manifest)
    theirs.save(tmp_path / "refined.safetensors")
    unrefined.save(tmp_path / "unrefined.safetensors")
    ours = c.load(tmp_path / "refined.safetensors")
    before = c.load(tmp_path / "unrefined.safetensors")
    assert ours.channel_offset_count == theirs.data.channel_offsets.size
    assert before.channel_offset_count == 0

    expected = python.render(theirs)
    assert (expected != unrefined.image).any()
    for _ in range(2):  # the kernels a session keeps are those of one of them
        np.testing.assert_array_equal(c.render(ours)[0], expected)
        np.testing.assert_array_equal(c.render(before)[0], unrefined.image)
    noise = np.random.default_rng(1).standard_normal((3, *theirs.latents.shape), np.float32)
    batch = theirs.latents + noise
    np.testing.assert_array_equal(c.render(ours, batch), python.render(theirs, batch))
    edited = theirs.latents + np.float32(0.5) * noise[0, 0]
    np.testing.assert_array_equal(c.edit(ours, noise[0, 0], 0.5), python.render(theirs, edited))


@pytest.mark.usefixtures("same_runtime")
def test_what_python_refined_is_rendered_bit_identically(library, tiny_bundle, tmp_path):
    python, c = Model.load(tiny_bundle, "cpu"), capi.CModel(library, tiny_bundle)
    picture = random_picture(64, 64)
    refined = python.optimise(python.invert(picture, iterations=1), picture, steps=2)
    refined.save(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(
        c.render(c.load(tmp_path / "x.safetensors"))[0], python.render(refined)
    )


@of_refining
def test_file_comes_back_from_c_unchanged(python, c, tmp_path):
    refined = python.invert(random_picture(64, 64), iterations=1)
    data = replace(
        with_offsets(refined, python.bundle.manifest).data,
        transform=np.array([[0.5, 0, 10], [0, 0.5, 20], [0, 0, 1]], np.float32),
        picture="5" * 64,
    )
    write_inversion(tmp_path / "python.safetensors", data)
    c.load(tmp_path / "python.safetensors").save(tmp_path / "c.safetensors")
    assert same_bytes(tmp_path)
    read = read_inversion(tmp_path / "c.safetensors")
    assert read.channel_offsets.tobytes() == data.channel_offsets.tobytes()


@pytest.mark.usefixtures("same_runtime")
def test_adapted_bundle_keeps_the_offsets_of_its_layers(
    library, base_bundle, adapted_bundle, tmp_path
):
    python = Model.load(base_bundle, "cpu")
    unrefined = python.invert(random_picture(64, 64), iterations=1)
    theirs = with_offsets(unrefined, python.bundle.manifest)
    theirs.save(tmp_path / "x.safetensors")
    ours = capi.CModel(library, base_bundle).load(tmp_path / "x.safetensors")
    adapted = Adaptation.load(adapted_bundle, "cpu")
    expected = adapted.render(theirs)
    np.testing.assert_array_equal(capi.CModel(library, adapted_bundle).render(ours)[0], expected)
    assert (expected != adapted.render(unrefined)).any()
    assert (expected != python.render(theirs)).any()


def test_bundle_without_the_graph_says_so_as_python_does(library, tiny_bundle, tmp_path):
    older = shutil.copytree(tiny_bundle, tmp_path / "older")
    document = json.loads((older / "manifest.json").read_bytes())
    del document["graphs"]["channel_offsets"]
    (older / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    python, c = Model.load(older, "cpu"), capi.CModel(library, older)
    unrefined = python.invert(random_picture(64, 64), iterations=1)
    theirs = with_offsets(unrefined, python.bundle.manifest)
    theirs.save(tmp_path / "x.safetensors")
    error = refusal_of(c.render, c.load(tmp_path / "x.safetensors"))
    with pytest.raises(BundleError) as caught:
        python.render(theirs)
    assert (error.kind, str(error)) == ("BUNDLE", str(caught.value))


NEEDS = {"needs": '["codes","channel_offsets"]'}


def with_tensor(tensor: np.ndarray) -> bytes:
    """The small sound file with a tensor that is to be channel offsets."""
    return inversions.tensors(NEEDS, channel_offsets=tensor)


# name: (the file, what both runtimes say of it)
DAMAGED = {
    "absent": (inversions.metadata(**NEEDS), "needs and tensors about channel_offsets"),
    "integers": (with_tensor(np.ones(4, np.int16)), "channel_offsets must be float16 [?]"),
    "matrix": (with_tensor(np.ones((2, 2), np.float16)), "channel_offsets must be float16 [?]"),
    "scalar": (with_tensor(np.array(1, np.float16)), "channel_offsets must be float16 [?]"),
    "empty": (with_tensor(np.ones(0, np.float16)), "channel_offsets must be float16 [?]"),
    "not_a_number": (
        with_tensor(np.array([1, np.nan], np.float16)),
        "NaN or infinity in the inversion's channel_offsets",
    ),
    "too_many": (with_tensor(np.ones(MAX_FILE_SIZE // 2, np.float16)), "is larger than"),
    "truncated": (with_tensor(np.ones(4, np.float16))[:-2], "is not a safetensors file"),
}


@pytest.mark.parametrize("trick", DAMAGED)
def test_damaged_offsets_are_refused_as_python_refuses_them(library, tiny_bundle, tmp_path, trick):
    content, says = DAMAGED[trick]
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(InversionError) as caught:
        read_inversion(path)
    error = refusal_of(capi.CModel(library, tiny_bundle).load, path)
    assert error.kind == "INVERSION"
    assert says in str(error) and says in str(caught.value)


def test_offsets_of_another_number_are_refused(library, tiny_bundle, tmp_path):
    python, c = Model.load(tiny_bundle, "cpu"), capi.CModel(library, tiny_bundle)
    refined = with_offsets(
        python.invert(random_picture(64, 64), iterations=1), python.bundle.manifest
    ).data
    data = replace(refined, channel_offsets=refined.channel_offsets[1:])
    with pytest.raises(InversionError, match="has channel_offsets of shape") as caught:
        check_fits(data, python.bundle.manifest)
    write_inversion(tmp_path / "x.safetensors", data)
    error = refusal_of(c.load, tmp_path / "x.safetensors")
    assert error.kind == "INVERSION" and str(error).endswith(str(caught.value))


@pytest.mark.parametrize("name", ["noise", "weights", "features"])
def test_what_only_python_renders_is_refused_by_name(library, tiny_bundle, tmp_path, name):
    good = parse_inversion(inversions.GOOD)
    path = tmp_path / "descended.safetensors"
    write_inversion(path, replace(good, **{name: np.zeros((2,) * HALVES[name], np.float16)}))
    error = refusal_of(capi.CModel(library, tiny_bundle).load, path)
    assert error.kind == "INVERSION"
    assert f"needs '{name}', which the C library does not render; use the Python" in str(error)
