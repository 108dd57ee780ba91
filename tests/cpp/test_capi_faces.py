"""The bundle of photographs in the C library: feed-forward, as in Python."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hyperstyle_rt import Inversion, Model
from hyperstyle_rt.imaging.pictures import read_picture

sys.path[:0] = [str(Path(__file__).parent)]

import capi  # noqa: E402
from capi import same_bytes  # noqa: E402

FACES = capi.REPOSITORY / "engines" / "faces"
PHOTO = capi.REPOSITORY / "examples" / "astronaut.jpg"
CROP = slice(0, 256), slice(96, 352)  # about the face: C takes pictures as they are


@pytest.mark.usefixtures("same_runtime")
def test_a_photograph_is_inverted_as_in_python(library, tmp_path):
    """Its state between the graphs has more than latents, and there are no codes."""
    picture = np.ascontiguousarray(read_picture(PHOTO)[CROP])
    c = capi.CModel(library, FACES)
    ours = c.invert(picture, iterations=1)
    with Model.load(FACES, "cpu") as python:
        theirs = python.invert(picture, 1, align="never")
        np.testing.assert_array_equal(ours.latents, theirs.latents)
        np.testing.assert_array_equal(ours.image(), theirs.image)
        assert ours.codes is None and theirs.codes is None
        assert (ours.method, ours.iterations) == ("restyle", 1)
        ours.save(tmp_path / "c.safetensors")
        theirs.save(tmp_path / "python.safetensors")
        assert same_bytes(tmp_path)
        np.testing.assert_array_equal(
            python.render(Inversion.load(tmp_path / "c.safetensors")), theirs.image
        )
        direction = python.directions["smile"].vector
        edited = python.edit(theirs, {"smile": 1.0}).image
        np.testing.assert_array_equal(c.edit(ours, direction, 1.0), edited)
