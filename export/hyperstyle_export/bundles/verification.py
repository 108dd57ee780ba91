"""A written bundle, run as a user runs it, beside its torch reference on a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.manifest import BASE_PRECISION
from hyperstyle_rt.imaging.pictures import to_input
from hyperstyle_rt.model import Model as Runtime
from numpy.typing import NDArray
from torch import Tensor

from ..methods import HYPERSTYLE
from ..networks.encoder_method import EncoderMethod
from ..networks.hyperstyle import HyperStyle
from ..networks.latent_layout import InvertibleModel
from .rounding import rounded_half
from .staging import BuildError

# Enough to have accumulated once; every further iteration repeats the same graphs.
ITERATIONS = 2

# What a correct bundle shows after ITERATIONS: images are on the [-1,1] scale, offsets are measured
# by the largest of them, but not finer than they can be read back from weights.
MAX_IMAGE_ERROR_FP32 = 1e-3
MAX_OFFSETS_ERROR_FP32 = 1e-3
OFFSETS_ROUNDING = 2e-5
MIN_PSNR_FP16 = 40.0

# The same for graphs in fp16, after a whole inversion.
HALF_ITERATIONS = 5
MIN_PSNR_HALF = 45.0


@torch.no_grad()
def measure_accuracy(
    model: HyperStyle,
    bundle: Bundle,
    picture: NDArray[np.uint8],
    encoders: Mapping[str, EncoderMethod] | None = None,
) -> dict[str, Any]:
    """Compare a bundle on ONNX Runtime's CPU provider with the torch reference.

    Parameters
    ----------
    picture:
        uint8 [H,W,3].
    encoders:
        Method to encoder, of those in the bundle beside the model's own.

    Returns
    -------
    JSON-able figures: largest absolute differences of latents, offsets and, after each iteration,
    images; the largest offset; the PSNR of the last image against the reference's in dB (peak 2).
    The same for every encoder, under ``methods``.
    """
    x = torch.from_numpy(to_input(picture, bundle.manifest.input_size))
    with on_cpu(bundle) as runtime:
        figures: dict[str, Any] = {
            "against": f"torch {torch.__version__} reference, float32",
            "provider": runtime.backend.provider,
            "iterations": ITERATIONS,
        }
        if model.has_hypernetwork:
            figures |= _measure_hyperstyle(model, runtime, picture, x)
        if encoders:
            figures["methods"] = {
                name: measure_encoder(model, encoder, runtime, picture, x)
                for name, encoder in encoders.items()
            }
    return figures


def _measure_hyperstyle(
    model: HyperStyle, runtime: Runtime, picture: NDArray[np.uint8], x: Tensor
) -> dict[str, Any]:
    images: list[NDArray[np.float32]] = []
    inversion = runtime.invert(
        picture,
        ITERATIONS,
        on_iteration=lambda _n, image, _codes: images.append(image),
        method=HYPERSTYLE,
        align="never",
    )
    expanded = runtime.offsets(inversion)
    latents = model.encode(x)
    *_, last = steps = list(model.iterate(x, ITERATIONS))
    reference = [step.image[0].numpy() for step in steps[1:]]
    errors = [float(np.abs(a - b).max()) for a, b in zip(images, reference, strict=True)]
    offsets = [(expanded[i], d[0].numpy()) for i, d in last.offsets.items()]
    return {
        "latents_max_abs": float(np.abs(inversion.latents - latents[0].numpy()).max()),
        "offsets_max_abs": float(np.max([np.abs(a - b).max() for a, b in offsets])),
        "offsets_largest": float(np.max([np.abs(b).max() for _, b in offsets])),
        "image_max_abs": errors,
        "image_psnr_db": psnr_db(images[-1], reference[-1]),
    }


def measure_encoder(
    model: InvertibleModel,
    encoder: EncoderMethod,
    runtime: Runtime,
    picture: NDArray[np.uint8],
    x: Tensor,
) -> dict[str, Any]:
    """Compare one encoder's inversion of a picture, of which `x` is the target [1,3,h,w]."""
    iterations = ITERATIONS if encoder.kind.is_iterative else None
    inversion = runtime.invert(picture, iterations, method=encoder.kind.method, align="never")
    *_, latents = encoder.invert(model, x, ITERATIONS)
    reference, image = model.generate(latents)[0][0].numpy(), inversion.output
    assert image is not None
    return {
        "latents_max_abs": float(np.abs(inversion.latents - latents[0].numpy()).max()),
        "image_max_abs": [float(np.abs(image - reference).max())],
        "image_psnr_db": psnr_db(image, reference),
    }


