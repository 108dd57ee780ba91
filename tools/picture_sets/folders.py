"""Folders of pictures with known factors: the pictures by name, and the table beside them.

The table is called factors.npz and holds ``names`` [F] and ``values`` [N,F], one row a picture in
the order of the pictures' names. `tools/portraits` writes such folders.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.imaging.pictures import PICTURE_SUFFIXES
from numpy.typing import NDArray

FACTORS_FILE = "factors.npz"


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
        with np.load(path, allow_pickle=False) as table:
            names = tuple(str(name) for name in table["names"])
            values = np.asarray(table["values"], np.float32)
    except (OSError, ValueError, KeyError, EOFError) as problem:
        raise error(
            f"{path} is no table of factors with 'names' [F] and 'values' [N,F]: {problem}"
        ) from problem
    if values.ndim != 2 or values.shape[1] != len(names):
        raise error(
            f"{path}: 'values' has shape {values.shape}, not [N,{len(names)}] as its names say"
        )
    return names, values
