"""StyleGAN3 in the C library: ReStyle as in Python, renderings as in the official code."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import fakeweights
import numpy as np
import pytest
from hyperstyle_export.bundles.stylegan3_writer import write_stylegan3_bundle
from hyperstyle_export.bundles.writer import BundleFacts
from hyperstyle_export.readers.encoders import EncoderSource, read_encoder
from hyperstyle_export.readers.family import Sources
from hyperstyle_export.readers.stylegan3_family import find_stylegan3, load_stylegan3
from hyperstyle_rt import Inversion, Model

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "export")]

import capi  # noqa: E402
from capi import random_picture, same_bytes  # noqa: E402
from stylegan3_files import GOLDEN, write_restyle  # noqa: E402

LEVEL = 1 / 127.5  # of 8 bits, on the [-1,1] scale


@pytest.fixture(scope="module", params=["t", "r"])
def golden_bundle(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """The golden generator, with a small encoder."""
    folder = tmp_path_factory.mktemp(request.param)
    file = write_restyle(folder / "e4e.pt", "ProgressiveBackboneEncoder", GOLDEN[request.param])
    sources = Sources(encoders=(EncoderSource(file),))
    read = [read_encoder(source) for source in sources.encoders]
    found = find_stylegan3(sources, read)
    assert found is not None
    model = load_stylegan3(*found, sources, read)
    (folder / "bundle").mkdir()
    facts = BundleFacts("golden", "noise")
    write_stylegan3_bundle(model, folder / "bundle", facts, "fp32", lambda _step: None)
    return request.param, folder / "bundle"


@pytest.mark.usefixtures("same_runtime")
def test_restyle_gives_what_it_gives_in_python(library, golden_bundle, tmp_path):
    _, directory = golden_bundle
    picture = random_picture(50, 70)
    ours = capi.CModel(library, directory).invert(picture, method=b"restyle-e4e")
    with Model.load(directory, "cpu") as python:
        theirs = python.invert(picture, method="restyle-e4e")
    np.testing.assert_array_equal(ours.latents, theirs.latents)
    np.testing.assert_array_equal(ours.image(capi.RGB_PLANES_F32), theirs.output)
    ours.save(tmp_path / "c.safetensors")
    theirs.save(tmp_path / "python.safetensors")
    assert same_bytes(tmp_path)


def test_golden_pictures(library, golden_bundle, golden_dir, tmp_path):
    """Latents of the golden data as an inversion file, rendered by either."""
    kind, directory = golden_bundle
    golden = np.load(golden_dir / "stylegan3.npz")
    rows = np.float32(0.5) * fakeweights.normal(f"sg3{kind}.ws", (2, 16, 64))
    c = capi.CModel(library, directory)
    with Model.load(directory, "cpu") as python:
        blank = python.invert(random_picture(64, 64), 0)
        for number in (0, 1):
            inversion = Inversion(replace(blank.data, latents=rows[number]))
            inversion.save(tmp_path / "face.safetensors")
            expected = golden[f"{kind}64/image"][number]
            assert np.abs(python.synthesise(inversion)[0] - expected).max() <= 2e-6
            picture = c.render(c.load(tmp_path / "face.safetensors"))[0] * LEVEL - 1
            assert np.abs(picture - expected.transpose(1, 2, 0)).max() <= 1.01 * LEVEL
        moved = python.synthesise(
            Inversion(replace(blank.data, latents=rows[0])),
            transform=golden[f"{kind}64/transform"],
        )
    assert np.abs(moved - golden[f"{kind}64/image_transformed"]).max() <= 2e-6
