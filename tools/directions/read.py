"""Read attributes off renders whose latents are known, for `directions.fit`.

    python -m directions.read sets/train --face-api package/model -o attributes.npz

SET is a folder of shards as `tools/photos render` writes them: latents in W and the generator's own
pictures of them. What is read, and by what, is told in `face_attributes`. Beside the attributes the
table holds embeddings of dlib's face recognition network, so that directions can be chosen that
change the person least.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from evaluation.identity import load_identity
from hyperstyle_rt.cli.terminal import print_line
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.files import write_atomically
from mistakes import check_place, one_sentence
from npz_files import read_npz
from numpy.typing import NDArray
from photos.renders import RenderSet, read_set

from directions.face_attributes import ATTRIBUTES, FaceReader

RECOGNITION_FILE = "face_recognition_model-weights_manifest.json"
_BATCH = 32

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Attributes:
    """What was read.

    Attributes
    ----------
    names:
        A attributes.
    values:
        [N,A].
    embeddings:
        [N,D]: unit vectors of the person.
    latents:
        [N,W].
    """

    names: tuple[str, ...]
    values: Array
    embeddings: Array
    latents: Array


def read_attributes(
    renders: Iterable[RenderSet], folder: Path, report: Callable[[int], None]
) -> Attributes:
    """Read the attributes of renders with the networks of face-api's folder `model`.

    Parameters
    ----------
    report:
        Called with the number of pictures done, after every set.

    Raises
    ------
    EvaluationError
        If a network's file is missing or damaged.
    """
    reader, recognise = FaceReader(folder), load_identity(folder / RECOGNITION_FILE)
    values, embeddings, latents, done = [], [], [], 0
    for part in renders:
        values.append(reader.read(np.ascontiguousarray(part.pictures.transpose(0, 2, 3, 1))))
        with torch.inference_mode():
            embeddings += [
                recognise(torch.from_numpy(batch).float() / 127.5 - 1).numpy()
                for batch in np.array_split(part.pictures, -(-len(part) // _BATCH))
            ]
        latents.append(part.w)
        done += len(part)
        report(done)
    return Attributes(ATTRIBUTES, *map(np.concatenate, (values, embeddings, latents)))


def save_attributes(attributes: Attributes, path: Path) -> None:
    """Write a table of attributes, whole or not at all."""
    stored = io.BytesIO()
    np.savez(
        stored,
        names=np.array(attributes.names),
        values=attributes.values,
        embeddings=attributes.embeddings,
        latents=attributes.latents,
    )
    write_atomically(path, stored.getvalue(), EditError)


def load_attributes(path: Path) -> Attributes:
    """Read a table of attributes.

    Raises
    ------
    EditError
        If it cannot be read or is no such table.
    """
    try:
        labels, *parts = read_npz(path, "names", "values", "embeddings", "latents")
        names = tuple(map(str, labels))
    except (ValueError, TypeError) as error:
        raise EditError(
            f"{path} is no table of attributes ({error}); make one with python -m directions.read"
        ) from None
    lengths = {len(part) for part in parts}
    fits = all(part.dtype == np.float32 and part.ndim == 2 for part in parts)
    if not fits or len(lengths) != 1 or parts[0].shape[1] != len(names):
        raise EditError(
            f"{path} is no table of attributes; make one with python -m directions.read"
        )
    return Attributes(names, *parts)


def main(
    sets: Annotated[list[Path], typer.Argument(help="Folders of shards.", show_default=False)],
    face_api: Annotated[Path, typer.Option(help="Folder `model` of @vladmandic/face-api.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Table to write (.npz).")],
    shards: Annotated[int | None, typer.Option(min=1, help="At most so many of each set.")] = None,
) -> None:
    """Read attributes off renders whose latents are known."""
    with one_sentence():
        check_place(out)
        renders = (part for folder in sets for part in _shards(read_set(folder, shards)))
        found = read_attributes(renders, face_api, lambda done: print_line(f"{done} pictures"))
        save_attributes(found, out)


def _shards(whole: RenderSet, size: int = 256) -> Iterable[RenderSet]:
    for start in range(0, len(whole), size):
        yield RenderSet(whole.w[start : start + size], whole.pictures[start : start + size])


if __name__ == "__main__":
    typer.run(main)
