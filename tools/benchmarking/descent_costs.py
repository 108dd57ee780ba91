"""What a gradient step costs by what it changes: time, and peak memory of the whole process.

Every set of variables is run in a process of its own, which opens the graphs that it needs and no
others, and starts from a saved inversion; `projector` and `pti` start from nothing, as a user would
run them, and two rows invert first in the same process. A step is from one gradient, through Adam,
to the next one, and is told in forward passes of the generator. Without --bundle the weights are
synthetic, of the official layout.

    python -m benchmarking.descent_costs --size 1024
    python -m benchmarking.descent_costs --bundle engines/portraits --only 'weights;pti'
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from hyperstyle_rt.cli.outputs import check_writable, write_report
from hyperstyle_rt.cli.terminal import columns_table, print_line, print_tables
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.free_inputs import noise_size
from hyperstyle_rt.inversion import Inversion
from hyperstyle_rt.model import Model
from hyperstyle_rt.types import Array
from mistakes import one_sentence

from .inversion import Contender, Seconds, Unavailable, picture_u8
from .pivotal_tuning import clock_of

STEP, FORWARD, PEAK = "step", "forward", "peak_bytes"
PASSES = "forward_passes"
FORWARD_RUNS = 3


@dataclass(frozen=True)
class Descent:
    """A descent that is measured.

    Attributes
    ----------
    preset, variables:
        As for :meth:`Model.optimise`.
    stages:
        How many it has; steps are shared between them.
    start:
        ``saved``, ``inverted`` in the same process, or ``nothing``.
    """

    preset: str
    variables: tuple[str, ...] | None
    stages: int
    start: str

    @property
    def title(self) -> str:
        """For people and as a key."""
        name = self.preset if self.variables is None else ",".join(self.variables)
        return f"inversion, then {name}" if self.start == "inverted" else name


def _refine(name: str, start: str = "saved") -> Descent:
    return Descent("refine", (name,), 1, start)


DESCENTS = (
    *map(_refine, ("latents", "w", "noise", "codes", "channel_offsets", "weights", "features")),
    Descent("projector", None, 1, "nothing"),
    Descent("pti", None, 2, "nothing"),
    _refine("channel_offsets", "inverted"),
    _refine("codes", "inverted"),
)
"""In the order of the table."""


def inverting(bundle: Path, saved: Path, threads: int, clock: str) -> Callable[[], Seconds]:
    """An inversion of one iteration, left in a file, and forward passes of the generator."""
    model, now = Model.load(bundle, "cpu", threads=threads), clock_of(clock)

    def run() -> Seconds:
        inversion = _invert(model)
        inversion.save(saved)
        upload, inputs = model.backend.upload, {}
        if inversion.codes is not None:
            inputs = model.backend.run("weights", {"codes": upload(inversion.codes[None])})
        inputs = {"latents": upload(inversion.latents[None]), **inputs}
        forward = []
        for _ in range(FORWARD_RUNS):
            began = now()
            model.backend.run("generator", inputs)
            forward.append(now() - began)
        return {FORWARD: statistics.median(forward)}

    return run


def descending(
    bundle: Path, saved: Path, descent: Descent, steps: int, threads: int, clock: str
) -> Callable[[], Seconds]:
    """A descent, of which the last step is timed."""
    model, now = Model.load(bundle, "cpu", threads=threads), clock_of(clock)

    def run() -> Seconds:
        marks: list[float] = []

        def note(_done: int, _loss: float, _rendering: Array) -> None:
            marks.append(now())

        inversion = Inversion.load(saved) if descent.start == "saved" else None
        if descent.start == "inverted":
            inversion = _invert(model)
        model.optimise(
            inversion,
            picture_u8(model.bundle.manifest.image_size),
            descent.preset,
            variables=descent.variables,
            steps=steps * descent.stages,
            on_step=note,
            align="never",
        )
        return {STEP: marks[-1] - marks[-2]}

    return run


def _invert(model: Model) -> Inversion:
    picture = picture_u8(model.bundle.manifest.image_size)
    return model.invert(picture, 1, align="never")


def run_once(make: Callable[[], Callable[[], Seconds]]) -> dict[str, float]:
    """One run in a process of its own; what it took, and `peak_bytes`.

    Nothing where the process has ended without an answer, as one does that takes all memory.
    """
    contender = Contender(make)
    try:
        found = contender.run()
        return {**found, PEAK: contender.stop()}
    except Unavailable:
        return {}


def measure_descents(
    bundle: Path,
    names: list[str] | None,
    steps: int,
    threads: int,
    clock: str,
    on_found: Callable[[str, dict[str, float]], None],
) -> dict[str, dict[str, float]]:
    """Measure those of :data:`DESCENTS` that are named, or all; title -> step and peak memory.

    Parameters
    ----------
    steps:
        Of every stage; the last is timed. The first of a stage after another opens its graph, and
        is not to be compared.
    on_found:
        Called with every one as it is done: memory may end a process of a large model.

    Raises
    ------
    HyperStyleError
        If a name is unknown.
    """
    has_noise = noise_size(Bundle.open(bundle).manifest) > 0
    descents = [each for each in DESCENTS if has_noise or each.variables != ("noise",)]
    titles = [descent.title for descent in descents]
    if unknown := sorted(set(names or ()) - set(titles)):
        raise HyperStyleError(f"there is no {unknown[0]!r} to measure; choose of {titles}")
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch) / "inversion.safetensors"
        found["inversion"] = run_once(partial(inverting, bundle, saved, threads, clock))
        on_found("inversion", found["inversion"])
        for descent in descents:
            if names is None or descent.title in names:
                make = partial(descending, bundle, saved, descent, steps, threads, clock)
                result = run_once(make)
                if result and found["inversion"]:
                    result[PASSES] = result[STEP] / found["inversion"][FORWARD]
                found[descent.title] = result
                on_found(descent.title, result)
    return found


def main(
    bundle: Annotated[str | None, typer.Option(help="Default: synthetic weights.")] = None,
    size: Annotated[int, typer.Option(help="Generator size of the synthetic weights.")] = 1024,
    only: Annotated[str | None, typer.Option(help="Rows, by semicolons; default: all.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of a stage; the last is timed.")] = 2,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    clock: Annotated[str, typer.Option(help="wall on an idle machine; cpu on a busy one.")] = "cpu",
    output: Annotated[Path | None, typer.Option("--json", help="Also write the figures.")] = None,
) -> None:
    """Measure a step and the peak memory of every set of variables; FILE is written row by row."""
    from refinement.synthetic_bundle import write_synthetic

    figures: dict[str, Any] = {"threads": threads, "clock": clock, "rows": {}}

    def note(title: str, result: dict[str, float]) -> None:
        figures["rows"][title] = result
        print_line(f"{title}: {json.dumps(result) if result else 'ended; is memory short?'}")
        if output is not None:
            write_report(output, figures)

    names = None if only is None else [name for name in only.split(";") if name]
    with one_sentence():
        clock_of(clock)
        if output is not None:
            check_writable(output.parent, "--json")
        with tempfile.TemporaryDirectory() as scratch:
            named = None if bundle is None else find_bundle(bundle)
            folder = named or write_synthetic(size, Path(scratch))
            figures["resolution"] = Bundle.open(folder).manifest.resolution
            measure_descents(folder, names, steps, threads, clock, note)
    print_tables(as_table(figures))


def as_table(figures: dict[str, Any]) -> Any:
    """The figures for people."""
    columns = ("forward passes", "peak memory")
    table = columns_table(f"{figures['resolution']} px", "a step on", *columns, right=columns)
    for title, row in figures["rows"].items():
        passes = f"{row[PASSES]:.1f}" if PASSES in row else ""
        table.add_row(title, passes, f"{row[PEAK] / 1e9:.2f} GB" if row else "ended")
    return table


if __name__ == "__main__":
    typer.run(main)
