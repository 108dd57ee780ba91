"""A bundle's directory appears complete or not at all, and nothing but a bundle is replaced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import reason
from hyperstyle_rt.formats import strict_json
from hyperstyle_rt.formats.bundle import BESIDE, MANIFEST_NAME, PLANS_DIRECTORY, foreign_names
from hyperstyle_rt.formats.manifest import FORMAT
from hyperstyle_rt.temporaries import replacing_folder


class BuildError(HyperStyleError):
    """A bundle that cannot be written, or does not compute what its reference computes."""


@contextmanager
def staged(out: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary directory beside `out` that takes its place if the block succeeds.

    Those of builds that were killed are removed, and files that are :data:`BESIDE` are kept.

    Raises
    ------
    BuildError
        If `out` is anything but absent, an empty directory, or a bundle that is to be overwritten
        and has no files beside its own; before the block, and again after it. If it cannot be
        written.
    """
    out = out.resolve()
    try:
        _check_free(out, overwrite)
        with replacing_folder(out, keep=BESIDE) as stage:
            yield stage
            _check_free(out, overwrite)  # minutes have passed
    except OSError as error:
        raise BuildError(f"cannot write {out}: {reason(error)}.") from error


def _check_free(out: Path, overwrite: bool) -> None:
    """Refuse an `out` that must not be replaced: nothing but a bundle is ever removed."""
    if not out.exists():
        return
    if not out.is_dir():
        raise BuildError(f"{out} is no directory; name another --out.")
    if os.path.ismount(out):
        raise BuildError(
            f"{out} is a mount point, which cannot be replaced as a whole; name a folder below it "
            "for --out."
        )
    if not any(out.iterdir()):
        return
    manifest = _manifest_of(out)
    if manifest is None:
        raise BuildError(f"{out} holds something other than a bundle; name another --out.")
    if not overwrite:
        raise BuildError(f"{out} exists; name another --out, or replace it with --force.")
    if strangers := _strangers(out, manifest):
        raise BuildError(
            f"{out} holds {strangers[0]}, which is not the bundle's and would be lost; move it, or "
            "name another --out."
        )


def _manifest_of(directory: Path) -> dict[str, Any] | None:
    """The manifest of our format that lies there, of whatever version and state."""
    try:
        document = strict_json.parse((directory / MANIFEST_NAME).read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and document.get("format") == FORMAT else None


def _strangers(directory: Path, manifest: dict[str, Any]) -> list[str]:
    """What lies in a bundle and is not its own; nothing where the manifest lists no files."""
    listed = manifest.get("files")
    if not isinstance(listed, dict):
        return []
    return foreign_names(directory, [PLANS_DIRECTORY, *listed])
