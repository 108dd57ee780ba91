r"""Pivotal tuning: the runtime's steps against the same steps in eager PyTorch.

Both of its stages are compared: projection into W with noise maps, and tuning of all synthesis
weights. Both contenders run in processes of their own, turn by turn, from the same bundle; torch
takes the published generator, autograd and torch.optim.Adam. Figures are medians of single steps
(three or more, so that a first one does not count), ratios, peak memory, and how far apart the
pictures are after as many steps. Without --bundle the weights are synthetic, of the official layout
and LPIPS' AlexNet, and the hypernetwork, which has no part in this, is small.

    python -m benchmarking.pivotal_tuning --size 256 --steps 3
    python -m benchmarking.pivotal_tuning --bundle engines/portraits --clock wall --json pti.json
    python -m benchmarking.pivotal_tuning --bundle engines/portraits --backend openvino \
        --precision bf16
"""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from hyperstyle_rt.cli.outputs import check_writable, write_report
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.formats.manifest import BASE_PRECISION
from hyperstyle_rt.model import Model
from hyperstyle_rt.optimising.presets import PRESETS
from hyperstyle_rt.types import Array
from mistakes import one_sentence
from rich.console import Console
from rich.table import Table

from .inversion import Contender, Seconds, picture_u8

if TYPE_CHECKING:
    from hyperstyle_export.networks.lpips import Lpips

PROJECTION, TUNING = "projection", "tuning"
PRESET_OF = {PROJECTION: "projector", TUNING: "pti"}  # with a pivot, `pti` only tunes
RUNTIME, TORCH = "runtime", "torch"
PIVOT = "pivot.safetensors"

ALEXNET = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))
SMALL_TRUNK = (8, ((8, 1), (12, 1), (16, 1), (24, 1)))


def synthetic_lpips() -> Lpips:
    """LPIPS of AlexNet's shapes with random weights, always the same."""
    import torch
    from hyperstyle_export.networks.lpips import Lpips

    source = torch.Generator().manual_seed(0)
    convolutions = [
        (torch.randn(o, i, k, k, generator=source) * math.sqrt(2 / (i * k * k)), torch.zeros(o))
        for o, i, k in ALEXNET
    ]
    heads = [torch.rand(1, o, 1, 1, generator=source) for o, _, _ in ALEXNET]
    return Lpips(convolutions, heads)


def write_synthetic(size: int, directory: Path) -> None:
    """A bundle of the official generator of that size, into an existing directory."""
    import torch
    from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
    from hyperstyle_export.networks.config import TrunkConfig
    from hyperstyle_export.networks.hyperstyle import HyperStyle
    from synthetic import latent_average, official_config, synthetic_state

    config = official_config(size)
    small = replace(
        config.hypernetwork,
        trunk=TrunkConfig(*SMALL_TRUNK),
        code_width=16,
        shared_inner=8,
        ordinary_inner=12,
    )
    config = replace(config, hypernetwork=small)
    with torch.device("meta"):
        model = HyperStyle(config)
    state = synthetic_state(config) | {"latent_avg": latent_average(config)}
    model.load_state_dict(state, assign=True)
    model.eval().requires_grad_(False)
    facts = BundleFacts("synthetic")
    write_bundle(model, directory, facts, "fp32", lambda _step: None, synthetic_lpips())


def clock_of(name: str) -> Callable[[], float]:
    """A clock by its name.

    Raises
    ------
    HyperStyleError
        If there is none of that name.
    """
    from refinement.cost import CLOCKS

    if name not in CLOCKS:
        raise HyperStyleError(f"there is no clock {name!r}; choose wall or cpu")
    return CLOCKS[name]


def runtime_tuning(
    engine: tuple[str, str], bundle: Path, folder: Path, steps: int, threads: int, clock: str
) -> Callable[[], Seconds]:
    """Both stages in the runtime; the pivot and the last pictures are left in the folder.

    Parameters
    ----------
    engine:
        Backend and precision.
    """
    backend, precision = engine
    model = Model.load(bundle, backend, precision=precision, threads=threads)
    now = clock_of(clock)
    picture = picture_u8(model.bundle.manifest.image_size)

    def run() -> Seconds:
        found: Seconds = {}
        inversion = None
        for stage, preset in PRESET_OF.items():
            marks: list[float] = []
            renderings: list[Array] = []

            def note(
                _done: int,
                _loss: float,
                rendering: Array,
                marks: list[float] = marks,
                renderings: list[Array] = renderings,
            ) -> None:
                marks.append(now())
                renderings[:] = [rendering]

            inversion = model.optimise(
                inversion, picture, preset, steps=steps, on_step=note, align="never"
            )
            found[stage] = statistics.median(b - a for a, b in itertools.pairwise(marks))
            np.save(folder / f"{RUNTIME}-{stage}.npy", renderings[0])
            if stage == PROJECTION:
                inversion.save(folder / PIVOT)
        return found

    return run


