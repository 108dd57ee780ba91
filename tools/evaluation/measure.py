"""Invert pictures with a bundle and measure every iteration."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hyperstyle_rt.imaging import read_picture, resize_bilinear, to_picture
from hyperstyle_rt.inversion import HyperStyle
from numpy.typing import NDArray
from torch import Tensor, nn
from training.lpips import Lpips

from .metrics import SSIM_SIDE, ms_ssim, psnr, squared_error

Picture = NDArray[np.uint8]
FIGURES = ("l2", "psnr", "ms_ssim", "lpips", "identity", "seconds")


@dataclass(frozen=True)
class Judges:
    """Networks for LPIPS and identity; None where no file was given."""

    lpips: Lpips | None
    identity: nn.Module | None


@dataclass(frozen=True)
class Measured:
    """Figures of one method.

    values[name] is [N,T+1] for the figures of FIGURES that were measured: N pictures, 0 the
    encoder alone and T iterations; seconds since the start of an inversion. strangers is the mean
    identity similarity of an input to the other inputs: what nothing in common looks like.
    rows are [input, encoder only, 1 .. T] of the first pictures.
    """

    method: str
    names: tuple[str, ...]
    values: dict[str, NDArray[np.float64]]
    strangers: float | None
    rows: tuple[tuple[Picture, ...], ...]


def measure(
    model: HyperStyle,
    paths: Sequence[Path],
    iterations: int,
    judges: Judges,
    shown: int,
    report: Callable[[int], None],
) -> Measured:
    """Invert every picture and measure all its iterations; `report(done)` after each.

    Pictures are compared as they would be saved, 8 bits, at the bundle's size but at most at the
    official 256 px (spec section 7), MS-SSIM always there.

    Raises
    ------
    PictureError
        If a picture cannot be read; it is named.
    """
    size = model.bundle.manifest.image_size
    model.invert(np.zeros((*size, 3), np.uint8), 0)  # the first run prepares kernels
    figures: dict[str, list[list[float]]] = {}
    rows: list[tuple[Picture, ...]] = []
    embeddings: list[Tensor] = []
    with torch.inference_mode():
        for done, path in enumerate(paths, start=1):
            target = resize_bilinear(read_picture(path), size)
            results, seconds = timed_iterations(model, target, iterations)
            of_one = compare(target, results, judges) | {"seconds": seconds}
            for name, values in of_one.items():
                figures.setdefault(name, []).append(values)
            if judges.identity is not None:
                embeddings.append(judges.identity(_tensor([target])))
            if len(rows) < shown:
                rows.append((target, *results))
            report(done)
    return Measured(
        model.bundle.manifest.name,
        tuple(path.name for path in paths),
        {name: np.array(values) for name, values in figures.items()},
        _strangers(embeddings),
        tuple(rows),
    )


def timed_iterations(
    model: HyperStyle, target: Picture, iterations: int
) -> tuple[list[Picture], list[float]]:
    """The pictures of the encoder alone and of every iteration, and when each was there."""
    start = time.perf_counter()
    alone = model.invert(target, 0).image
    results, seconds = [alone], [time.perf_counter() - start]
    start = time.perf_counter()

    def keep(_done: int, image: NDArray[np.float32], _codes: NDArray[np.float32]) -> None:
        seconds.append(time.perf_counter() - start)
        results.append(to_picture(image))

    if iterations:
        model.invert(target, iterations, on_iteration=keep)
    return results, seconds


def compare(target: Picture, results: Sequence[Picture], judges: Judges) -> dict[str, list[float]]:
    """All figures but the time of some pictures against one, all of one size."""
    most = tuple(min(side, SSIM_SIDE) for side in target.shape[:2])
    goal = _tensor([resize_bilinear(target, most)])
    found = _tensor([resize_bilinear(result, most) for result in results])
    error = squared_error(found, goal)
    figures = {"l2": error.tolist(), "psnr": psnr(error).tolist()}
    square = (SSIM_SIDE, SSIM_SIDE)
    large = _tensor([resize_bilinear(target, square)])
    figures["ms_ssim"] = [
        ms_ssim(_tensor([resize_bilinear(result, square)]), large) for result in results
    ]
    if judges.lpips is not None:
        features = judges.lpips.features
        figures["lpips"] = judges.lpips.distance(features(found), features(goal)).tolist()
    if judges.identity is not None:
        figures["identity"] = (judges.identity(found) * judges.identity(goal)).sum(1).tolist()
    return figures


def _tensor(pictures: Sequence[Picture]) -> Tensor:
    """Pictures as [B,3,h,w] in [-1,1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _strangers(embeddings: Sequence[Tensor]) -> float | None:
    if len(embeddings) < 2:
        return None
    vectors = torch.cat(list(embeddings))
    cosines = vectors @ vectors.T
    count = len(vectors)
    return float((cosines.sum() - cosines.trace()) / (count * (count - 1)))
