"""The networks that measure: opened one by one, so that a bad file costs its figure only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from evaluation.identity import load_identity
from evaluation.measure import Judges, compare
from hyperstyle_export.readers.lpips import load_lpips
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import sha256
from hyperstyle_rt.imaging.pictures import read_picture, resize_bilinear
from hyperstyle_rt.types import Picture

from .errors import ComparisonError

LPIPS, IDENTITY = "lpips", "identity"


@dataclass(frozen=True)
class Panel:
    """The judges there are.

    Attributes
    ----------
    judges:
        The networks.
    digests:
        Figure -> SHA-256 of the files that it is measured with.
    problems:
        A sentence for every file that cannot be used.
    """

    judges: Judges
    digests: dict[str, str]
    problems: list[str]


def open_panel(backbone: Path | None, heads: Path | None, identity: Path | None) -> Panel:
    """Open the judges whose files are given.

    Raises
    ------
    ComparisonError
        If one of the two files of LPIPS is given without the other.
    """
    if (backbone is None) != (heads is None):
        raise ComparisonError("LPIPS needs both files; give --backbone and --heads")
    digests: dict[str, str] = {}
    problems: list[str] = []
    lpips = faces = None
    if backbone is not None and heads is not None:
        try:
            lpips = load_lpips(backbone, heads)
            digests[LPIPS] = f"{sha256(backbone)} {sha256(heads)}"
        except HyperStyleError as error:
            problems.append(f"LPIPS is left out: {error}")
    if identity is not None:
        try:
            faces = load_identity(identity)
            digests[IDENTITY] = sha256(identity)
        except HyperStyleError as error:
            problems.append(f"identity is left out: {error}")
    return Panel(Judges(lpips, faces), digests, problems)


def measure(
    target: Picture, between: list[Path], result: Path, judges: Judges
) -> dict[str, list[float | None]]:
    """Figures of the pictures on the way and of the result, in this order.

    None stands for what is no finite number: MS-SSIM of pictures whose contrast is opposite, PSNR
    of equal ones.
    """
    found: dict[str, list[float | None]] = {}
    pictures = [read_picture(path) for path in [*between, result]]
    with torch.inference_mode():
        for shape, alike in groupby(pictures, lambda picture: picture.shape[:2]):
            goal = resize_bilinear(target, shape)
            for name, values in compare(goal, list(alike), judges).items():
                finite = [value if math.isfinite(value) else None for value in values]
                found.setdefault(name, []).extend(finite)
    return found
