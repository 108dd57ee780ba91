"""ONNX Runtime on the CPU renders one picture by the graph whose convolutions are by tiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hyperstyle_rt import Inversion, Model
from hyperstyle_rt.backends.ort import OnnxRuntimeBackend

TILED = "tiled_generator"


@pytest.fixture(scope="module")
def wide_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a generator that has as many channels at 64 px as tiles are worth it for."""
    pytest.importorskip("torch")
    from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
    from hyperstyle_export.graphs.tiled import FEWEST_WITHOUT_GRADIENT
    from models import TINY, build_model

    channels = (*TINY.generator.channels, FEWEST_WITHOUT_GRADIENT)
    config = replace(
        TINY,
        generator=replace(TINY.generator, channels=channels),
        hypernetwork=replace(TINY.hypernetwork, tuned_layers=(5, 6, 12), shared_layers=()),
    )
    directory = tmp_path_factory.mktemp("wide")
    model = build_model(config)
    write_bundle(model, directory, BundleFacts("wide"), "fp32", lambda _step: None)
    return directory


def test_tiles_only_where_a_layer_gains(wide_bundle: Path, tiny_bundle: Path) -> None:
    graphs = Model.load(wide_bundle, "cpu").bundle.manifest.graphs
    assert TILED in graphs
    assert graphs["generator"].macs > graphs[TILED].macs
    assert TILED not in Model.load(tiny_bundle, "cpu").bundle.manifest.graphs


def test_one_picture_is_rendered_by_tiles(wide_bundle: Path, picture: np.ndarray) -> None:
    def invert(tiles: bool) -> tuple[Inversion, set[str]]:
        with Model.load(wide_bundle, "cpu", threads=1) as model:
            backend = model.backend
            assert isinstance(backend, OnnxRuntimeBackend)
            backend._has_tiles &= tiles
            return model.invert(picture, 3, align="never"), {*backend._graphs}

    (plain, without), (tiled, used) = invert(False), invert(True)
    assert "generator" in without and TILED not in without
    assert TILED in used and "generator" not in used
    np.testing.assert_allclose(tiled.output, plain.output, rtol=0, atol=2e-5)
    assert not np.array_equal(tiled.output, plain.output)


def test_several_at_once_are_not(wide_bundle: Path) -> None:
    model = Model.load(wide_bundle, "cpu", threads=1)
    backend, manifest = model.backend, model.bundle.manifest
    assert isinstance(backend, OnnxRuntimeBackend)
    codes = np.zeros((1, len(manifest.tuned_layers), manifest.codes.width), np.float32)
    kernels = backend.run("weights", {"codes": backend.upload(codes)})
    shape = manifest.num_latents, manifest.latent_width
    latents = np.random.default_rng(1).standard_normal((2, *shape), np.float32)

    def render(rows: np.ndarray) -> np.ndarray:
        outputs = backend.run("generator", {"latents": backend.upload(rows), **kernels})
        return backend.download(outputs["rendering"])

    both = render(latents)
    assert TILED not in backend._graphs
    alone = np.concatenate([render(latents[:1]), render(latents[1:])])
    assert TILED in backend._graphs
    np.testing.assert_allclose(alone, both, rtol=0, atol=2e-5 * np.abs(both).max())
