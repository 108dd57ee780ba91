"""A written bundle of IDInvert beside its torch networks, on a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.imaging.pictures import to_input
from numpy.typing import NDArray

from ..networks.idinvert import IdInvertModel
from .verification import on_cpu, psnr_db


def measure_idinvert(
    model: IdInvertModel, bundle: Bundle, picture: NDArray[np.uint8]
) -> dict[str, Any]:
    """Compare a bundle on ONNX Runtime's CPU provider with the torch networks in float64.

    In float32 they are further from float64 than the bundle is: with random weights of the official
    sizes their picture by 4e-5 and more, the bundle's by 2e-5. A good bundle would be refused.

    Parameters
    ----------
    picture:
        uint8 [H,W,3].

    Returns
    -------
    JSON-able figures, as `mobile_verification.check_mobile` takes them: largest absolute
    differences of the latents and of the picture after an inversion by the encoder; the picture's
    PSNR against the reference in dB (peak 2).
    """
    with on_cpu(bundle) as runtime:
        inversion = runtime.invert(picture, align="never")
        provider = runtime.backend.provider
    target = torch.from_numpy(to_input(picture, model.input_size))
    networks = (model.encoder, model.generator)
    for network in networks:
        network.double()
    latents, pictures = model.invert(target.double())
    for network in networks:
        network.float()
    expected = pictures[0].numpy()
    assert inversion.output is not None
    return {
        "against": f"torch {torch.__version__} reference, float64",
        "provider": provider,
        "latents_max_abs": float(np.abs(inversion.latents - latents[0].numpy()).max()),
        "image_max_abs": float(np.abs(inversion.output - expected).max()),
        "image_psnr_db": psnr_db(inversion.output, expected),
    }
