"""Which pictures a command works on: files, folders and patterns as a user names them."""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import PictureError
from ..files import is_directory, visible_files
from ..imaging.pictures import READABLE_SUFFIXES
from .records import is_result


@dataclass(frozen=True)
class Source:
    """A picture, and what its results are called.

    Attributes
    ----------
    path:
        The file.
    name:
        Where its results go: path without suffix below the folder of all results.
    """

    path: Path
    name: Path


def find_sources(arguments: Sequence[Path]) -> list[Source]:
    """Find the pictures that a user means.

    A file is taken whatever it is called; if it is no picture, reading it will say so. Of a folder,
    the pictures below it are taken by their suffix and in sorted order, without hidden ones and the
    results of earlier runs; they keep their path below that folder. What does not exist and has one
    of ``*?[`` in it is a pattern, for shells that do not expand them; ``**`` stands for folders of
    any depth. A file found twice counts once.

    Names that collide become longer: by the folders in which the pictures lie, and by the suffix
    where nothing else tells them apart.

    Raises
    ------
    PictureError
        If a folder has no pictures, or nothing fits a pattern.
    """
    found: dict[str, Source] = {}
    for argument in arguments:
        for path in _expand(argument):
            below = _below(path) if is_directory(path) else [Source(path, Path(path.stem))]
            for source in below:
                found.setdefault(os.path.normcase(_absolute(source.path)), source)
    sources: list[Source] = []
    longer = list(found.values())
    while longer != sources:  # names made longer may collide with others
        sources, longer = longer, _lengthen(longer, _below_shared_folder)
    return _lengthen(sources, lambda alike: [s.name.with_name(s.path.name) for s in alike])


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - which would leave ".." in place


def _expand(argument: Path) -> list[Path]:
    if os.path.lexists(argument) or not glob.has_magic(str(argument)):
        return [argument]
    matches = sorted(glob.glob(str(argument), recursive=True))  # noqa: PTH207 - needs a folder
    if not matches:
        raise PictureError(f"nothing fits {argument}; give pictures, folders or patterns")
    return [Path(match) for match in matches]


def _below(folder: Path) -> Iterator[Source]:
    some = False
    for path in visible_files(folder):
        if path.suffix.lower() in READABLE_SUFFIXES and not is_result(path):
            some = True
            yield Source(path, path.relative_to(folder).with_suffix(""))
    if not some:
        known = ", ".join(READABLE_SUFFIXES)
        raise PictureError(f"there is no picture in {folder}; pictures end in one of {known}")


def _lengthen(
    sources: list[Source], names_of: Callable[[list[Source]], list[Path]]
) -> list[Source]:
    """Give those that share a name the names that ``names_of`` finds for them."""
    groups: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        groups[os.path.normcase(source.name)].append(source)
    names: dict[Source, Path] = {}
    for alike in groups.values():
        if len(alike) > 1:
            names |= zip(alike, names_of(alike), strict=True)
    return [Source(source.path, names.get(source, source.name)) for source in sources]


def _below_shared_folder(alike: list[Source]) -> list[Path]:
    paths = [_absolute(source.path) for source in alike]
    folders = {os.path.dirname(path) for path in paths}  # noqa: PTH120 - of texts
    try:
        shared = os.path.commonpath(folders)
    except ValueError:  # on several drives: nothing is shared
        folders = set()
    if len(folders) < 2:
        return [source.name for source in alike]
    return [Path(os.path.relpath(path, shared)).with_suffix("") for path in paths]
