"""pSp, e4e and ReStyle give the numbers of the official code, through their exported graphs.

One small case of each kind is run by `make test`; the others take a minute and gigabytes each.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import fakeweights
import numpy as np
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
)
from hyperstyle_export.networks.style_encoder import StyleEncoder
from hyperstyle_rt import Model as Runtime
from synthetic import encoder_config

FEED_FORWARD, RESTYLE = ("psp_256", "e4e_256"), ("restyle_psp_256", "restyle_e4e_256")
SMALL = ("e4e_256", "restyle_psp_256")
AVERAGE_TOLERANCE = 1e-4


def cases(*names: str) -> list[object]:
    """Parameters; all but the small ones are marked slow."""
    return [n if n in SMALL else pytest.param(n, marks=pytest.mark.slow) for n in names]


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


@pytest.mark.parametrize("model", cases(*FEED_FORWARD), indirect=True)
def test_pyramids(model: tuple[str, Runtime]) -> None:
    name, runtime = model
    for sample, seed in enumerate(CASES[name].seeds):
        inversion = runtime.invert(fakeweights.image_u8(seed), align="never")
        check_encoder(name, sample, inversion.latents, inversion.output)
        if name in SMALL:
            return
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


@pytest.mark.parametrize("model", cases(*RESTYLE), indirect=True)
def test_restyle(model: tuple[str, Runtime]) -> None:
    """Average image, then every iteration; the small case stops after one."""
    name, runtime = model
    (seed,), count = CASES[name].seeds, 1 if name in SMALL else 5
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
