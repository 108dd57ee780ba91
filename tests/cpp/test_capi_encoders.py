"""pSp, e4e and ReStyle in the C library: as in Python, and as in the official code."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import fakeweights
import numpy as np
import pytest
from golden_encoders import (
    CASES,
    build_case,
    check_encoder,
    check_iteration,
    check_latents_after,
)
from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
from hyperstyle_export.readers.encoders import EncoderSource
from hyperstyle_export.readers.family import Sources, load_family
from hyperstyle_rt import Model
from models import tiny_encoder

sys.path[:0] = [str(Path(__file__).parent)]

import capi  # noqa: E402
from capi import random_picture, same_bytes  # noqa: E402

TYPES = ("GradualStyleEncoder", "Encoder4Editing", "ProgressiveBackboneEncoder")
METHODS = ("psp", "e4e", "restyle-e4e", "hyperstyle+e4e", "hyperstyle+restyle-e4e")


def write(sources: Sources, directory: Path) -> Path:
    directory.mkdir()
    family = load_family(sources)
    facts = BundleFacts("encoders")
    write_bundle(
        family.model, directory, facts, "fp32", lambda _step: None, encoders=family.encoders
    )
    return directory


@pytest.fixture(scope="module")
def bundle(tiny_checkpoints: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    files = [tiny_encoder(folder / f"{kind}.pt", kind) for kind in TYPES]
    sources = Sources(tiny_checkpoints, tuple(EncoderSource(file) for file in files))
    return write(sources, folder / "bundle")


@pytest.mark.usefixtures("same_runtime")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_what_it_gives_in_python(library, bundle, tmp_path, method):
    picture = random_picture(50, 70)
    ours = capi.CModel(library, bundle).invert(picture, method=method.encode())
    with Model.load(bundle, "cpu") as python:
        theirs = python.invert(picture, method=method)
    np.testing.assert_array_equal(ours.latents, theirs.latents)
    np.testing.assert_array_equal(ours.image(capi.RGB_PLANES_F32), theirs.output)
    assert (ours.method, ours.iterations) == (theirs.method, theirs.iterations)
    ours.save(tmp_path / "c.safetensors")
    theirs.save(tmp_path / "python.safetensors")
    assert same_bytes(tmp_path)


@pytest.mark.usefixtures("same_runtime")
def test_a_bundle_of_an_encoder_alone_that_has_its_own_start(library, tmp_path):
    """No codes, no kernels between graphs; ReStyle from an average that is not the bundle's."""
    psp = tiny_encoder(tmp_path / "psp.pt", "GradualStyleEncoder")
    restyle = tiny_encoder(tmp_path / "restyle.pt", "BackboneEncoder")
    family = load_family(Sources(encoders=(EncoderSource(psp), EncoderSource(restyle))))
    family.encoders["restyle-psp"].latent_avg += 0.25
    (tmp_path / "bundle").mkdir()
    write_bundle(
        family.model,
        tmp_path / "bundle",
        BundleFacts("alone"),
        "fp32",
        lambda _step: None,
        encoders=family.encoders,
    )
    picture = random_picture(64, 64)
    c = capi.CModel(library, tmp_path / "bundle")
    with Model.load(tmp_path / "bundle", "cpu") as python:
        for method in ("psp", "restyle-psp"):
            ours = c.invert(picture, method=method.encode())
            theirs = python.invert(picture, method=method)
            np.testing.assert_array_equal(ours.latents, theirs.latents)
            np.testing.assert_array_equal(ours.image(capi.RGB_PLANES_F32), theirs.output)
            np.testing.assert_array_equal(c.render(ours)[0], python.render(theirs))


@pytest.fixture(scope="module")
def golden_bundle(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """(case, its bundle), which C and Python run one after the other."""
    scratch = tmp_path_factory.mktemp(request.param)
    yield request.param, build_case(request.param, scratch)
    shutil.rmtree(scratch)  # a gigabyte each


@pytest.mark.slow
@pytest.mark.parametrize(
    "golden_bundle", ["psp_256", "e4e_256", "restyle_psp_256", "restyle_e4e_256"], indirect=True
)
def test_golden_numbers(library, golden_bundle):
    name, directory = golden_bundle
    picture = fakeweights.image_u8(CASES[name].seeds[0])
    images: list[np.ndarray] = []
    c = capi.CModel(library, directory)
    shape = (3, c.info.image_height, c.info.image_width)

    def note(_user, progress):
        images.append(np.ctypeslib.as_array(progress[0].rendering, shape).copy())
        return 0

    found = c.invert(picture, progress=capi.OnProgress(note))
    if not name.startswith("restyle"):
        check_encoder(name, 0, found.latents, found.image(capi.RGB_PLANES_F32))
        return
    check_latents_after(name, 5, found.latents)
    for number, image in enumerate(images, 1):
        check_iteration(name, number, image)
    assert len(images) == 5
