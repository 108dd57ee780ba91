"""Numbers of the official code, reproduced through the exported graphs in ONNX Runtime.

Tolerances are those of tests/golden/README.md. `make test-official` runs the whole method at 64 px
and the generator at 256, `make test-slow` the rest: a bundle of the official networks takes a
gigabyte, and ten to build.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import fakeweights
import numpy as np
import onnxruntime as ort
import pytest
import torch
from hyperstyle_export.bundles.adapted import load_adapted, write_adapted
from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.graphs.weights import base_weight
from hyperstyle_export.methods import GRAPHS, STYLED_GRAPHS
from hyperstyle_export.networks.config import (
    EncoderConfig,
    GeneratorConfig,
    HypernetworkConfig,
    HyperStyleConfig,
)
from hyperstyle_export.networks.hyperstyle import HyperStyle
from hyperstyle_export.readers.official import load_model
from hyperstyle_rt import Inversion
from hyperstyle_rt import Model as Runtime
from hyperstyle_rt.adaptation import Adaptation
from onnx_sessions import open_session
from synthetic import OFFICIAL_CHANNELS, official_config, write_checkpoints

pytestmark = pytest.mark.official
LATENTS_TOLERANCE = 1e-5
OFFSETS_TOLERANCE = 2e-5
IMAGE_TOLERANCE = 1e-4
GENERATOR_TOLERANCE = 5e-5
STATISTIC_TOLERANCE = 1e-4  # relative: std, absmax, l2
DOT_TOLERANCE = 2e-4  # of the norm

# Case -> size, layers to tune, seeds of the pictures, iterations.
CASES: dict[str, tuple[int, tuple[int, ...] | None, tuple[int, ...], int]] = {
    "hs64": (64, None, (1, 2), 5),
    "hs256": (256, None, (1,), 5),
    "hs256_all": (256, (), (2,), 2),
}


@pytest.fixture(
    scope="module",
    params=[
        "hs64",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("hs256", "hs256_all")),
    ],
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """(runtime model, golden arrays, seeds, iterations) of a case, built from checkpoint files."""
    size, layers, seeds, iterations = CASES[request.param]
    config = official_config(size) if layers is None else official_config(size, layers)
    scratch = tmp_path_factory.mktemp(request.param)
    bundle = scratch / "bundle"
    bundle.mkdir()
    write_bundle(
        load_model(*write_checkpoints(config, scratch)),
        bundle,
        BundleFacts(request.param),
        "fp32",
        lambda _step: None,
    )
    golden = np.load(Path(__file__).parents[1] / "golden" / f"{request.param}.npz")
    yield Runtime.load(bundle, "cpu"), golden, seeds, iterations
    shutil.rmtree(scratch)  # a gigabyte each


def test_inversion_follows_the_official_code(case: Any) -> None:
    model, golden, seeds, iterations = case
    for sample, seed in enumerate(seeds):
        picture = fakeweights.image_u8(seed)
        start = model.invert(picture, iterations=0)
        _close(start.latents, golden["codes"][sample], LATENTS_TOLERANCE)
        _close_image(start.output, golden, "y_init", sample)
        steps: list[tuple[int, np.ndarray, np.ndarray]] = []
        final = model.invert(picture, iterations, on_iteration=lambda *s, to=steps: to.append(s))
        assert [count for count, _, _ in steps] == list(range(1, iterations + 1))
        assert np.array_equal(steps[-1][1], final.output)
        for t, (count, image, codes) in enumerate(steps):
            _close_image(image, golden, f"y{t}", sample)
            data = replace(final.data, codes=codes, iterations=count)
            _close_offsets(model.offsets(Inversion(data)), golden, t, sample)


def test_encoder_and_hypernetwork_take_batches(case: Any) -> None:
    model, *_ = case
    pictures = np.concatenate([fakeweights.to_input(fakeweights.image_u8(s)) for s in (1, 2)])
    manifest = model.bundle.manifest
    codes = np.zeros((2, len(manifest.tuned_layers), manifest.codes.width), np.float32)

    def run(role: str, output: str, **inputs: np.ndarray) -> np.ndarray:
        uploaded = {name: model.backend.upload(array) for name, array in inputs.items()}
        return model.backend.download(model.backend.run(role, uploaded)[output])

    both = run("encoder", "latents", target=pictures)
    hyper = run(
        "hypernet", "codes_next", target=pictures, reconstruction=pictures[::-1], codes=codes
    )
    for i in (0, 1):
        one = slice(i, i + 1)
        _close(both[one], run("encoder", "latents", target=pictures[one]), LATENTS_TOLERANCE)
        other = slice(1 - i, 2 - i)
        alone = run(
            "hypernet",
            "codes_next",
            target=pictures[one],
            reconstruction=pictures[other],
            codes=codes[one],
        )
        _close(hyper[one], alone, LATENTS_TOLERANCE)
    assert np.abs(hyper[0] - hyper[1]).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("case", ["hs256"], indirect=True)
def test_domain_adaptation(case: Any, golden_dir: Path, tmp_path: Path) -> None:
    """A fine-tuned generator fed with latents of ReStyle and offsets of HyperStyle."""
    model, *_ = case
    schema = json.loads((golden_dir / "schema/stylegan2_rosinality_256.json").read_text())
    names = {f"g_ema.{key}" for key, *_ in schema["state_dict"]}
    generator = {
        key: torch.from_numpy(np.asarray(fakeweights.value(f"g_ema.{key}", shape, names)))
        for key, shape, _ in schema["state_dict"]
    }
    torch.save({"g_ema": generator}, tmp_path / "finetuned.pt")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    adapted = load_adapted(tmp_path / "finetuned.pt", model.bundle)
    write_adapted(adapted, model.bundle, bundle, BundleFacts("adapted"), lambda _step: None)
    golden = np.load(golden_dir / "misc.npz")
    data = model.invert(fakeweights.image_u8(1), iterations=2).data
    data = replace(data, latents=golden["da256/codes_restyle"][0])
    adaptation = Adaptation.load(bundle, "cpu")
    tuned = adaptation.bundle.manifest.tuned_layers
    kept = [tuned[row].index for row in adaptation.kept_layers()]
    assert kept == list(golden["da256/layers_used"])
    image = adaptation.synthesise(Inversion(data))
    for part, pixels in _parts(image, "area", "crop_centre").items():
        name = {"area": "img_area", "crop_centre": "img_crop_centre"}[part]
        _close(pixels, golden[f"da256/{name}"][0], IMAGE_TOLERANCE)


@lru_cache(maxsize=1)
def generator_only(size: int, tune_all: bool) -> HyperStyle:
    """A model of which only the decoder has values; the generator's graph needs no more."""
    generator = GeneratorConfig(OFFICIAL_CHANNELS[: size.bit_length() - 2])
    tuned = tuple(s.index for s in generator.layers if tune_all or not s.is_to_rgb)
    config = HyperStyleConfig(generator, EncoderConfig(), HypernetworkConfig(tuned, ()))
    with torch.device("meta"):
        model = HyperStyle(config)
    keys = {f"decoder.{k}": tuple(v.shape) for k, v in model.decoder.state_dict().items()}
    state = {
        k.removeprefix("decoder."): torch.from_numpy(
            np.asarray(fakeweights.value(k, shape, set(keys)))
        )
        for k, shape in keys.items()
    }
    model.decoder.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def generator_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """(model, session of its generator) by size and whether toRGB is tuned, the last one kept."""

    @lru_cache(maxsize=1)
    def opened(size: int, tune_all: bool) -> tuple[HyperStyle, ort.InferenceSession]:
        model = generator_only(size, tune_all)
        path = tmp_path_factory.mktemp("generator") / "generator.onnx"
        save_model(GRAPHS["generator"](model), path)
        return model, open_session(path)

    yield opened
    opened.cache_clear()
    generator_only.cache_clear()


