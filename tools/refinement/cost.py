"""What a step costs: beside the generator's forward pass, and beside the same step in torch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from hyperstyle_export.networks.hyperstyle import HyperStyle as Networks
from hyperstyle_rt.imaging.pictures import to_input
from hyperstyle_rt.model import Model
from hyperstyle_rt.types import Picture
from numpy.typing import NDArray

from .baselines import torch_steps

Clock = Callable[[], float]


def timed(function: Callable[[], Any], clock: Clock) -> float:
    """Seconds of one call."""
    start = clock()
    function()
    return clock() - start


def step_against_generator(
    model: Model, picture: Picture, variable: str, repeats: int, clock: Clock
) -> dict[str, float]:
    """Medians of a whole step (weights, loss, gradient, Adam) and of the generator, by turns.

    Parameters
    ----------
    clock:
        `time.perf_counter` on an idle machine; `time.process_time` on a busy one, with one thread.
    """
    inversion, backend = model.invert(picture, 1, align="never"), model.backend
    assert inversion.codes is not None, "the method finds codes"
    weights = backend.run("weights", {"codes": backend.upload(inversion.codes[None])})
    inputs = {"latents": backend.upload(inversion.latents[None]), **weights}
    steps: list[float] = []
    generators: list[float] = []
    mark = clock()

    def note(done: int, _loss: float, _image: NDArray[np.float32]) -> None:
        nonlocal mark
        if done > 1:  # the first one prepares kernels
            steps.append(clock() - mark)
            generators.append(timed(lambda: backend.run("generator", inputs), clock))
        mark = clock()

    model.optimise(
        inversion, picture, steps=repeats + 1, variables=(variable,), on_step=note, align="never"
    )
    step, generator = statistics.median(steps), statistics.median(generators)
    return {"step": step, "generator": generator, "forward_passes": step / generator}


def beside_torch(
    model: Model,
    networks: Networks,
    picture: Picture,
    steps: int,
    repeats: int,
    clock: Clock,
) -> dict[str, float]:
    """Medians of as many steps in the runtime and in eager torch, by turns."""
    inversion = model.invert(picture, 1, align="never")
    assert inversion.codes is not None, "the method finds codes"
    manifest = model.bundle.manifest
    latents, codes, target, small = (
        torch.from_numpy(np.ascontiguousarray(array))
        for array in (
            inversion.latents[None],
            inversion.codes[None],
            to_input(picture, manifest.image_size),
            to_input(picture, manifest.input_size),
        )
    )
    contenders: Mapping[str, Callable[[], Any]] = {
        "runtime": lambda: model.optimise(inversion, picture, steps=steps, align="never"),
        "torch": lambda: torch_steps(networks, latents, codes, target, small, steps),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, function in contenders.items():
            spent = timed(function, clock)
            if turn:
                seconds[name].append(spent)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {**medians, "speed_up": medians["torch"] / medians["runtime"]}


CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
