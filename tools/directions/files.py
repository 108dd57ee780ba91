"""Where the tools put directions: a file of their own, or the bundle they are for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hyperstyle_export.bundles.writer import add_file
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.files import read_regular, write_atomically
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.directions_file import (
    DIRECTIONS_NAME,
    MAX_FILE_SIZE,
    Direction,
    bundle_directions,
    parse_directions,
    serialize_directions,
)


def write_directions(bundle: Bundle, directions: Mapping[str, Direction], out: Path | None) -> None:
    """Add directions to their bundle, or, where `out` names a file, write them to that.

    Raises
    ------
    EditError
        If a direction does not fit the bundle: then nothing is changed.
    """
    if out is None:
        add_to_bundle(bundle, directions)
    else:
        save_directions(bundle, directions, out)


def add_to_bundle(bundle: Bundle, directions: Mapping[str, Direction]) -> None:
    """Add directions to a bundle; those of the same names are replaced.

    The space that inversions are tied to stays the same.

    Raises
    ------
    EditError
        If a direction does not fit the bundle: then nothing is changed.
    BuildError
        If the bundle cannot be written.
    """
    data = serialize_directions({**bundle_directions(bundle), **directions})
    parse_directions(data, bundle.manifest)
    add_file(bundle, DIRECTIONS_NAME, data)


def save_directions(bundle: Bundle, directions: Mapping[str, Direction], out: Path) -> None:
    """Add directions to a file of them; those of the same names are replaced.

    Raises
    ------
    EditError
        If a direction does not fit the bundle they are for, what is there is no such file, or it
        cannot be written: then nothing is changed.
    """
    before: Mapping[str, Direction] = {}
    if out.exists():
        try:
            before = parse_directions(read_regular(out, MAX_FILE_SIZE, EditError), bundle.manifest)
        except EditError as error:
            raise EditError(f"{out} is not added to: {error}; give another --out") from None
    data = serialize_directions({**before, **directions})
    parse_directions(data, bundle.manifest)
    write_atomically(out, data, EditError)
