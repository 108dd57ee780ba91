"""Which files an inversion writes, decided and checked before any work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import HyperStyleError


@dataclass(frozen=True)
class Extras:
    """What is written beside the result.

    Attributes
    ----------
    steps:
        Number of pictures of single iterations.
    coupled:
        Whether the input and all iterations are written side by side.
    inversion:
        Whether the inversion file is written.
    """

    steps: int
    coupled: bool
    inversion: bool


@dataclass(frozen=True)
class Outputs:
    """The files of one picture; None and () for those nobody asked for.

    Attributes
    ----------
    result:
        The reconstruction.
    steps:
        The reconstruction after each iteration.
    coupled:
        The input and all iterations side by side.
    inversion:
        The inversion file.
    """

    result: Path
    steps: tuple[Path, ...]
    coupled: Path | None
    inversion: Path | None

    def paths(self) -> list[Path]:
        """List the files."""
        every = (self.result, *self.steps, self.coupled, self.inversion)
        return [path for path in every if path is not None]


def plan_outputs(pictures: Sequence[Path], out: Path, extras: Extras) -> list[Outputs]:
    """Name the files of all pictures.

    Parameters
    ----------
    pictures:
        The inputs.
    out:
        A directory, which need not exist, for ``<stem>.inverted.png`` and so on; or for a single
        picture the result's name, whose suffix is the format of all its pictures.
    extras:
        What is written beside the results.

    Returns
    -------
    One for every picture, in their order.

    Raises
    ------
    HyperStyleError
        If ``out`` is not usable, two pictures would share a file, or an input would be overwritten.
    """
    if _is_directory_name(out):
        plan = [_named(out / f"{p.stem}.inverted.png", p.stem, extras) for p in pictures]
    elif len(pictures) == 1:
        plan = [_named(out, out.stem, extras)]
    else:
        raise HyperStyleError(
            f"--out {out} names one file for {len(pictures)} pictures; give a directory"
        )
    _check_writable(plan[0].result.parent)
    _check_distinct(pictures, plan)
    return plan


def refuse_existing(plan: Sequence[Outputs]) -> None:
    """Refuse to replace files.

    Raises
    ------
    HyperStyleError
        If one of the files exists.
    """
    existing = [path for outputs in plan for path in outputs.paths() if os.path.lexists(path)]
    if existing:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise HyperStyleError(
            f"{existing[0]}{more} exists; give another --out, or replace it with --force"
        )


def _is_directory(path: Path) -> bool:
    # Unlike pathlib's, os.path's question has an answer for every text, overlong names included.
    return os.path.isdir(path)  # noqa: PTH112


def _is_directory_name(out: Path) -> bool:
    from ..imaging import PICTURE_SUFFIXES

    if _is_directory(out) or not out.suffix:
        return True
    if out.suffix.lower() in PICTURE_SUFFIXES:
        return False
    raise HyperStyleError(
        f"--out {out} must end in one of {', '.join(PICTURE_SUFFIXES)}; "
        "if it is to be a directory, create it first"
    )


def _named(result: Path, stem: str, extras: Extras) -> Outputs:
    def beside(ending: str) -> Path:
        return result.with_name(stem + ending)

    suffix = result.suffix
    return Outputs(
        result=result,
        steps=tuple(beside(f".step{n}{suffix}") for n in range(1, extras.steps + 1)),
        coupled=beside(f".coupled{suffix}") if extras.coupled else None,
        inversion=beside(".safetensors") if extras.inversion else None,
    )


def _check_writable(directory: Path) -> None:
    """Refuse a directory that files cannot be written into, or that cannot be created."""
    above = (directory, *directory.absolute().parents)
    nearest = next(path for path in above if os.path.lexists(path))
    if not _is_directory(nearest):
        raise HyperStyleError(
            f"cannot write into {directory}: {nearest} is not a directory; give another --out"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise HyperStyleError(
            f"cannot write into {directory}: {nearest} is not yours to write; give another --out"
        )


def _check_distinct(pictures: Sequence[Path], plan: Sequence[Outputs]) -> None:
    inputs = {os.path.realpath(picture) for picture in pictures}
    owners: dict[str, Path] = {}
    for picture, outputs in zip(pictures, plan, strict=True):
        for path in outputs.paths():
            if os.path.realpath(path) in inputs:
                raise HyperStyleError(
                    f"{path} is one of the pictures and would be overwritten; give another --out"
                )
            key = os.path.normcase(path)
            if key in owners:
                raise HyperStyleError(
                    f"{owners[key]} and {picture} would both be written to {path}; rename one, or "
                    "invert them one after the other with another --out"
                )
            owners[key] = picture
