"""Quality against time: encoder alone, HyperStyle's iterations, refinements, pivotal tuning."""

from __future__ import annotations

import copy
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from evaluation.measure import Judges, compare, timed_iterations
from evaluation.metrics import average
from hyperstyle_export.networks.hyperstyle import HyperStyle as Networks
from hyperstyle_rt.imaging.pictures import side_by_side, to_input, to_picture
from hyperstyle_rt.model import Model
from hyperstyle_rt.types import Picture
from numpy.typing import NDArray

from .baselines import pivotal_tuning

Figures = dict[str, list[float]]
ENCODER = "encoder"
PLOTTED = (("psnr", "PSNR (dB)"), ("lpips", "LPIPS"))


@dataclass(frozen=True)
class Methods:
    """What is compared.

    Attributes
    ----------
    iterations:
        Of HyperStyle; the refinements start from the last.
    marks:
        Numbers of gradient steps of which each is a refinement of its own, annealed to its end.
    variables:
        What the refinements change.
    networks:
        The same model in torch for pivotal tuning; None to leave it out.
    tuning_steps:
        Of pivotal tuning; measured at each of `marks` up to it.
    """

    iterations: int
    marks: tuple[int, ...]
    variables: tuple[str, ...]
    networks: Networks | None
    tuning_steps: int


@dataclass(frozen=True)
class OnePicture:
    """Results for one picture by label, in the order they are shown.

    `seconds` counts from the picture: a refinement includes the inversion it starts from.
    """

    target: Picture
    results: dict[str, Picture]
    seconds: dict[str, float]


def run_methods(model: Model, target: Picture, methods: Methods, judges: Judges) -> OnePicture:
    """All methods on a picture of the generator's size."""
    pictures, times = timed_iterations(model, target, methods.iterations)
    labels = [ENCODER, *(f"iteration {n}" for n in range(1, len(pictures)))]
    results, seconds = (
        dict(zip(labels, pictures, strict=True)),
        dict(zip(labels, times, strict=True)),
    )
    inversion = model.invert(target, methods.iterations, align="never")
    for variable in methods.variables:
        for steps in methods.marks:
            start = time.perf_counter()
            refined = model.optimise(
                inversion, target, steps=steps, variables=(variable,), align="never"
            )
            label = f"{variable} {steps}"
            results[label] = refined.image
            seconds[label] = times[-1] + time.perf_counter() - start
    if methods.networks is not None and judges.lpips is not None:
        _tune(methods, inversion.latents, target, judges, results, seconds)
    return OnePicture(target, results, seconds)


def _tune(
    methods: Methods,
    latents: NDArray[np.float32],
    target: Picture,
    judges: Judges,
    results: dict[str, Picture],
    seconds: dict[str, float],
) -> None:
    assert methods.networks is not None and judges.lpips is not None
    start, spent = time.perf_counter(), 0.0

    def keep(done: int, image: torch.Tensor) -> None:
        nonlocal start, spent
        if done in methods.marks:
            spent += time.perf_counter() - start
            results[f"pti {done}"] = to_picture(image[0].numpy())
            seconds[f"pti {done}"] = seconds[ENCODER] + spent
            start = time.perf_counter()

    x = torch.from_numpy(to_input(target, target.shape[:2]))
    networks = copy.deepcopy(methods.networks)
    pivot = torch.from_numpy(latents)[None]
    with torch.inference_mode(False), torch.enable_grad():
        pivotal_tuning(networks, pivot, x, judges.lpips, methods.tuning_steps, keep)


def measure_quality(
    model: Model,
    targets: Sequence[Picture],
    methods: Methods,
    judges: Judges,
    on_done: Callable[[int], None],
) -> tuple[dict[str, Figures], list[OnePicture]]:
    """Figures of every method by label, one number a picture; and the pictures themselves."""
    first = model.invert(targets[0], 1, align="never")
    for variable in methods.variables:
        # The first run prepares kernels.
        model.optimise(first, targets[0], steps=1, variables=(variable,), align="never")
    table: dict[str, Figures] = {}
    all_done = []
    for number, target in enumerate(targets, 1):
        one = run_methods(model, target, methods, judges)
        with torch.inference_mode():
            found = compare(target, list(one.results.values()), judges)
        found["seconds"] = list(one.seconds.values())
        for column, label in enumerate(one.results):
            of_method = table.setdefault(label, {})
            for name, values in found.items():
                of_method.setdefault(name, []).append(values[column])
        all_done.append(one)
        on_done(number)
    return table, all_done


def summary(table: dict[str, Figures]) -> dict[str, dict[str, float]]:
    """Means over the pictures by label; of seconds the median."""
    return {
        label: {name: average(name, values) for name, values in figures.items()}
        for label, figures in table.items()
    }


def plot(means: dict[str, dict[str, float]]) -> bytes:
    """Quality against time as PNG: one line for each family of methods."""
    from matplotlib.figure import Figure

    shown = [item for item in PLOTTED if item[0] in next(iter(means.values()))]
    families: dict[str, list[str]] = {}
    for label in means:
        family = "Model" if label == ENCODER or label.startswith("iter") else label.split()[0]
        families.setdefault(family, []).append(label)
    figure = Figure(figsize=(5 * len(shown), 3.6), layout="constrained")
    for axes, (name, title) in zip(np.ravel(figure.subplots(1, len(shown))), shown, strict=True):
        for family, labels in families.items():
            seconds = [means[label]["seconds"] for label in labels]
            axes.plot(seconds, [means[n][name] for n in labels], "o-", label=family, markersize=3)
        axes.set(xlabel="seconds", ylabel=title, xscale="log")
        axes.grid(alpha=0.3)
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()


def sheet(all_done: Sequence[OnePicture], labels: Sequence[str]) -> Picture:
    """One row a picture: the input, then the results of these labels."""
    rows = [side_by_side([one.target, *(one.results[n] for n in labels)]) for one in all_done]
    return np.concatenate(rows)
