"""``hyperstyle-rt invert``: pictures to reconstructions and inversion files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InversionError, PictureError
from ..manifest import BASE_PRECISION, MAX_ITERATIONS
from .outputs import Extras, Outputs, plan_outputs, refuse_existing
from .terminal import print_error, print_json, print_line, printable, progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..imaging import Picture
    from ..inversion import HyperStyle, Inversion

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt invert face.png

hyperstyle-rt invert face.png --out result.jpg --save-inversion

hyperstyle-rt invert photos/*.jpg --out results --coupled

hyperstyle-rt invert face.png --iterations 20 --until 0.001 --steps

hyperstyle-rt invert face.png --bundle engines/cars --backend cuda --json
"""


@dataclass(frozen=True)
class Done:
    """A picture that was inverted, and what was written.

    Attributes
    ----------
    seconds:
        Duration of the inversion; the first one includes the loading of the graphs.
    """

    picture: Path
    outputs: Outputs
    iterations: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Make the entry in the document of ``--json``."""
        outputs = self.outputs
        return {
            "input": str(self.picture),
            "outputs": {
                "result": str(outputs.result),
                "steps": [str(path) for path in outputs.steps],
                "coupled": None if outputs.coupled is None else str(outputs.coupled),
                "inversion": None if outputs.inversion is None else str(outputs.inversion),
            },
            "iterations": self.iterations,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Report:
    """What became of all pictures."""

    done: list[Done] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)

    def to_json(self, model: HyperStyle) -> dict[str, Any]:
        """Make the document of ``--json``."""
        bundle = model.bundle
        return {
            "bundle": {
                "name": bundle.manifest.name,
                "directory": str(bundle.directory),
                "digest": bundle.digest,
            },
            "provider": model.backend.provider,
            "inversions": [done.to_json() for done in self.done],
            "errors": [{"input": str(path), "error": text} for path, text in self.failed.items()],
        }


def invert(
    pictures: Annotated[
        list[Path],
        typer.Argument(
            metavar="PICTURE", help="Aligned pictures: PNG, JPEG or WebP.", show_default=False
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Directory for [cyan]NAME.inverted.png[/cyan]; for one picture also the name of "
            "the result: .png, .jpg or .webp.",
        ),
    ] = Path(),
    bundle: Annotated[
        str | None,
        typer.Option(help="Bundle directory or name. Default: the embedded one.", metavar="BUNDLE"),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda, tensorrt or ort-tensorrt.", metavar="NAME"),
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="fp32, or fp16 for a GPU if the bundle has it.", metavar="NAME")
    ] = BASE_PRECISION,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads. Default: one per core.", metavar="N")
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(
            "--iterations",
            "-n",
            min=0,
            max=MAX_ITERATIONS,
            help="Upper bound. Default: the bundle's.",
            metavar="N",
        ),
    ] = None,
    until: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Stop when the reconstruction moves by less (mean difference; -1 is black, "
            "1 white).",
            metavar="X",
        ),
    ] = None,
    save_inversion: Annotated[
        bool, typer.Option("--save-inversion", metavar="", help="Also write NAME.safetensors.")
    ] = False,
    steps: Annotated[
        bool,
        typer.Option("--steps", metavar="", help="Also write every iteration: NAME.step1.png, ..."),
    ] = False,
    coupled: Annotated[
        bool,
        typer.Option(
            "--coupled",
            metavar="",
            help="Also write input and iterations side by side: NAME.coupled.png.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Replace existing files.")
    ] = False,
    json_: Annotated[
        bool, typer.Option("--json", metavar="", help="Print one JSON document instead of lines.")
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", metavar="", help="No progress bar, no lines; errors only."),
    ] = False,
) -> None:
    """Invert pictures: find the latents and weight offsets that reproduce them.

    A picture that cannot be inverted does not stop the others: its error is
    printed at the end, and the exit status is 2.
    """
    from ..inversion import HyperStyle

    model = HyperStyle.load(bundle, backend, threads=threads, precision=precision)
    if iterations is None:
        iterations = model.bundle.manifest.default_iterations
    plan = plan_outputs(pictures, out, Extras(iterations if steps else 0, coupled, save_inversion))
    if not force:
        refuse_existing(plan)

    def announce(done: Done) -> None:
        if not json_ and not quiet:
            print_line(
                f"{done.picture} -> {done.outputs.result}  "
                f"({done.iterations} iterations, {done.seconds:.1f} s)"
            )

    jobs = list(zip(pictures, plan, strict=True))
    with progress_bar(quiet) as progress:
        report = _invert_all(model, jobs, iterations, until, progress, announce)
    if json_:
        print_json(report.to_json(model))
    for text in report.failed.values():
        print_error(text)
    if report.failed:
        raise typer.Exit(2)


def _invert_all(
    model: HyperStyle,
    jobs: Sequence[tuple[Path, Outputs]],
    iterations: int,
    until: float | None,
    progress: Progress,
    on_done: Callable[[Done], None],
) -> Report:
    """Invert one picture after the other, those that cannot be inverted excepted."""
    report = Report()
    bar = progress.add_task("", total=len(jobs) * iterations)

    def advance() -> None:
        progress.advance(bar)

    for number, (picture, outputs) in enumerate(jobs):
        name = printable(picture.name)
        progress.update(bar, description=name, completed=number * iterations)
        try:
            done = _invert_one(model, picture, outputs, iterations, until, advance)
        except (PictureError, InversionError) as error:
            report.failed[picture] = str(error)
            continue
        report.done.append(done)
        on_done(done)
    return report


def _invert_one(
    model: HyperStyle,
    picture: Path,
    outputs: Outputs,
    iterations: int,
    until: float | None,
    on_iteration: Callable[[], None],
) -> Done:
    """Invert one picture and, once that is done, write its files."""
    from ..imaging import read_picture, to_picture

    image = read_picture(picture)
    frames: list[Picture] = []
    frames_wanted = bool(outputs.steps or outputs.coupled)

    def keep(_iteration: int, reconstruction: Any, _codes: Any) -> None:
        if frames_wanted:
            frames.append(to_picture(reconstruction))
        on_iteration()

    started = time.perf_counter()
    inversion = model.invert(image, iterations, until, keep)
    seconds = time.perf_counter() - started
    return Done(picture, _write(outputs, image, frames, inversion), inversion.iterations, seconds)


def _write(
    outputs: Outputs, image: Picture, frames: list[Picture], inversion: Inversion
) -> Outputs:
    """Write the files, the result last: where it is, all are. Give those written."""
    from ..files import reason
    from ..imaging import resize_bilinear, side_by_side, write_picture

    try:
        outputs.result.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PictureError(f"cannot create {outputs.result.parent}: {reason(error)}") from error
    result = inversion.image
    steps = outputs.steps[: len(frames)]
    for path, frame in zip(steps, frames, strict=False):
        write_picture(path, frame)
    if outputs.coupled is not None:
        shown = resize_bilinear(image, result.shape[:2])
        write_picture(outputs.coupled, side_by_side([shown, *(frames or [result])]))
    if outputs.inversion is not None:
        inversion.save(outputs.inversion)
    write_picture(outputs.result, result)
    return replace(outputs, steps=steps)
