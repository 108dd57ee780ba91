"""A sweep of edits through weights that are expanded once, against as many single renders.

python -m benchmarking.edits --size 256
python -m benchmarking.edits --bundle engines/portraits
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import fakeweights
import numpy as np
import typer
from hyperstyle_rt.model import Model
from mistakes import one_sentence
from rich.console import Console

EDITS = 8
SPREAD = 0.3  # of the edited latents; what they are does not matter for the time


@contextmanager
def synthetic_bundle(size: int) -> Iterator[Path]:
    """A bundle of the official layout with synthetic weights."""
    from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
    from hyperstyle_export.readers.official import load_model
    from synthetic import official_config, write_checkpoints

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = folder / "bundle"
        bundle.mkdir()
        model = load_model(*write_checkpoints(official_config(size), folder))
        write_bundle(model, bundle, BundleFacts("benchmark"), "fp32", lambda _step: None)
        yield bundle


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what the function gives."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def compare(bundle: Path, threads: int, repeats: int) -> str:
    """Alternate sweep and single renders; a sentence of medians.

    Raises
    ------
    AssertionError
        If the pictures differ.
    """
    model = Model.load(bundle, "cpu", threads=threads)
    picture = fakeweights.image_u8(1, *model.bundle.manifest.input_size)
    inversion = model.invert(picture, 1, align="never")
    noise = np.random.default_rng(0).standard_normal((EDITS, 1, 1), dtype=np.float32)
    latents = inversion.latents + np.float32(SPREAD) * noise
    sweep: list[float] = []
    singles: list[float] = []
    for turn in range(repeats + 1):
        together = timed(lambda: model.render(inversion, latents))
        alone = timed(lambda: np.stack([model.render(inversion, one) for one in latents]))
        assert np.array_equal(together[1], alone[1]), "the pictures differ"
        if turn:  # the first one warms up
            sweep.append(together[0])
            singles.append(alone[0])
    ratio = statistics.median(singles) / statistics.median(sweep)
    size = model.bundle.manifest.resolution
    return (
        f"{size} px, {threads} threads: {EDITS} single renders take {ratio:.2f} x the time of a "
        f"sweep of {EDITS} (medians of {repeats}); the pictures are identical"
    )


@one_sentence()
def main(
    bundle: Annotated[Path | None, typer.Option(help="Default: a synthetic one.")] = None,
    size: Annotated[int, typer.Option(help="Generator size of the synthetic weights.")] = 256,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Recorded turns.")] = 5,
) -> None:
    """Time a sweep of 8 edits against 8 single renders."""
    console = Console()
    if bundle is not None:
        console.print(compare(bundle, threads, repeats))
        return
    with synthetic_bundle(size) as synthetic:
        console.print(compare(synthetic, threads, repeats))


if __name__ == "__main__":
    typer.run(main)
