"""A bundle's directory appears complete or not at all; files that a user put there are kept."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import reason
from hyperstyle_rt.formats import strict_json
from hyperstyle_rt.formats.bundle import MANIFEST_NAME
from hyperstyle_rt.formats.manifest import FORMAT

BY_HAND = ("LICENSE", "NOTICE", "README.md")  # a rebuild keeps them


class BuildError(HyperStyleError):
    """A bundle that cannot be written, or does not compute what its reference computes."""


@contextmanager
def staged(out: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary directory beside `out` that takes its place if the block succeeds.

    Raises
    ------
    BuildError
        If `out` is anything but absent, an empty directory, or a bundle that is to be overwritten;
        if it cannot be written.
    """
    out = out.resolve()
    stage = out.parent / f".{out.name}.{uuid.uuid4().hex}.part"
    try:
        _check_free(out, overwrite)
        stage.mkdir(parents=True)
        yield stage
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
    if not any(out.iterdir()):
        return
    if not _is_bundle(out):
        raise BuildError(f"{out} holds something other than a bundle; name another --out.")
    if not overwrite:
        raise BuildError(f"{out} exists; name another --out, or replace it with --force.")


def _is_bundle(directory: Path) -> bool:
    """Whether a manifest of our format lies there, of whatever version and state."""
    try:
        document = strict_json.parse((directory / MANIFEST_NAME).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


def _put_in_place(stage: Path, out: Path) -> None:
    """Rename `stage` to `out`; what was there is removed after that, but for what is `BY_HAND`."""
    if not out.exists():
        stage.rename(out)
        return
    for name in BY_HAND:
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
