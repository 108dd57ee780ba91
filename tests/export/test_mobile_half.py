"""The generator of photographs in fp16, and read off a bundle whose wheel is not at hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hyperstyle_export.bundles.mobile_recovery import recover_mobile_generator
from hyperstyle_export.bundles.mobile_writer import (
    STRAIGHT,
    add_mobile_half_graphs,
    write_mobile_bundle,
)
from hyperstyle_export.bundles.rounding import write_rounded_half
from hyperstyle_export.bundles.staging import BuildError
from hyperstyle_export.bundles.verification import measure_half, psnr_db
from hyperstyle_export.bundles.writer import BundleFacts
from hyperstyle_export.networks.mobile_model import MobileModel
from hyperstyle_rt import Model
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from mobile_models import tiny_mobile_model
from numpy.typing import NDArray
from onnx import TensorProto

MIN_PSNR = 45.0


@pytest.fixture(scope="module")
def model() -> MobileModel:
    return tiny_mobile_model()


@pytest.fixture
def bundle(model: MobileModel, tmp_path: Path) -> Bundle:
    folder = tmp_path / "tinyfaces"
    folder.mkdir()
    return write_mobile_bundle(model, folder, BundleFacts("tinyfaces"), "fp32", silent)


def silent(_step: str) -> None:
    """Show no progress."""


def test_the_generator_is_read_off_its_graphs(model: MobileModel, bundle: Bundle) -> None:
    found = recover_mobile_generator(bundle)
    assert found.config == model.generator.config
    own = model.generator.state_dict()
    for name, tensor in found.state_dict().items():
        assert torch.allclose(tensor, own[name], rtol=1e-6, atol=0), name


def test_another_generator_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(BuildError, match="another generator"):
        recover_mobile_generator(Bundle.open(tiny_bundle))


def test_half_follows_float(model: MobileModel, bundle: Bundle, picture: NDArray[np.uint8]) -> None:
    """With every half really rounded; inputs and outputs stay float32."""
    half = add_mobile_half_graphs(model.generator, bundle, silent)
    assert set(half.manifest.precisions["fp16"]) == {"generator", "styled_generator"}
    assert half.manifest.space == bundle.manifest.space
    assert measure_half(half, picture, STRAIGHT)["image_psnr_db"] >= MIN_PSNR
    proto = onnx.load(half.directory / "generator.fp16.onnx")
    given = [*proto.graph.input, *proto.graph.output]
    assert {value.type.tensor_type.elem_type for value in given} == {TensorProto.FLOAT}
    types = {v.name: v.type.tensor_type.elem_type for v in proto.graph.value_info}
    maps = [node.output[0] for node in proto.graph.node if node.op_type == "LeakyRelu"]
    assert {types.get(name, TensorProto.FLOAT16) for name in maps} == {TensorProto.FLOAT16}


def test_the_bundle_faces_in_half(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    """One of its own faces, far from the mean."""
    single = Bundle.open(shutil.copytree(find_bundle("faces"), tmp_path / "faces"))
    bundle = add_mobile_half_graphs(recover_mobile_generator(single), single, silent)
    (tmp_path / "rounded").mkdir()
    rounded = write_rounded_half(bundle, tmp_path / "rounded")
    with Model.load(single.directory, "cpu") as opened:
        z = np.random.default_rng(3).standard_normal((1, 512)).astype(np.float32)
        latents = np.repeat(opened.map(z), single.manifest.num_latents, 0)
        found = opened.invert(picture, method="encoder", align="never")
        face = replace(found, data=replace(found.data, latents=latents))
        (expected,) = opened.synthesise(face)
    with Model.load(rounded.directory, "cpu", precision="fp16") as opened:
        (rendering,) = opened.synthesise(face)
    assert psnr_db(rendering, expected) >= MIN_PSNR