def check_accuracy(figures: dict[str, Any], storage: str) -> None:
    """Refuse a bundle that does not compute what its reference computes.

    Raises
    ------
    BuildError
        If a figure is out of the bounds for its storage type.
    """
    problems = _problems(figures, storage) if "offsets_max_abs" in figures else []
    for method, found in figures.get("methods", {}).items():
        problems += [f"{method}: {problem}" for problem in _problems(found, storage)]
    if problems:
        raise BuildError(
            f"the {storage} bundle differs from its torch reference ({', '.join(problems)}) and "
            "was not written; please report the checkpoint, or use --storage fp32 if this is fp16."
        )


def _problems(figures: Mapping[str, Any], storage: str) -> list[str]:
    """What of a method's figures is out of bounds."""
    psnr = figures["image_psnr_db"]
    if storage != "fp32":
        return [] if psnr >= MIN_PSNR_FP16 else [f"PSNR {psnr} dB below {MIN_PSNR_FP16} dB"]
    bounds = {"image": (float(np.max(figures["image_max_abs"])), MAX_IMAGE_ERROR_FP32)}
    if "offsets_max_abs" in figures:
        relative = MAX_OFFSETS_ERROR_FP32 * figures["offsets_largest"]
        bounds["offset"] = figures["offsets_max_abs"], max(OFFSETS_ROUNDING, relative)
    return [
        f"largest {name} error {error:.2g} above {bound:.2g}"
        for name, (error, bound) in bounds.items()
        if not error <= bound  # true of NaN, too
    ]


def measure_half(
    bundle: Bundle, picture: NDArray[np.uint8], methods: Sequence[str] | None = None
) -> dict[str, Any]:
    """Compare the fp16 graphs with the float32 ones through an inversion, every half rounded.

    Parameters
    ----------
    picture:
        uint8 [H,W,3].
    methods:
        By which; None for all that have graphs of their own.

    Returns
    -------
    JSON-able figures: number of iterations, PSNR of the last image in dB (peak 2), of the first
    method; that of the others under ``methods``.

    Raises
    ------
    BuildError
        If the images differ by more than fp16 explains.
    """
    every = [name for name in bundle.manifest.methods if "+" not in name]  # those reuse graphs
    names = every if methods is None else methods
    with on_cpu(bundle) as runtime:
        expected = [_output(runtime, picture, name) for name in names]
    with rounded_half(bundle) as rounded, on_cpu(rounded, "fp16") as half:
        outputs = [_output(half, picture, name) for name in names]
    ratios = {n: psnr_db(a, b) for n, a, b in zip(names, outputs, expected, strict=True)}
    for name, psnr in ratios.items():
        if not psnr >= MIN_PSNR_HALF:  # not a number is out of bounds, too
            raise BuildError(
                f"the fp16 graphs of {name} differ from those in fp32 (PSNR {psnr} dB below "
                f"{MIN_PSNR_HALF} dB) and the bundle was not written; please report the "
                "checkpoint, or use --precision fp32."
            )
    first, *others = ratios
    iterations = _iterations(bundle, first) or 0
    figures = {"against": "fp32", "iterations": iterations, "image_psnr_db": ratios[first]}
    return figures | ({"methods": {name: ratios[name] for name in others}} if others else {})


def _output(runtime: Runtime, picture: NDArray[np.uint8], method: str) -> NDArray[np.float32]:
    iterations = _iterations(runtime.bundle, method)
    output = runtime.invert(picture, iterations, method=method, align="never").output
    assert output is not None
    return output


def _iterations(bundle: Bundle, method: str) -> int | None:
    """How many are compared; None of a method that does not iterate."""
    return None if bundle.manifest.method(method).iterating_phase is None else HALF_ITERATIONS


def on_cpu(bundle: Bundle, precision: str = BASE_PRECISION) -> Runtime:
    """The bundle on ONNX Runtime's CPU provider; a context manager that closes it."""
    return Runtime.load(bundle.directory, "cpu", precision=precision)


def psnr_db(image: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """In dB, for a peak of 2."""
    squared = float(np.square(image - reference, dtype=np.float64).mean())
    return round(float(10 * np.log10(4 / max(squared, 1e-20))), 2)
