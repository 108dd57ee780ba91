"""How well pictures of a bundle's own kind fit: the field `fit` of its manifest.

    python -m evaluation.fit renders/held_out --bundle engines/faces --steps-for 8
        --backbone alexnet.ckpt --heads alex.pth

Every picture is inverted by the bundle's default method, through its graphs; L2 and LPIPS of each
iteration are those of the reconstruction that the networks look at. What the gradient steps that
the bundle names make of it is measured for `--steps-for` pictures; they are slow, and without them
`--effort auto` takes all steps once it takes any. `--comparison` takes the figures of a run of
`tools/compare.py` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from comparison.log import Log
from hyperstyle_export.bundles.writer import write_manifest
from hyperstyle_export.networks.lpips import Lpips
from hyperstyle_export.readers.lpips import load_lpips
from hyperstyle_rt.cli.terminal import print_line
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.fit import Fit, Quantiles
from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.imaging.pictures import read_picture, to_input
from hyperstyle_rt.model import Model
from hyperstyle_rt.optimising.objective import pooled
from hyperstyle_rt.types import Array, Picture
from mistakes import one_sentence
from numpy.typing import NDArray

from .cli import find_pictures
from .errors import EvaluationError
from .metrics import squared_error

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
DIGITS = 5

Figures = NDArray[np.float64]


def fit_of(l2: Figures, lpips: Figures, after: Sequence[Sequence[float]] = ()) -> Fit:
    """Quantiles of figures.

    Parameters
    ----------
    l2, lpips:
        [T+1,N]: of N pictures after the first phases and after each of T iterations.
    after:
        (L2, LPIPS) of some pictures after the gradient steps.
    """
    rows = tuple(Quantiles(_quantiles(a), _quantiles(b)) for a, b in zip(l2, lpips, strict=True))
    then = None
    if len(after):
        then = Quantiles(*(_quantiles(np.array(column)) for column in zip(*after, strict=True)))
    return Fit(l2.shape[1], QUANTILES, rows, then)


def measure(
    model: Model, paths: Sequence[Path], lpips: Lpips, report: Callable[[int], None]
) -> tuple[Figures, Figures]:
    """L2 and LPIPS [T+1,N] of pictures, which are aligned; `report(done)` after each.

    Raises
    ------
    PictureError
        If one cannot be read; it is named.
    """
    figures: list[list[tuple[float, float]]] = []
    for done, path in enumerate(paths, start=1):
        picture = read_picture(path)
        figures.append([_compared(model, picture, x, lpips) for x in _shown(model, picture)])
        report(done)
    l2, distances = np.array(figures).transpose(2, 1, 0)
    return l2, distances


def measure_steps(model: Model, paths: Sequence[Path]) -> list[tuple[float, float]]:
    """(L2, LPIPS) of pictures after all gradient steps that the bundle names."""
    found = []
    for path in paths:
        said = model.invert(read_picture(path), align="never", effort="best").settings["effort"]
        found.append((said["after"]["l2"], said["after"]["perceptual"]))
    return found


def _shown(model: Model, picture: Picture) -> list[Array]:
    """Renderings [3,H,W] after the first phases and after each iteration."""
    first = model.invert(picture, 0, align="never").output
    assert first is not None  # of an inversion that has just been made
    shown = [first]
    model.invert(
        picture, on_iteration=lambda _n, x, _c: shown.append(x), align="never", effort="fast"
    )
    return shown


def _compared(
    model: Model, picture: Picture, rendering: Array, lpips: Lpips
) -> tuple[float, float]:
    size = model.bundle.manifest.input_size
    made = torch.from_numpy(pooled(rendering, size))[None]
    wanted = torch.from_numpy(to_input(picture, size))
    with torch.inference_mode():
        return float(squared_error(made, wanted)), float(lpips(made, wanted))


def _quantiles(values: Any) -> tuple[float, ...]:
    return tuple(round(float(value), DIGITS) for value in np.quantile(values, QUANTILES))


def read_comparison(
    folder: Path, manifest: Manifest
) -> tuple[Figures, Figures, list[tuple[float, float]]]:
    """L2 and LPIPS [T+1,N] of the pictures of a comparison, and both after the gradient steps.

    Parameters
    ----------
    folder:
        Where `tools/compare.py` has run the bundle's default method M as the rows M@0 and M, and on
        some pictures M+PRESET with the steps that the bundle names.

    Raises
    ------
    EvaluationError, ComparisonError
        If it has not, or without LPIPS, or the folder cannot be read.
    """
    method = manifest.default_method
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for record in Log(folder / "figures.jsonl").records:
        if "lpips" in record["figures"]:  # not of a run without its files
            found.setdefault(record["row"], {})[record["picture"]] = record["figures"]
    first, iterated = found.get(f"{method}@0", {}), found.get(f"{method}", {})
    pictures = [picture for picture in iterated if picture in first]
    if not pictures:
        raise EvaluationError(
            f"{folder} is no comparison with the rows {method}@0 and {method} and LPIPS; run "
            f"tools/compare.py with --methods {method}@0,{method}"
        )
    count = manifest.method().iterations
    l2, lpips = (
        np.array([first[p][name] + iterated[p][name][:count] for p in pictures], np.float64).T
        for name in ("l2", "lpips")
    )
    after = found.get(f"{method}+{manifest.then}", {}).values()
    return l2, lpips, [(each["l2"][-1], each["lpips"][-1]) for each in after]


def main(
    bundle: Annotated[Path, typer.Option(help="The bundle, whose manifest is written.")],
    pictures: Annotated[
        Path | None, typer.Argument(help="Folder of held-out pictures of its own kind.")
    ] = None,
    backbone: Annotated[Path | None, typer.Option(help="LPIPS backbone.")] = None,
    heads: Annotated[Path | None, typer.Option(help="LPIPS heads.")] = None,
    comparison: Annotated[
        Path | None, typer.Option(help="Folder of tools/compare.py, instead of pictures.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many pictures.")] = None,
    steps_for: Annotated[int, typer.Option(min=0, help="Pictures that take all steps.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Measure how well pictures of a bundle's own kind fit, and say so in its manifest."""
    with one_sentence():
        with Model.load(bundle, "cpu", threads=threads) as model:
            paths = [] if pictures is None else find_pictures(pictures, limit)
            after: list[tuple[float, float]] = []
            if comparison is not None:
                l2, lpips, after = read_comparison(comparison, model.bundle.manifest)
            elif paths and backbone is not None and heads is not None:
                judge = load_lpips(backbone, heads)
                l2, lpips = measure(model, paths, judge, lambda n: print_line(f"{n} pictures"))
                after = measure_steps(model, paths[:steps_for])
            else:
                raise EvaluationError("give PICTURES with --backbone and --heads, or --comparison")
            fit = fit_of(l2, lpips, after)
        opened = Bundle.open(bundle)
        write_manifest(opened.directory, replace(opened.manifest, fit=fit))


if __name__ == "__main__":
    typer.run(main)
