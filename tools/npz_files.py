"""Files of several arrays (.npz), read without running anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_npz(path: Path, *names: str) -> list[NDArray[Any]]:
    """The arrays of these names.

    Raises
    ------
    ValueError
        If the file cannot be read, is damaged or cut off, or lacks one of them.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return [stored[name] for name in names]
    except Exception as error:  # in a damaged file any operation of NumPy's reader may fail
        raise ValueError(f"{error}" or type(error).__name__) from error
