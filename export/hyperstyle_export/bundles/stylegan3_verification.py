"""A written bundle of StyleGAN3 beside its torch networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.inversion_file import InversionData
from hyperstyle_rt.imaging.pictures import to_input
from hyperstyle_rt.inversion import Inversion
from hyperstyle_rt.model import Model as Runtime
from hyperstyle_rt.types import Array
from numpy.typing import NDArray
from torch import Tensor

from ..networks.stylegan3_model import StyleGan3Model
from .staging import BuildError
from .verification import (
    ITERATIONS,
    MAX_IMAGE_ERROR_FP32,
    MIN_PSNR_FP16,
    MIN_PSNR_HALF,
    measure_encoder,
    on_cpu,
    psnr_db,
)

SEED = 0


@torch.no_grad()
def measure_stylegan3(
    model: StyleGan3Model, bundle: Bundle, picture: NDArray[np.uint8]
) -> dict[str, Any]:
    """Compare a bundle on ONNX Runtime's CPU provider with the torch networks.

    Parameters
    ----------
    picture:
        uint8 [H,W,3], which the encoders invert.

    Returns
    -------
    JSON-able figures: largest absolute differences of a random w and of its rendering, and the
    rendering's PSNR in dB (peak 2); of every encoder, under ``methods``, the same of an inversion.
    """
    x = torch.from_numpy(to_input(picture, model.input_size))
    with on_cpu(bundle) as runtime:
        z = _random(model.decoder.config.style_width)
        w = model.decoder.map(torch.from_numpy(z))
        latents = _latents(model, w)
        rendering = _rendered(runtime, latents)
        reference = model.generate(torch.from_numpy(latents)[None])[0][0].numpy()
        figures: dict[str, Any] = {
            "against": f"torch {torch.__version__} reference, float32",
            "provider": runtime.backend.provider,
            "iterations": ITERATIONS,
            "mapping_max_abs": float(np.abs(runtime.map(z) - w.numpy()).max()),
            "image_max_abs": [float(np.abs(rendering - reference).max())],
            "image_psnr_db": psnr_db(rendering, reference),
        }
        if model.encoders:
            figures["methods"] = {
                name: measure_encoder(model, encoder, runtime, picture, x)
                for name, encoder in model.encoders.items()
            }
    return figures


def check_stylegan3(figures: dict[str, Any], storage: str) -> None:
    """Refuse a bundle that does not compute what its networks compute.

    Raises
    ------
    BuildError
        If a figure is out of the bounds for its storage type.
    """
    for name, found in {"the generator": figures, **figures.get("methods", {})}.items():
        largest, psnr = max(found["image_max_abs"]), found["image_psnr_db"]
        if storage == "fp32" and not largest <= MAX_IMAGE_ERROR_FP32:  # true of NaN, too
            problem = f"largest image error {largest:.2g} above {MAX_IMAGE_ERROR_FP32:.2g}"
        elif storage != "fp32" and not psnr >= MIN_PSNR_FP16:
            problem = f"PSNR {psnr} dB below {MIN_PSNR_FP16} dB"
        else:
            continue
        raise BuildError(
            f"the {storage} bundle differs from its torch reference ({name}: {problem}) and was "
            "not written; please report the files, or use --storage fp32 if this is fp16."
        )


@torch.no_grad()
def measure_half_generator(
    model: StyleGan3Model, bundle: Bundle, rounded: Bundle
) -> dict[str, Any]:
    """Compare a rendering by fp16 graphs, whose halves are rounded, with that in float32.

    Parameters
    ----------
    rounded:
        By :func:`~.rounding.rounded_half`.

    Raises
    ------
    BuildError
        If the pictures differ by more than fp16 explains.
    """
    z = torch.from_numpy(_random(model.decoder.config.style_width))
    latents = _latents(model, model.decoder.map(z))
    with on_cpu(bundle) as runtime, on_cpu(rounded, "fp16") as half:
        psnr = psnr_db(_rendered(half, latents), _rendered(runtime, latents))
    if not psnr >= MIN_PSNR_HALF:  # not a number is out of bounds, too
        raise BuildError(
            f"the fp16 graphs of the generator differ from those in fp32 (PSNR {psnr} dB below "
            f"{MIN_PSNR_HALF} dB) and the bundle was not written; please report the checkpoint, or "
            "use --precision fp32."
        )
    return {"against": "fp32", "image_psnr_db": psnr}


def _random(width: int) -> Array:
    """One random z, [1,W]."""
    return np.random.default_rng(SEED).standard_normal((1, width), dtype=np.float32)


def _latents(model: StyleGan3Model, w: Tensor) -> Array:
    """A latent w [1,W] for all layers, [L,W]."""
    rows = model.decoder.config.num_latents
    return np.tile(w.numpy(), (rows, 1))


def _rendered(runtime: Runtime, latents: Array) -> Array:
    """A rendering [3,S,S] of latents [L,W]."""
    manifest = runtime.bundle.manifest
    data = InversionData(
        latents=latents,
        codes=None,
        iterations=0,
        space=manifest.space,
        code_space=None,
        bundle_name=manifest.name,
        bundle_digest=runtime.bundle.digest,
        method="none",
        settings={},
        computed={"backend": "cpu", "provider": runtime.backend.provider, "precision": "fp32"},
    )
    return runtime.synthesise(Inversion(data))[0]
