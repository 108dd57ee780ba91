"""Which arrays of a file become directions, by key, and whether they are for another generator."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.types import Array

from directions.array_files import as_floats

# File names of InterFaceGAN's published boundaries: stylegan_ffhq_smile_w_boundary.npy and others.
_OTHER_GENERATORS = re.compile(
    r"stylegan[ _-]?v?1(?!\d)|stylegan[_-](ffhq|celeba|bedroom|cat|car)|pggan|progan", re.IGNORECASE
)


def chosen_arrays(
    contents: Any,
    path: Path,
    keys: Sequence[str] | None,
    name: str | None,
    shaped: Callable[[Array], Array],
) -> dict[str, Array]:
    """The arrays of a file that become directions, by the directions' names.

    Parameters
    ----------
    contents:
        An array, or dictionaries and lists of them; an entry's key is the path to it, with dots.
    keys:
        The entries wanted; None for all that `shaped` takes.
    name:
        What a single direction is called; several are called as their keys.
    shaped:
        Gives an array the shape it needs, or raises EditError.

    Raises
    ------
    EditError
        If there is no such entry, none fits, or names are missing or too few.
    """
    entries = dict(_entries(contents))
    if "" in entries:  # one array, without a key
        if keys:
            raise EditError(f"{path} holds one array and no keys; leave --key away")
        if name is None:
            raise EditError(f"{path} holds one array; give its --name")
        return {name: shaped(as_floats(entries[""], path))}
    if missing := [key for key in keys or () if key not in entries]:
        raise EditError(f"{path} has no entry {missing[0]!r}; it has {', '.join(entries)}")
    chosen: dict[str, Array] = {}
    problem = EditError(f"{path} holds no arrays; is it a file of another kind?")
    for key in keys or entries:
        try:
            chosen[key] = shaped(as_floats(entries[key], path))
        except EditError as error:
            if keys:
                raise EditError(f"{error} (entry {key!r})") from None
            problem = error
    if not chosen:
        raise problem
    if name is not None:
        if len(chosen) > 1:
            raise EditError(
                f"{path} holds {len(chosen)} directions, {', '.join(chosen)}; choose one with "
                "--key to name it, or leave --name away to call them so"
            )
        return {name: next(iter(chosen.values()))}
    named = {_plain(key): array for key, array in chosen.items()}
    if len(named) < len(chosen):
        raise EditError(f"keys of {path} make the same name; convert them with --key and --name")
    return named


def _entries(contents: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """All arrays in nested dictionaries and lists, by the path to each."""
    inside: Iterable[tuple[Any, Any]]
    if isinstance(contents, Mapping):
        inside = contents.items()
    elif isinstance(contents, list | tuple):
        inside = enumerate(contents)
    else:
        yield key, contents
        return
    for each, value in inside:
        yield from _entries(value, f"{key}.{each}" if key else str(each))


def _plain(key: str) -> str:
    """A key as the name of a direction."""
    return re.sub(r"[^0-9A-Za-z_-]+", "_", key).strip("_-")[:100] or "direction"


def other_generator(path: Path, contents: Any, vectors: Sequence[Array]) -> str | None:
    """A sentence if directions look as if made for another generator than StyleGAN2, else None.

    Their shape cannot tell: W has 512 numbers in all of them.
    """
    texts = [path.stem, *(str(value) for _, value in _entries(contents) if isinstance(value, str))]
    if any(_OTHER_GENERATORS.search(text) for text in texts):
        return (
            f"{path} is named as directions for StyleGAN 1 or PGGAN are; in StyleGAN2's W they "
            "mean nothing, so look at what they do before you use them"
        )
    lengths = [float(np.linalg.norm(vector)) for vector in vectors if vector.ndim == 1]
    if lengths and all(abs(length - 1) < 1e-3 for length in lengths):
        return (
            f"{path} holds vectors of length 1, as InterFaceGAN's boundaries for StyleGAN 1 are, "
            "which mean nothing in StyleGAN2's W; were they made for this generator, use them"
        )
    return None
