"""A written bundle, run as a user runs it, beside its torch reference on a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hyperstyle_rt.backends import open_backend
from hyperstyle_rt.bundle import Bundle
from hyperstyle_rt.imaging import to_input
from hyperstyle_rt.inversion import HyperStyle as Runtime
from numpy.typing import NDArray

from .bundle_writer import BuildError
from .networks.hyperstyle import HyperStyle

# Enough to have accumulated once; every further iteration repeats the same graphs.
ITERATIONS = 2

# What a correct bundle shows after ITERATIONS: images are on the [-1,1] scale.
MAX_ERROR_FP32 = 1e-3
MIN_PSNR_FP16 = 40.0


@torch.no_grad()
def measure_accuracy(
    model: HyperStyle, bundle: Bundle, picture: NDArray[np.uint8]
) -> dict[str, Any]:
    """Compare a bundle on ONNX Runtime's CPU provider with the torch reference.

    Parameters
    ----------
    picture:
        uint8 [H,W,3].

    Returns
    -------
    JSON-able figures: largest absolute differences of latents, codes and images after each
    iteration, and the PSNR of the last image against the reference's in dB (peak 2).
    """
    runtime = Runtime(bundle, open_backend("cpu", bundle, threads=None))
    images: list[NDArray[np.float32]] = []
    inversion = runtime.invert(
        picture, ITERATIONS, on_iteration=lambda _n, image, _codes: images.append(image)
    )
    x = torch.from_numpy(to_input(picture, bundle.manifest.input_size))
    latents = model.encode(x)
    *_, last = steps = list(model.iterate(x, ITERATIONS))
    reference = [step.image[0].numpy() for step in steps[1:]]
    errors = [float(np.abs(a - b).max()) for a, b in zip(images, reference, strict=True)]
    offsets = runtime.offsets(inversion)
    squared = float(np.square(images[-1] - reference[-1], dtype=np.float64).mean())
    return {
        "against": f"torch {torch.__version__} reference, float32",
        "provider": runtime.backend.provider,
        "iterations": ITERATIONS,
        "latents_max_abs": float(np.abs(inversion.latents - latents[0].numpy()).max()),
        "offsets_max_abs": max(
            float(np.abs(offsets[i] - d[0].numpy()).max()) for i, d in last.offsets.items()
        ),
        "image_max_abs": errors,
        "image_psnr_db": round(10 * np.log10(4 / max(squared, 1e-20)), 2),
    }


def check_accuracy(figures: dict[str, Any], storage: str) -> None:
    """Refuse a bundle that does not compute what its reference computes.

    Raises
    ------
    BuildError
        If a figure is out of the bounds for its storage type.
    """
    if storage == "fp32":
        worst = max(figures["offsets_max_abs"], *figures["image_max_abs"])
        good, bound = worst <= MAX_ERROR_FP32, f"largest error {worst:.2g} above {MAX_ERROR_FP32:g}"
    else:
        psnr = figures["image_psnr_db"]
        good, bound = psnr >= MIN_PSNR_FP16, f"PSNR {psnr} dB below {MIN_PSNR_FP16} dB"
    if not good:
        raise BuildError(
            f"the {storage} bundle differs from its torch reference ({bound}) and was not written; "
            "please report the checkpoint, or use --storage fp32 if this is fp16."
        )