@pytest.mark.parametrize(
    ("size", "which"),
    [
        (256, "none"),
        (256, "default"),
        pytest.param(256, "all", marks=pytest.mark.slow),
        pytest.param(1024, "none", marks=pytest.mark.slow),
        pytest.param(1024, "default", marks=pytest.mark.slow),
    ],
)
def test_generator_alone(
    size: int, which: str, golden_dir: Path, generator_alone: Callable[..., Any]
) -> None:
    model, session = generator_alone(size, which == "all")
    batch = 2 if size == 256 else 1
    latents = np.float32(0.5) * fakeweights.normal(
        "codes", (batch, model.config.generator.num_latents, 512)
    )
    golden = np.load(golden_dir / "misc.npz")
    state, weights = model.state_dict(), {}
    for layer in model.config.tuned:
        kernels = np.stack([base_weight(state, layer)] * batch)
        if which != "none":
            kernels *= 1 + np.float32(0.1) * fakeweights.normal(
                f"delta.{layer.index}", kernels.shape
            )
        weights[f"weight.{layer.name}"] = kernels
    for sample in range(batch):
        feeds = {name: kernels[sample] for name, kernels in weights.items()}
        feeds["latents"] = latents[sample : sample + 1]
        image = session.run(["rendering"], feeds)[0][0]
        for part, expected in _parts(image, "area64", "crop_centre48").items():
            key = f"gen{size}/{which}/{part}"
            _close(expected, golden[key][sample], GENERATOR_TOLERANCE)
        for part, pixels in {
            "crop_topleft32": image[:, :32, :32],
            "crop_bottomright32": image[:, -32:, -32:],
        }.items():
            _close(pixels, golden[f"gen{size}/{which}/{part}"][sample], GENERATOR_TOLERANCE)


