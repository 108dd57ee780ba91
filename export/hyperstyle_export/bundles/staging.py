"""A bundle's directory appears complete or not at all, and nothing but a bundle is replaced."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import reason
from hyperstyle_rt.formats import strict_json
from hyperstyle_rt.formats.bundle import BESIDE, MANIFEST_NAME, PLANS_DIRECTORY, foreign_names
from hyperstyle_rt.formats.manifest import FORMAT


class BuildError(HyperStyleError):
    """A bundle that cannot be written, or does not compute what its reference computes."""


@contextmanager
def staged(out: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary directory beside `out` that takes its place if the block succeeds.

    Raises
    ------
    BuildError
        If `out` is anything but absent, an empty directory, or a bundle that is to be overwritten
        and has no files beside its own; before the block, and again after it. If it cannot be
        written.
    """
    out = out.resolve()
    stage = out.parent / f".{out.name}.{uuid.uuid4().hex}.part"
    try:
        _check_free(out, overwrite)
        stage.mkdir(parents=True)
        yield stage
        _check_free(out, overwrite)  # minutes have passed
        _put_in_place(stage, out)
    except OSError as error:
        raise BuildError(f"cannot write {out}: {reason(error)}.") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


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


def _put_in_place(stage: Path, out: Path) -> None:
    """Rename `stage` to `out`; what was there is removed after that, but for what is `BESIDE`."""
    if out.exists() and not any(out.iterdir()):
        out.rmdir()
    if not out.exists():
        stage.rename(out)
        return
    for name in BESIDE:
        if (out / name).is_file() and not (stage / name).exists():
            shutil.copy2(out / name, stage / name)
    retired = stage.with_suffix(".old")
    out.rename(retired)
    try:
        stage.rename(out)
    except OSError:
        retired.rename(out)
        raise
    shutil.rmtree(retired)
