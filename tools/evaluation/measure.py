"""Invert pictures with a bundle and measure every iteration."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hyperstyle_export.networks.lpips import Lpips
from hyperstyle_rt.formats.methods import Method as BundleMethod
from hyperstyle_rt.imaging.pictures import read_picture, resize_bilinear, to_picture
from hyperstyle_rt.inversion import Inversion
from hyperstyle_rt.model import Model
from numpy.typing import NDArray
from torch import Tensor, nn

from .identity import strangers
from .metrics import SSIM_SIDE, distance_of, ms_ssim, psnr, squared_error

Picture = NDArray[np.uint8]
FIGURES = ("l2", "psnr", "ms_ssim", "lpips", "identity", "distance", "seconds")


@dataclass(frozen=True)
class Judges:
    """Networks for LPIPS and identity; None where no file was given."""

    lpips: Lpips | None
    identity: nn.Module | None


@dataclass(frozen=True)
class Measured:
    """Figures of one method.

    labels are its results for a picture: of an inversion what T iterations begin with, and they.
    values[name] is [N,R] for the figures of FIGURES that were measured: N pictures, R results;
    seconds since the start. strangers is the mean identity similarity of an input to the other
    inputs: the value for different people. rows are [input, *results] of the first pictures.
    """

    method: str
    labels: tuple[str, ...]
    names: tuple[str, ...]
    values: dict[str, NDArray[np.float64]]
    strangers: float | None
    rows: tuple[tuple[Picture, ...], ...]


@dataclass(frozen=True)
class Method:
    """What is measured.

    Attributes
    ----------
    name, labels:
        As of `Measured`.
    size:
        (height, width) of its pictures.
    results:
        (number of the picture, uint8 [h,w,3]) -> a picture and the seconds it took, a label each.
    """

    name: str
    labels: tuple[str, ...]
    size: tuple[int, int]
    results: Callable[[int, Picture], tuple[list[Picture], list[float]]]


def inversion_method(model: Model, iterations: int) -> Method:
    """What there is before the first iteration, and every iteration; else what the method gives."""
    manifest = model.bundle.manifest
    name, size, method = manifest.name, manifest.image_size, manifest.method()
    before_iterations(model, np.zeros((*size, 3), np.uint8))  # the first run prepares kernels
    before = " + ".join(graphs_before(method))
    if method.iterating_phase is None:
        return Method(name, (before,), size, lambda _n, x: timed_iterations(model, x, 0))
    labels = (f"{before} only", *map(str, range(1, iterations + 1)))
    return Method(name, labels, size, lambda _n, x: timed_iterations(model, x, iterations))


def graphs_before(method: BundleMethod) -> list[str]:
    """The graphs that a method runs before the one that iterates."""
    return [phase.graph for phase in method.phases[: method.iterating_phase]]


def before_iterations(model: Model, picture: Picture) -> Inversion:
    """What the bundle's method begins to iterate with, or gives if it does not iterate."""
    iterates = model.bundle.manifest.method().iterating_phase is not None
    return model.invert(picture, 0 if iterates else None, align="never", effort="fast")


def generator_method(model: Model, latents: NDArray[np.float32]) -> Method:
    """The generator on the true latents [N,W] of the pictures."""
    manifest = model.bundle.manifest
    base = before_iterations(model, np.zeros((*manifest.image_size, 3), np.uint8))

    def results(number: int, _target: Picture) -> tuple[list[Picture], list[float]]:
        start = time.perf_counter()
        picture = model.render(base, np.repeat(latents[number, None], manifest.num_latents, 0))
        return [picture], [time.perf_counter() - start]

    name = f"{manifest.name}, generator"
    return Method(name, ("true factors",), manifest.image_size, results)


def measure(
    method: Method,
    paths: Sequence[Path],
    judges: Judges,
    shown: int,
    report: Callable[[int], None],
) -> Measured:
    """Measure all results of a method for every picture; `report(done)` after each.

    Pictures are compared as they would be saved, 8 bits, at the method's size but at most at the
    official 256 px (spec section 7), MS-SSIM always there.

    Raises
    ------
    PictureError
        If a picture cannot be read; it is named.
    """
    figures: dict[str, list[list[float]]] = {}
    rows: list[tuple[Picture, ...]] = []
    embeddings: list[Tensor] = []
    with torch.inference_mode():
        for done, path in enumerate(paths, start=1):
            target = resize_bilinear(read_picture(path), method.size)
            results, seconds = method.results(done - 1, target)
            of_one = compare(target, results, judges) | {"seconds": seconds}
            for name, values in of_one.items():
                figures.setdefault(name, []).append(values)
            if judges.identity is not None:
                embeddings.append(judges.identity(_tensor([target])))
            if len(rows) < shown:
                rows.append((target, *results))
            report(done)
    return Measured(
        method.name,
        method.labels,
        tuple(path.name for path in paths),
        {name: np.array(values) for name, values in figures.items()},
        strangers(torch.cat(embeddings)) if embeddings else None,
        tuple(rows),
    )


def timed_iterations(
    model: Model, target: Picture, iterations: int
) -> tuple[list[Picture], list[float]]:
    """The pictures before the first iteration and of every one, and when each was there."""
    start = time.perf_counter()
    alone = before_iterations(model, target).image
    results, seconds = [alone], [time.perf_counter() - start]
    start = time.perf_counter()

    def keep(_done: int, image: NDArray[np.float32], _codes: NDArray[np.float32] | None) -> None:
        seconds.append(time.perf_counter() - start)
        results.append(to_picture(image))

    if iterations:
        model.invert(target, iterations, on_iteration=keep, align="never")
    return results, seconds


def compare(target: Picture, results: Sequence[Picture], judges: Judges) -> dict[str, list[float]]:
    """All figures but the time of some pictures against one, all of one size."""
    square = (SSIM_SIDE, SSIM_SIDE)
    most = tuple(min(side, SSIM_SIDE) for side in target.shape[:2])
    goal, found = _resized([target], most), _resized(results, most)
    error = squared_error(found, goal)
    figures = {"l2": error.tolist(), "psnr": psnr(error).tolist()}
    if most != square:
        goal_square, squares = _resized([target], square), _resized(results, square)
    else:
        goal_square, squares = goal, found
    figures["ms_ssim"] = [ms_ssim(other[None], goal_square) for other in squares]
    if judges.lpips is not None:
        features = judges.lpips.features
        figures["lpips"] = judges.lpips.distance(features(found), features(goal)).tolist()
    if judges.identity is not None:
        cosines = (judges.identity(found) * judges.identity(goal)).sum(1)
        figures["identity"] = cosines.tolist()
        figures["distance"] = distance_of(cosines).tolist()
    return figures


def _resized(pictures: Sequence[Picture], size: tuple[int, ...]) -> Tensor:
    height, width = size
    return _tensor([resize_bilinear(picture, (height, width)) for picture in pictures])


def _tensor(pictures: Sequence[Picture]) -> Tensor:
    """Pictures as [B,3,h,w] in [-1,1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
