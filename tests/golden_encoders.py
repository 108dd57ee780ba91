"""The golden runs of pSp, e4e and ReStyle, as bundles; numbers of the official code.

Tolerances are those of tests/golden/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fakeweights
import numpy as np
import torch
from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
from hyperstyle_export.networks.config import GeneratorConfig
from hyperstyle_export.networks.encoder_kinds import ENCODER_KINDS
from hyperstyle_export.networks.encoder_method import EncoderMethod
from hyperstyle_export.networks.generator import Generator
from hyperstyle_export.networks.hyperstyle import HyperStyle
from hyperstyle_export.networks.style_encoder import StyleEncoder
from hyperstyle_export.readers.encoders import EncoderSource
from hyperstyle_export.readers.family import Sources, load_family
from synthetic import OFFICIAL_CHANNELS, encoder_config, write_encoder

GOLDEN = Path(__file__).parent / "golden"

LATENTS_TOLERANCE, IMAGE_TOLERANCE = 1e-4, 3e-4
RESTYLE_LATENTS_TOLERANCE, RESTYLE_IMAGE_TOLERANCE = 2e-3, 5e-3  # after the fifth iteration
# The first has amplified nothing yet; by the fifth, rounding has grown a hundredfold.
FIRST_LATENTS_TOLERANCE, FIRST_IMAGE_TOLERANCE = 1e-4, 5e-4


@dataclass(frozen=True)
class Case:
    """A golden run.

    Attributes
    ----------
    encoder_type:
        Official class.
    size:
        Of the generator.
    seeds:
        Of the pictures.
    schema:
        The official file's keys, in `golden/schema`.
    """

    encoder_type: str
    size: int
    seeds: tuple[int, ...]
    schema: str

    @property
    def generator(self) -> GeneratorConfig:
        return GeneratorConfig(OFFICIAL_CHANNELS[: self.size.bit_length() - 2])


CASES = {
    "psp_256": Case("GradualStyleEncoder", 256, (1, 2), "psp_GradualStyleEncoder_256"),
    "e4e_256": Case("Encoder4Editing", 256, (1, 2), "e4e_Encoder4Editing_256"),
    "psp_1024": Case("GradualStyleEncoder", 1024, (1,), "psp_GradualStyleEncoder_1024"),
    "e4e_1024": Case("Encoder4Editing", 1024, (1,), "e4e_Encoder4Editing_1024"),
    "restyle_psp_256": Case("BackboneEncoder", 256, (1,), "restyle_psp_BackboneEncoder_256"),
    "restyle_e4e_256": Case("ProgressiveBackboneEncoder", 256, (1,), "restyle_e4e_256"),
    "restyle_psp_resnet34_512": Case(
        "ResNetBackboneEncoder", 512, (1, 2), "restyle_psp_ResNetBackboneEncoder_512"
    ),
    "restyle_e4e_resnet34_512": Case(
        "ResNetProgressiveBackboneEncoder", 512, (1, 2), "restyle_e4e_resnet34_512"
    ),
}


def write_case(name: str, directory: Path) -> Path:
    """Write the file of a case as the official training does; gives its path."""
    case = CASES[name]
    config = encoder_config(case.encoder_type, case.generator)
    opts = {"dataset_type": "ffhq_encode", "output_size": case.size}
    return write_encoder(directory / f"{name}.pt", case.encoder_type, config, case.generator, opts)


def build_case(name: str, directory: Path) -> Path:
    """Write a case's file and make a bundle of it; the file is removed again."""
    file = write_case(name, directory)
    family = load_family(Sources(encoders=(EncoderSource(file),)))
    bundle = directory / "bundle"
    bundle.mkdir()
    facts = BundleFacts(name)
    write_bundle(family.model, bundle, facts, "fp32", lambda _step: None, encoders=family.encoders)
    del family
    file.unlink()
    return bundle


def load_graph_only(name: str) -> tuple[HyperStyle, EncoderMethod]:
    """The encoder of a case; the generator only where its first latents are rendered."""
    case = CASES[name]
    config = encoder_config(case.encoder_type, case.generator)
    kind = ENCODER_KINDS[case.encoder_type]
    with torch.device("meta"):
        modules = {"encoder": StyleEncoder(config), "decoder": Generator(case.generator)}
    for prefix, module in modules.items():
        if prefix == "encoder" or kind.is_iterative:
            shapes = {f"{prefix}.{k}": tuple(v.shape) for k, v in module.state_dict().items()}
            state = {
                key.removeprefix(f"{prefix}."): torch.from_numpy(
                    np.asarray(fakeweights.value(key, shape, set(shapes)))
                )
                for key, shape in shapes.items()
            }
            module.load_state_dict(state, assign=True)
    method = EncoderMethod(kind, modules["encoder"]).eval().requires_grad_(False)
    shape = (case.generator.num_latents, 512)
    method.latent_avg = torch.from_numpy(fakeweights.value("latent_avg", shape, set()))
    return HyperStyle.of_generator(modules["decoder"]), method


def golden() -> Mapping[str, Any]:
    """The arrays of all cases."""
    arrays: Mapping[str, Any] = np.load(GOLDEN / "encoders.npz")
    return arrays


def check_encoder(name: str, sample: int, latents: np.ndarray, image: np.ndarray) -> None:
    """Latents [L,W] and rendering [3,256,256] of a picture, against the official ones."""
    arrays = golden()
    close(latents, arrays[f"{name}/codes"][sample], LATENTS_TOLERANCE)
    check_image(image, arrays, f"{name}/y_hat", sample, IMAGE_TOLERANCE)


def check_iteration(name: str, number: int, image: np.ndarray) -> None:
    """The rendering after iteration `number`, from 1."""
    tolerance = FIRST_IMAGE_TOLERANCE if number == 1 else RESTYLE_IMAGE_TOLERANCE
    check_image(image, golden(), f"{name}/y_hat", number - 1, tolerance)


def check_latents_after(name: str, number: int, latents: np.ndarray) -> None:
    """The latents [L,W] after iteration `number`, from 1."""
    tolerance = FIRST_LATENTS_TOLERANCE if number == 1 else RESTYLE_LATENTS_TOLERANCE
    close(latents, golden()[f"{name}/codes"][number - 1], tolerance)


def check_image(
    image: np.ndarray, arrays: Mapping[str, Any], key: str, sample: int, tolerance: float
) -> None:
    """An image [3,256,256] by its 64 x 64 means and its centre."""
    means = image.reshape(3, 64, 4, 64, 4).mean((2, 4))
    close(means, arrays[f"{key}_area"][sample], tolerance)
    close(image[:, 96:160, 96:160], arrays[f"{key}_crop_centre"][sample], tolerance)


def close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Both finite and nowhere further apart than the tolerance; `pytest -rA` shows how far."""
    assert actual.shape == expected.shape
    error = np.abs(actual.astype(np.float64) - expected).max()
    print(f"error {error:.1e}, tolerance {tolerance:.0e}")
    assert error <= tolerance