def test_stylespace_edit(golden_dir: Path, tmp_path: Path) -> None:
    """Styles of the official generator, edited, through the graph `styled_generator`."""
    model = generator_only(256, tune_all=False)
    layers = model.config.generator.layers
    golden = np.load(golden_dir / "misc.npz")
    latents = np.float32(0.5) * fakeweights.normal("codes", (2, 14, 512))[:1]
    styles = torch.cat(model.decoder.styles(torch.from_numpy(latents)), dim=1)
    _close(styles[0].numpy(), golden["stylespace256/s"], GENERATOR_TOLERANCE)
    assert [layer.in_channels for layer in layers] == list(golden["stylespace256/widths"])
    parts = [
        np.zeros(layer.in_channels, np.float32)
        if layer.is_to_rgb
        else np.float32(1.5)
        * fakeweights.normal(f"dir.{layer.index}", (1, 1, layer.in_channels, 1, 1)).reshape(-1)
        for layer in layers
    ]
    feeds = {"latents": latents, "style_offsets": np.concatenate(parts)[None]}
    state = model.state_dict()
    for layer in model.config.tuned:
        shape = (2, *layer.weight_shape)
        offsets = np.float32(0.1) * fakeweights.normal(f"delta.{layer.index}", shape)[0]
        feeds[f"weight.{layer.name}"] = base_weight(state, layer) * (1 + offsets)
    for role, build in STYLED_GRAPHS.items():
        save_model(build(model), tmp_path / f"{role}.onnx")
    noise, session = (
        open_session(tmp_path / f"{role}.onnx") for role in ("noise", "styled_generator")
    )
    names = [output.name for output in noise.get_outputs()]
    feeds |= dict(zip(names, noise.run(names, {}), strict=True))
    image = session.run(["rendering"], feeds)[0][0]
    for part, pixels in _parts(image, "area64", "crop_centre48").items():
        _close(pixels, golden[f"stylespace256/img_edit_{part}"][0], GENERATOR_TOLERANCE)


def test_mapping_network(golden_dir: Path, tmp_path: Path) -> None:
    save_model(GRAPHS["mapping"](generator_only(256, tune_all=False)), tmp_path / "mapping.onnx")
    session = open_session(tmp_path / "mapping.onnx")
    w = session.run(["w"], {"z": fakeweights.normal("z", (4, 512))})[0]
    _close(w, np.load(golden_dir / "misc.npz")["mapping256/w"], GENERATOR_TOLERANCE)


def _parts(image: np.ndarray, *names: str) -> dict[str, np.ndarray]:
    """Views of an image [3,H,W] that the golden files hold in place of the whole."""
    channels, height, width = image.shape
    y, x = height // 2, width // 2
    blocks = image.reshape(channels, 64, height // 64, 64, width // 64)
    parts = {
        "area": blocks.mean((2, 4)),
        "area64": blocks.mean((2, 4)),
        "crop_tl": image[:, :64, :64],
        "crop_centre": image[:, y - 32 : y + 32, x - 32 : x + 32],
        "crop_centre48": image[:, y - 24 : y + 24, x - 24 : x + 24],
        "crop_br": image[:, -64:, -64:],
    }
    return {name: parts[name] for name in names}


def _close_image(image: np.ndarray, golden: Any, key: str, sample: int) -> None:
    """The whole array where the golden file has it, else its means and three crops."""
    if key in golden:
        _close(image, golden[key][sample], IMAGE_TOLERANCE)
        return
    for part, pixels in _parts(image, "area", "crop_tl", "crop_centre", "crop_br").items():
        _close(pixels, golden[f"{key}_{part}"][sample], IMAGE_TOLERANCE)


def _close_offsets(offsets: dict[int, np.ndarray], golden: Any, t: int, sample: int) -> None:
    assert list(offsets) == list(golden["layers"])
    for row, tensor in enumerate(offsets.values()):
        flat = tensor.reshape(-1)
        slices = golden[f"d{t}_slice"][row, sample]
        taken = flat[:: max(1, flat.size // 256)][:256]
        _close(taken, slices[: taken.size], OFFSETS_TOLERANCE)
        doubles = flat.astype(np.float64)
        norm = float(golden[f"d{t}_l2"][row, sample])
        mean, mean_square = doubles.mean(), doubles @ doubles / flat.size
        measured = {
            "std": np.sqrt(mean_square - mean**2),
            "absmax": max(flat.max(), -flat.min()),
            "l2": np.sqrt(mean_square * flat.size),
        }
        for name, value in measured.items():
            expected = golden[f"d{t}_{name}"][row, sample]
            assert abs(value - expected) <= STATISTIC_TOLERANCE * abs(expected), (row, name)
        dot = doubles @ _cosines(flat.size)
        assert abs(dot - golden[f"d{t}_dot"][row, sample]) <= DOT_TOLERANCE * norm, row


@cache
def _cosines(count: int) -> np.ndarray:
    """With what the golden dot products were made, by the size of the layer."""
    return np.cos(0.1 * np.arange(count))


def _close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Nowhere further apart than the tolerance; `pytest -rA` shows how far."""
    assert actual.shape == expected.shape
    error = np.abs(actual.astype(np.float64) - expected).max()
    print(f"error {error:.1e}, tolerance {tolerance:.0e}")
    assert error <= tolerance
