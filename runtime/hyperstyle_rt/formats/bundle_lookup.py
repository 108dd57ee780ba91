"""Where bundles are found by name: the embedded ones, those in ``engines/``, and those fetched."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..errors import BundleError, HyperStyleError
from ..files import is_directory
from .bundle import MANIFEST_NAME

DEFAULT_BUNDLE = "faces"

_PACKAGE = Path(__file__).resolve().parents[1]


def default_bundle() -> Path:
    """Find the embedded bundle: in the installed package, or in the repository it is run from.

    Raises
    ------
    BundleError
        If it is not there.
    """
    directory = _embedded_engines() / DEFAULT_BUNDLE
    if not _is_bundle(directory):
        raise BundleError(
            f"the embedded bundle is missing at {directory}; "
            "reinstall hyperstyle-rt or name another bundle with --bundle"
        )
    return directory


def find_bundle(name_or_path: str | Path | None) -> Path:
    """Find the bundle a user means.

    Parameters
    ----------
    name_or_path:
        None for the embedded default, a directory, or a bare name that is looked up in ``engines/``
        here, in the embedded engines, and among the bundles that were fetched. A name that is both
        means the one with a manifest.

    Raises
    ------
    BundleError
        If there is none; the text lists the names there are.
    """
    if name_or_path is None:
        return default_bundle()
    path = Path(name_or_path)
    candidates = [path]
    if path.name == str(path):
        candidates += [engines / path for engines in _engine_directories()]
    for candidate in candidates:
        if _is_bundle(candidate):
            return candidate
    if is_directory(path):
        return path  # to open it says what is missing
    names = ", ".join(_available_names()) or "none"
    raise BundleError(
        f"there is no bundle {str(name_or_path)!r}; give a directory or a name found here: {names}"
    )


def _embedded_engines() -> Path:
    packaged = _PACKAGE / "engines"
    return packaged if packaged.is_dir() else _PACKAGE.parents[1] / "engines"


def fetched_bundles() -> Path:
    """The directory of the bundles that were fetched, by name.

    Raises
    ------
    HyperStyleError
        If the user has no home.
    """
    from ..user_cache import user_cache

    return user_cache() / "bundles"


def _engine_directories() -> list[Path]:
    directories = [Path("engines"), _embedded_engines()]
    with suppress(HyperStyleError):
        directories.append(fetched_bundles())
    return directories


def _available_names() -> list[str]:
    manifests = [f for e in _engine_directories() for f in e.glob(f"*/{MANIFEST_NAME}")]
    return sorted({manifest.parent.name for manifest in manifests})


def _is_bundle(directory: Path) -> bool:
    return os.path.isfile(directory / MANIFEST_NAME)  # noqa: PTH113 (a name too long is none, too)
