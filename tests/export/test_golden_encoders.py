"""pSp, e4e and ReStyle give the numbers of the official code, through their exported graphs.

`make test-official` runs one encoder of either kind; the whole methods take a minute and gigabytes
each.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import fakeweights
import numpy as np
import onnxruntime as ort
import pytest
import torch
from golden_encoders import (
    CASES,
    GOLDEN,
    LATENTS_TOLERANCE,
    build_case,
    check_encoder,
    check_image,
    check_iteration,
    check_latents_after,
    close,
    golden,
    load_graph_only,
    write_case,
)
from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.graphs.style_encoder import build_style_encoder
from hyperstyle_export.networks.style_encoder import StyleEncoder
from hyperstyle_export.readers.encoders import EncoderSource
from hyperstyle_export.readers.family import Sources, load_family
from hyperstyle_rt import Model as Runtime
from synthetic import encoder_config, official_config, write_checkpoints

FEED_FORWARD, RESTYLE = ("psp_256", "e4e_256"), ("restyle_psp_256", "restyle_e4e_256")
SMALL = ("e4e_256", "restyle_psp_256")  # one of either kind
AVERAGE_TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Runtime]]:
    """(case, its bundle)."""
    scratch = tmp_path_factory.mktemp(request.param)
    with Runtime.load(build_case(request.param, scratch), "cpu") as runtime:
        yield request.param, runtime
    shutil.rmtree(scratch)  # a gigabyte each


def run(model: Runtime, role: str, **inputs: np.ndarray) -> np.ndarray:
    buffers = {name: model.backend.upload(array) for name, array in inputs.items()}
    (output,) = model.backend.run(role, buffers).values()
    return np.asarray(model.backend.download(output))


@pytest.mark.parametrize("name", CASES)
def test_networks_have_the_keys_of_the_official_files(name: str) -> None:
    case = CASES[name]
    listed = json.loads((GOLDEN / "schema" / f"{case.schema}.json").read_text())["state_dict"]
    with torch.device("meta"):
        encoder = StyleEncoder(encoder_config(case.encoder_type, case.generator))
    own = {f"encoder.{key}": list(value.shape) for key, value in encoder.state_dict().items()}
    assert own == {key: shape for key, shape, _ in listed if key.startswith("encoder.")}


@pytest.mark.official
@pytest.mark.parametrize("name", SMALL)
def test_graphs_of_either_kind(name: str, tmp_path: Path) -> None:
    """The encoder's graph alone, which takes a tenth of a bundle's time: its first latents."""
    model, method = load_graph_only(name)
    save_model(build_style_encoder(model, method), tmp_path / "encoder.onnx")
    session = ort.InferenceSession(
        str(tmp_path / "encoder.onnx"), providers=["CPUExecutionProvider"]
    )
    feeds = {"target": fakeweights.to_input(fakeweights.image_u8(CASES[name].seeds[0]))}
    if method.kind.is_iterative:
        average = method.latent_avg[None]
        _, reconstruction = model.generate(average)
        feeds |= {"reconstruction": reconstruction.numpy(), "latents": average.numpy()}
    (latents,) = session.run(None, feeds)
    close(latents[0], golden()[f"{name}/codes"][0], LATENTS_TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("model", FEED_FORWARD, indirect=True)
def test_pyramids(model: tuple[str, Runtime]) -> None:
    name, runtime = model
    for sample, seed in enumerate(CASES[name].seeds):
        inversion = runtime.invert(fakeweights.image_u8(seed), align="never")
        check_encoder(name, sample, inversion.latents, inversion.output)
    pictures = [fakeweights.to_input(fakeweights.image_u8(seed)) for seed in CASES[name].seeds]
    both = run(runtime, name.removesuffix("_256"), target=np.concatenate(pictures))
    close(both, golden()[f"{name}/codes"], LATENTS_TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["psp_1024", "e4e_1024"], indirect=True)
def test_pyramids_at_1024(model: tuple[str, Runtime]) -> None:
    name, runtime = model
    target = fakeweights.to_input(fakeweights.image_u8(1))
    latents = run(runtime, name.removesuffix("_1024"), target=target)
    average = runtime.bundle.latent_average()
    close(latents - average, golden()[f"{name}/encoder_out"], LATENTS_TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("model", RESTYLE, indirect=True)
def test_restyle(model: tuple[str, Runtime]) -> None:
    """Average image, then every iteration."""
    name, runtime = model
    (seed,), count = CASES[name].seeds, 5
    picture = fakeweights.image_u8(seed)
    start = runtime.invert(picture, 0, align="never")
    check_image(start.output, golden(), f"{name}/avg_image", 0, AVERAGE_TOLERANCE)
    images: list[np.ndarray] = []
    final = runtime.invert(
        picture, count, on_iteration=lambda _n, image, _codes: images.append(image), align="never"
    )
    check_latents_after(name, count, final.latents)
    for number, image in enumerate(images, 1):
        check_iteration(name, number, image)
    assert len(images) == count


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", ["restyle_psp_resnet34_512", "restyle_e4e_resnet34_512"], indirect=True
)
def test_resnet_encoders(model: tuple[str, Runtime]) -> None:
    name, runtime = model
    target, other = (fakeweights.to_input(fakeweights.image_u8(s)) for s in CASES[name].seeds)
    average = runtime.bundle.latent_average()[None]
    role = name.removesuffix("_resnet34_512")
    latents = run(runtime, role, target=target, reconstruction=other, latents=average)
    close(latents - average, golden()[f"{name}/encoder_out"], LATENTS_TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["e4e_256", "restyle_e4e_256"])
def test_hyperstyle_goes_on_from_other_encoders(case: str, tmp_path: Path) -> None:
    """A bundle of official layout at 256, beside the composition of the networks in torch.

    Either is in memory only while it runs: together they would take six gigabytes.
    """
    checkpoints = write_checkpoints(official_config(256), tmp_path)
    sources = Sources(checkpoints, (EncoderSource(write_case(case, tmp_path)),))
    bundle, picture = tmp_path / "bundle", fakeweights.image_u8(1)
    bundle.mkdir()
    (name,) = _write_composed(sources, bundle)
    with Runtime.load(bundle, "cpu") as runtime:
        found = runtime.invert(picture, 2, method=f"hyperstyle+{name}", align="never")
    shutil.rmtree(bundle)
    family, target = load_family(sources), torch.from_numpy(fakeweights.to_input(picture))
    encoder = family.encoders[name]
    with torch.no_grad():
        *_, latents = encoder.invert(family.model, target, 5)
        # ReStyle's loop amplifies rounding with random weights: HyperStyle from its latents on.
        tolerance = 2e-3 if encoder.kind.is_iterative else LATENTS_TOLERANCE
        close(found.latents, latents[0].numpy(), tolerance)
        start = torch.from_numpy(found.latents)[None] if encoder.kind.is_iterative else latents
        *_, last = family.model.iterate_from(start, target, 2)
    close(found.output, last.image[0].numpy(), 1e-4)
    shutil.rmtree(tmp_path)  # gigabytes


def _write_composed(sources: Sources, bundle: Path) -> list[str]:
    """Write the bundle of a set of files; gives the methods of its encoders."""
    family = load_family(sources)
    facts = BundleFacts("composed")
    write_bundle(family.model, bundle, facts, "fp32", lambda _step: None, encoders=family.encoders)
    return list(family.encoders)
