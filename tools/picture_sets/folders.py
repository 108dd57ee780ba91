"""Folders of pictures with known factors: the pictures by name, and the table beside them.

The table is called factors.npz and holds ``names`` [F] and ``values`` [N,F], one row a picture in
the order of the pictures' names. `tools/portraits` writes such folders: the table first, then
pictures that are called by their rows, in several processes, so that some may be missing between
others as long as it works, or where it was ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hyperstyle_rt.batch.sources import find_sources
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.imaging.pictures import PICTURE_SUFFIXES
from npz_files import read_npz
from numpy.typing import NDArray

FACTORS_FILE = "factors.npz"


@dataclass(frozen=True)
class KnownPictures:
    """Pictures and their factors.

    Attributes
    ----------
    paths:
        Of N pictures, by name.
    names:
        F names of factors.
    values:
        float32 [N,F].
    """

    paths: list[Path]
    names: tuple[str, ...]
    values: NDArray[np.float32]


def known_pictures(folder: Path, error: type[HyperStyleError]) -> KnownPictures:
    """The pictures of a folder that its table knows; those beyond its last row are left out.

    Raises
    ------
    HyperStyleError
        As :func:`pictures_in` and :func:`read_factor_table`, or if there are fewer pictures than
        rows and names do not tell which are missing.
    """
    names, values = read_factor_table(folder / FACTORS_FILE, error)
    paths = pictures_in(folder, error)
    if len(paths) >= len(values):
        return KnownPictures(paths[: len(values)], names, values)
    rows = _numbers(paths)
    if rows is None or rows[-1] >= len(values):
        raise error(
            f"{folder} holds {len(paths)} pictures and its {FACTORS_FILE} {len(values)} rows, and "
            "names that are not the rows' numbers from 0 on do not tell which are missing; "
            "complete the folder"
        )
    return KnownPictures(paths, names, values[rows])


def _numbers(paths: Sequence[Path]) -> list[int] | None:
    """What pictures are called, if it is ascending numbers from 0 of equally many digits."""
    stems = [path.stem for path in paths]
    if len({len(stem) for stem in stems}) > 1 or not all(map(str.isdecimal, stems)):
        return None
    numbers = [int(stem) for stem in stems]
    ascending = sorted(set(numbers))
    return numbers if numbers == ascending and numbers[0] == 0 else None


def pictures_beside(arguments: Sequence[Path], out: Path | None) -> list[Path]:
    """The pictures that a user names, but not those that a tool itself has left below `out`.

    They are pictures like others only where one of the names is that folder or something in it.

    Raises
    ------
    PictureError
        As :func:`find_sources`.
    """
    found = [source.path for source in find_sources(arguments)]
    if out is None or any(_is_below(argument, out) for argument in arguments):
        return found
    return [path for path in found if not _is_below(path, out)]


def _is_below(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def pictures_in(folder: Path, error: type[HyperStyleError]) -> list[Path]:
    """The PNG, JPEG and WebP pictures directly in a folder, by name.

    Raises
    ------
    HyperStyleError
        Of the kind given, if the folder is missing, no folder, or holds no pictures.
    """
    if not folder.is_dir():
        kind = "is not a folder" if folder.exists() else "does not exist"
        raise error(f"{folder} {kind}; give a folder of pictures")
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
    )
    if not found:
        kinds = ", ".join(PICTURE_SUFFIXES)
        raise error(f"{folder} holds no pictures ({kinds}); give the folder they are in")
    return found


def read_factor_table(
    path: Path, error: type[HyperStyleError]
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Names and values, float32 [N,F], of a table of factors.

    Raises
    ------
    HyperStyleError
        Of the kind given, if the file cannot be read or is no such table.
    """
    try:
        labels, numbers = read_npz(path, "names", "values")
        names = tuple(str(name) for name in labels)
        values = np.asarray(numbers, np.float32)
    except (ValueError, TypeError) as problem:
        raise error(
            f"{path} is no table of factors with 'names' [F] and 'values' [N,F]: {problem}"
        ) from problem
    if values.ndim != 2 or values.shape[1] != len(names):
        raise error(
            f"{path}: 'values' has shape {values.shape}, not [N,{len(names)}] as its names say"
        )
    return names, values
