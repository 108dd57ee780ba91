"""A written bundle of MobileStyleGAN beside its torch networks, on a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.imaging.pictures import to_input
from numpy.typing import NDArray

from ..networks.mobile_model import MobileModel
from .staging import BuildError
from .verification import MIN_PSNR_FP16, on_cpu, psnr_db

MAX_ERROR_FP32 = 1e-4  # of pictures on the [-1,1] scale, and of latents


@torch.no_grad()
def measure_mobile(
    model: MobileModel, bundle: Bundle, picture: NDArray[np.uint8]
) -> dict[str, Any]:
    """Compare a bundle on ONNX Runtime's CPU provider with the torch networks.

    Parameters
    ----------
    picture:
        uint8 [H,W,3].

    Returns
    -------
    JSON-able figures: largest absolute differences of the latents and of the picture after an
    inversion by the default method; the picture's PSNR against the reference in dB (peak 2).
    """
    with on_cpu(bundle) as runtime:
        inversion = runtime.invert(picture, align="never")
        provider = runtime.backend.provider
    latents = model.encode(torch.from_numpy(to_input(picture, model.input_size)))
    expected = model.generator.synthesis(latents)[0].numpy()
    assert inversion.output is not None
    return {
        "against": f"torch {torch.__version__} reference, float32",
        "provider": provider,
        "latents_max_abs": float(np.abs(inversion.latents - latents[0].numpy()).max()),
        "image_max_abs": float(np.abs(inversion.output - expected).max()),
        "image_psnr_db": psnr_db(inversion.output, expected),
    }


def check_mobile(figures: dict[str, Any], storage: str) -> None:
    """Refuse a bundle that does not compute what its networks compute.

    Raises
    ------
    BuildError
        If a figure is out of the bounds for its storage type.
    """
    largest = max(figures["latents_max_abs"], figures["image_max_abs"])
    if storage == "fp32" and not largest <= MAX_ERROR_FP32:  # true of NaN, too
        problem = f"largest error {largest:.2g} above {MAX_ERROR_FP32:.2g}"
    elif storage != "fp32" and not figures["image_psnr_db"] >= MIN_PSNR_FP16:
        problem = f"PSNR {figures['image_psnr_db']} dB below {MIN_PSNR_FP16} dB"
    else:
        return
    raise BuildError(
        f"the {storage} bundle differs from its torch reference ({problem}) and was not written; "
        "please report the files, or use --storage fp32 if this is fp16."
    )