def torch_tuning(
    bundle: Path, folder: Path, steps: int, threads: int, clock: str
) -> Callable[[], Seconds]:
    """Both stages in eager torch; tuning starts from the runtime's pivot."""
    import torch
    from hyperstyle_rt.backends.registry import open_backend
    from hyperstyle_rt.formats.inversion_file import read_inversion
    from hyperstyle_rt.optimising.latent_statistics import draw_latents, spread_of

    from .torch_descent import PROJECTOR, TorchDescent

    torch.set_num_threads(threads)
    opened, now = Bundle.open(bundle), clock_of(clock)
    facts = opened.manifest.objective
    lpips = None if facts is None or facts.perceptual == "encoder" else synthetic_lpips()
    backend = open_backend("cpu", opened, threads)
    spread = spread_of(draw_latents(opened, backend, PROJECTOR.from_mean))
    backend.close()
    descent = TorchDescent(opened, picture_u8(opened.manifest.image_size), lpips)

    def run() -> Seconds:
        pivot = read_inversion(folder / PIVOT)
        descended = {
            PROJECTION: descent.project(spread.mean, spread.deviation, steps, now),
            TUNING: descent.tune(pivot.latents, pivot.noise, steps, now),
        }
        for stage, result in descended.items():
            np.save(folder / f"{TORCH}-{stage}.npy", result.rendering)
        return {stage: statistics.median(result.seconds) for stage, result in descended.items()}

    return run


def psnr(a: Array, b: Array) -> float:
    """Of two renderings in [-1,1], in decibels; infinite if they are equal."""
    error = float(np.square(a.astype(np.float64) - b).mean())
    return 10 * math.log10(4 / error) if error else math.inf


def published(seconds: Seconds) -> float:
    """Seconds of as many steps of both stages as are published."""
    steps = [stage.steps for stage in PRESETS["pti"].stages]
    return sum(n * seconds[stage] for n, stage in zip(steps, PRESET_OF, strict=True))


def compare(
    bundle: Path, engine: tuple[str, str], steps: int, repeats: int, threads: int, clock: str
) -> dict[str, Any]:
    """Alternate the contenders; medians of single steps, ratios, peaks, likeness of pictures."""
    with tempfile.TemporaryDirectory() as scratch:
        makers: dict[str, Callable[..., Any]] = {
            RUNTIME: partial(runtime_tuning, engine),
            TORCH: torch_tuning,
        }
        folder = Path(scratch)
        contenders = {
            name: Contender(make, bundle, folder, steps, threads, clock)
            for name, make in makers.items()
        }
        for _ in range(repeats):
            for contender in contenders.values():
                contender.record()
        pictures = {
            stage: [np.load(folder / f"{name}-{stage}.npy") for name in makers]
            for stage in PRESET_OF
        }
        peaks = {name: contender.stop() for name, contender in contenders.items()}
    seconds = {
        name: {stage: statistics.median(run[stage] for run in each.runs) for stage in PRESET_OF}
        for name, each in contenders.items()
    }
    return {
        "seconds": seconds,
        "times_as_fast": {
            stage: seconds[TORCH][stage] / seconds[RUNTIME][stage] for stage in PRESET_OF
        },
        "whole": published(seconds[TORCH]) / published(seconds[RUNTIME]),
        "psnr": {stage: psnr(*pair) for stage, pair in pictures.items()},
        "peak_bytes": peaks,
    }


def main(
    bundle: Annotated[str | None, typer.Option(help="Default: synthetic weights.")] = None,
    size: Annotated[int, typer.Option(help="Generator size of the synthetic weights.")] = 256,
    steps: Annotated[int, typer.Option(min=1, help="Of each stage, in every turn.")] = 3,
    repeats: Annotated[int, typer.Option(min=1, help="Recorded turns.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each contender.")] = 1,
    clock: Annotated[str, typer.Option(help="wall on an idle machine; cpu on a busy one.")] = "cpu",
    backend: Annotated[str, typer.Option(help="Of the runtime; torch is eager float32.")] = "cpu",
    precision: Annotated[str, typer.Option(help="Of the runtime.")] = BASE_PRECISION,
    output: Annotated[Path | None, typer.Option("--json", help="Also write the figures.")] = None,
) -> None:
    """Time steps of pivotal tuning beside eager PyTorch, and compare the pictures."""
    with one_sentence():
        clock_of(clock)
        if output is not None:
            check_writable(output.parent, "--json")
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) if bundle is None else find_bundle(bundle)
            if bundle is None:
                write_synthetic(size, folder)
            Model.load(folder, backend, precision=precision).close()  # or is refused
            found = compare(folder, (backend, precision), steps, repeats, threads, clock)
            size = Bundle.open(folder).manifest.resolution
    settings = {"size": size, "backend": backend, "precision": precision}
    figures = {**settings, "steps": steps, "threads": threads, "clock": clock, **found}
    Console(stderr=True).print(as_table(figures))
    if output is not None:
        write_report(output, figures)


def as_table(figures: dict[str, Any]) -> Table:
    """The figures for people."""
    engine = f"{figures['backend']} {figures['precision']}"
    title = f"Pivotal tuning, {figures['size']} px, {engine}, {figures['threads']} threads"
    table = Table("a step of", "torch, s", "runtime, s", "times as fast", "pictures", title=title)
    for stage in PRESET_OF:
        table.add_row(
            stage,
            *(f"{figures['seconds'][name][stage]:.3f}" for name in (TORCH, RUNTIME)),
            f"{figures['times_as_fast'][stage]:.2f}",
            f"{figures['psnr'][stage]:.1f} dB after {figures['steps']} steps",
        )
    table.add_row("both, 450 and 350", "", "", f"{figures['whole']:.2f}")
    gib = (f"{figures['peak_bytes'][name] / 2**30:.2f} GiB" for name in (TORCH, RUNTIME))
    table.add_row("peak memory", *gib)
    return table


if __name__ == "__main__":
    typer.run(main)
