"""A folder of portraits with the factors they were drawn from; may be cut off and gone on with.

The folder holds 000000.png, 000001.png ... and factors.npz: `names` (str [F]), `values` (float32
[N, F], `factors.FACTORS` in order), `landmarks` (float32 [N, 4, 2] pixels, `picture.Portrait`),
and what they were drawn with: `seed`, `size`, `distribution`, `format`. The table is written
first. Picture i depends on the seed, the distribution and i alone.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import write_atomically
from hyperstyle_rt.imaging.pictures import write_picture
from hyperstyle_rt.types import Array
from npz_files import read_npz

from .assets import Head, load
from .factors import NAMES, from_vector, to_vector
from .picture import Renderer
from .population import DISTRIBUTIONS, person_at

TABLE = "factors.npz"
FORMAT = 1  # grows whenever pictures of the same seed change
CHUNK = 50  # pictures a process draws before it reports


@dataclass(frozen=True)
class Recipe:
    """What a set is drawn from."""

    seed: int
    size: int
    distribution: str = "default"


class DatasetError(HyperStyleError):
    """A folder cannot be used as a set of portraits."""


@dataclass(frozen=True)
class Table:
    """The factors [N, F] and landmarks [N, 4, 2] of a set, and its recipe."""

    recipe: Recipe
    values: Array
    landmarks: Array


def picture_path(folder: Path, index: int) -> Path:
    """Where picture `index` of a set is."""
    return folder / f"{index:06d}.png"


def read_table(folder: Path) -> Table:
    """The table of a set; DatasetError if it is missing, broken or of other factors."""
    path = folder / TABLE
    try:
        names, version, values, landmarks = read_npz(path, "names", "format", "values", "landmarks")
        if tuple(names) != NAMES or int(version) != FORMAT:
            raise DatasetError(f"{path} was written by another version; render it anew")
        seed, size, distribution = read_npz(path, "seed", "size", "distribution")
        return Table(Recipe(int(seed), int(size), str(distribution)), values, landmarks)
    except (ValueError, TypeError) as error:
        raise DatasetError(f"cannot read the factors {path}: {error}") from None


def write_table(folder: Path, table: Table) -> None:
    """Write the table, whole or not at all."""
    content = io.BytesIO()
    recipe = table.recipe
    np.savez(
        content,
        names=np.array(NAMES),
        values=table.values,
        landmarks=table.landmarks,
        seed=recipe.seed,
        size=recipe.size,
        distribution=recipe.distribution,
        format=FORMAT,
    )
    write_atomically(folder / TABLE, content.getvalue(), DatasetError)


def make_table(folder: Path, recipe: Recipe, count: int, renderer: Renderer) -> Table:
    """The table of at least `count` pictures, going on from the folder's; written to the folder.

    Raises DatasetError if the folder cannot be made or holds a set of another recipe.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"cannot make the folder {folder}: {error.strerror}") from None
    done = Table(recipe, np.zeros((0, len(NAMES)), np.float32), np.zeros((0, 4, 2), np.float32))
    if (folder / TABLE).exists():
        done = read_table(folder)
        if done.recipe != recipe:
            raise DatasetError(f"{folder} holds a set of {done.recipe}; give another --out")
    first = len(done.values)
    if first >= count:
        return done
    people = [person_at(recipe.seed, index, recipe.distribution) for index in range(first, count)]
    values = np.stack([to_vector(person) for person in people])
    landmarks = np.stack([renderer.landmarks(from_vector(value), recipe.size) for value in values])
    table = Table(
        recipe, np.concatenate([done.values, values]), np.concatenate([done.landmarks, landmarks])
    )
    write_table(folder, table)
    return table


def open_renderer(recipe: Recipe, head: Head) -> Renderer:
    """The renderer of a set, with the fixed patterns of its distribution."""
    return Renderer(head, DISTRIBUTIONS[recipe.distribution].pattern)


def draw_set(
    folder: Path, recipe: Recipe, count: int, jobs: int, report: Callable[[int, int], None]
) -> int:
    """Draw the first `count` pictures of a set, but those that are there; how many were drawn.

    `report(done, total)` is called now and then. Pictures are written whole or not at all.
    """
    head = load()
    renderer = open_renderer(recipe, head)
    table = make_table(folder, recipe, count, renderer)
    there = {entry.name for entry in os.scandir(folder)}
    missing = [i for i in range(count) if picture_path(folder, i).name not in there]
    chunks = [missing[k : k + CHUNK] for k in range(0, len(missing), CHUNK)]
    done = count - len(missing)
    report(done, count)
    drawn = _drawn(folder, table, chunks, jobs, renderer)
    for more in drawn:
        done += more
        report(done, count)
    return len(missing)


def _drawn(
    folder: Path, table: Table, chunks: list[list[int]], jobs: int, renderer: Renderer
) -> Iterator[int]:
    if jobs == 1:
        for chunk in chunks:
            yield _draw_chunk(folder, table.values[chunk], chunk, table.recipe.size, renderer)
        return
    with ProcessPoolExecutor(jobs, initializer=_start_worker, initargs=(table.recipe,)) as pool:
        waiting = [
            pool.submit(_draw_in_worker, folder, table.values[chunk], chunk, table.recipe.size)
            for chunk in chunks
        ]
        for future in as_completed(waiting):
            yield future.result()


def _draw_chunk(
    folder: Path, values: Array, indices: list[int], size: int, renderer: Renderer
) -> int:
    for value, index in zip(values, indices, strict=True):
        portrait = renderer.render(from_vector(value), size)
        write_picture(picture_path(folder, index), portrait.picture)
    return len(indices)


_renderers: list[Renderer] = []


def _start_worker(recipe: Recipe) -> None:
    _renderers.append(open_renderer(recipe, load()))


def _draw_in_worker(folder: Path, values: Array, indices: list[int], size: int) -> int:
    return _draw_chunk(folder, values, indices, size, _renderers[0])
