"""IDInvert in the C library: as in Python, and as in the official code."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from golden_idinvert import PICTURES, check_latents, check_reconstruction
from hyperstyle_export.bundles.idinvert_writer import write_idinvert_bundle
from hyperstyle_export.bundles.writer import BundleFacts
from hyperstyle_export.readers.idinvert import read_idinvert
from hyperstyle_rt import Model
from synthetic.idinvert import OFFICIAL, TINY, Sizes, write_files

sys.path[:0] = [str(Path(__file__).parent)]

import capi  # noqa: E402
from capi import random_picture, same_bytes  # noqa: E402


def build(folder: Path, sizes: Sizes) -> Path:
    files = write_files(folder, sizes)
    directory = folder / "bundle"
    directory.mkdir()
    model = read_idinvert(files["generator"], files["encoder"])
    write_idinvert_bundle(model, directory, BundleFacts("idinvert"), "fp32", lambda _step: None)
    return directory


@pytest.mark.usefixtures("same_runtime")
def test_it_gives_what_it_gives_in_python(library, tmp_path):
    bundle = build(tmp_path, TINY)
    picture = random_picture(50, 70)
    c = capi.CModel(library, bundle)
    ours = c.invert(picture, method=b"idinvert")
    with Model.load(bundle, "cpu") as python:
        theirs = python.invert(picture, method="idinvert")
        np.testing.assert_array_equal(c.render(ours)[0], python.render(theirs))
    np.testing.assert_array_equal(ours.latents, theirs.latents)
    np.testing.assert_array_equal(ours.image(capi.RGB_PLANES_F32), theirs.output)
    assert (ours.method, ours.iterations) == ("idinvert", theirs.iterations)
    (tmp_path / "files").mkdir()
    ours.save(tmp_path / "files" / "c.safetensors")
    theirs.save(tmp_path / "files" / "python.safetensors")
    assert same_bytes(tmp_path / "files")


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    scratch = tmp_path_factory.mktemp("official")
    yield build(scratch, OFFICIAL)
    shutil.rmtree(scratch)  # gigabytes


@pytest.mark.slow
def test_golden_numbers(library, official):
    found = capi.CModel(library, official).invert(PICTURES[0])
    check_latents(found.latents, 0)
    check_reconstruction(found.image(capi.RGB_PLANES_F32))
