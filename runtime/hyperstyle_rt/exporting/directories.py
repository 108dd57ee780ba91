"""A directory that appears with all its files or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import BundleError
from ..files import reason
from ..formats.bundle import BESIDE, MANIFEST_NAME, PLANS_DIRECTORY, Bundle, foreign_names
from ..temporaries import replacing_folder


def check_destination(directory: Path, overwrite: bool) -> None:
    """Refuse to write a bundle over something else.

    Raises
    ------
    BundleError
        If there is a bundle and `overwrite` is not set, or there is anything but a bundle, or
        anything beside one.
    """
    try:
        if not directory.is_dir():
            if directory.exists():
                raise BundleError(f"{directory} is a file; give a directory for the bundle")
            return
        if not any(directory.iterdir()):
            return
    except OSError as error:
        raise BundleError(f"cannot look into {directory}: {reason(error)}") from None
    if not (directory / MANIFEST_NAME).is_file():
        raise BundleError(f"{directory} holds other files and no bundle; give another directory")
    if not overwrite:
        raise BundleError(
            f"there is a bundle in {directory}; give another directory, or replace it with --force"
        )
    if foreign := foreign_names(directory, _listed(directory)):
        raise BundleError(
            f"{directory / foreign[0]} would be lost, which the manifest there does not list; move "
            "it, or give another directory"
        )


def _listed(directory: Path) -> frozenset[str]:
    """What a bundle's manifest lists of its directory: nothing where it cannot be read."""
    try:
        manifest = Bundle.open(directory).manifest
    except BundleError:
        return frozenset()
    return frozenset({*manifest.files, *([PLANS_DIRECTORY] if manifest.plans else [])})


@contextmanager
def appearing(directory: Path, overwrite: bool) -> Iterator[Path]:
    """Give an empty directory beside `directory`, renamed to it if the block succeeds.

    Where `directory` is a link, the one that it leads to is replaced. Files that are
    :data:`BESIDE` are kept.

    Raises
    ------
    BundleError
        As :func:`check_destination`, before the block and again after it, or if the directory
        cannot be made.
    """
    check_destination(directory, overwrite)
    directory = Path(os.path.realpath(directory))
    try:
        with replacing_folder(directory, keep=BESIDE) as staged:
            yield staged
            check_destination(directory, overwrite)
    except OSError as error:
        raise BundleError(f"cannot write {directory}: {reason(error)}") from None
