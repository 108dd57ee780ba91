"""Which files a command works on: files, folders and patterns as a user names them."""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ..errors import PictureError
from ..files import is_directory
from ..imaging.pictures import READABLE_SUFFIXES
from .records import is_report, is_result
from .streams import INVERSION_SUFFIX, STANDARD

_OF_THE_SYSTEM = ("thumbs.db", "desktop.ini")  # hidden files of Windows


@dataclass(frozen=True)
class Source:
    """A file to work on, and what its results are called.

    Attributes
    ----------
    path:
        The file.
    name:
        Where its results go: path without suffix below the folder of all results.
    """

    path: Path
    name: Path


@dataclass(frozen=True)
class Found:
    """What was found under the names a user gave.

    Attributes
    ----------
    sources:
        The files to work on.
    passed_over:
        What else is in the folders: files of other kinds, and folders that cannot be read.
    folders, patterns:
        Whether a folder or a pattern was among the names: the number of files then varies with what
        is on the disk.
    """

    sources: tuple[Source, ...]
    passed_over: tuple[Path, ...] = ()
    folders: bool = False
    patterns: bool = False

    def __iter__(self) -> Iterator[Source]:
        return iter(self.sources)


def find_sources(arguments: Sequence[Path], suffixes: Sequence[str] = READABLE_SUFFIXES) -> Found:
    """Find the files that a user means.

    A file is taken whatever it is called; if it cannot be used, reading it will say so. Of a
    folder, the files below it are taken by their suffix and in sorted order, without hidden ones
    and the results of earlier runs; they keep their path below that folder. Links to folders are
    followed, and every folder is looked through once. What does not exist and has one of ``*?[`` in
    it is a pattern, for shells that do not expand them; ``**`` stands for folders of any depth. A
    file found twice counts once. ``-`` is standard input.

    Names that collide become longer: by the folders in which the files lie, and by the suffix
    where nothing else tells them apart.

    Parameters
    ----------
    suffixes:
        Of the files that are taken of a folder, in lower case.

    Raises
    ------
    PictureError
        If a folder has no such files, or nothing fits a pattern.
    """
    taken: dict[str, Source] = {}
    passed_over: dict[str, Path] = {}
    folders = patterns = False
    for argument in arguments:
        matches = _expand(argument)
        patterns |= matches != [argument]
        for path in matches:
            if path == STANDARD:
                below, others = [Source(path, Path("stdin"))], list[Path]()
            elif is_directory(path):
                folders = True
                below, others = _below(path, suffixes)
            else:
                below, others = [Source(path, Path(_name_of(path)))], []
            for source in below:
                before = taken.setdefault(_identity(source.path), source)
                if len(source.path.parts) < len(before.path.parts):  # not by way of a link
                    taken[_identity(source.path)] = source
            passed_over |= {_identity(other): other for other in others}
    sources: list[Source] = []
    longer = list(taken.values())
    while longer != sources:  # names made longer may collide with others
        sources, longer = longer, _lengthen(longer, _below_shared_folder)
    sources = _lengthen(sources, lambda alike: [s.name.with_name(s.path.name) for s in alike])
    rest = (path for key, path in passed_over.items() if key not in taken)
    return Found(tuple(sources), tuple(rest), folders, patterns)


def find_faces(arguments: Sequence[Path]) -> Found:
    """Find inversion files and pictures like :func:`find_sources`."""
    return find_sources(arguments, (*READABLE_SUFFIXES, INVERSION_SUFFIX))


def _name_of(path: Path) -> str:
    """What the results of a file are called; of ``..png``, whose stem is a dot, ``png``."""
    return path.stem if path.stem.strip(".") else path.name.strip(".")


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - which would leave ".." in place


def _identity(path: Path) -> str:
    """The same text for all ways to a file by linked folders; links to files stay files."""
    return os.path.normcase(os.path.join(os.path.realpath(path.parent), path.name))  # noqa: PTH118


def _expand(argument: Path) -> list[Path]:
    if os.path.lexists(argument) or not glob.has_magic(str(argument)):
        return [argument]
    matches = _fitting(argument)
    if not matches:
        raise PictureError(f"nothing fits {argument}; give pictures, folders or patterns")
    return sorted(matches, key=str)


def _fitting(pattern: Path) -> list[Path]:
    """What fits a pattern; ``**`` walks every folder once, where glob would follow links on."""
    parts = pattern.parts
    if "**" not in parts:
        return [Path(match) for match in glob.glob(str(pattern))]  # noqa: PTH207 - needs a folder
    first = parts.index("**")
    above = Path(*parts[:first])
    places = _fitting(above) if glob.has_magic(str(above)) else [above]
    return [
        path
        for place in places
        for path in _files_below(place)[0]
        if _fits(path.relative_to(place).parts, parts[first:])
    ]


def _fits(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether the parts of a path fit those of a pattern; ``**`` stands for any number of them."""
    if not parts or not patterns:
        return not parts and not patterns
    if patterns[0] != "**":
        return fnmatch(parts[0], patterns[0]) and _fits(parts[1:], patterns[1:])
    rest = patterns[1:] or ("*",)
    return any(_fits(parts[start:], rest) for start in range(len(parts)))


def _below(folder: Path, suffixes: Sequence[str]) -> tuple[list[Source], list[Path]]:
    """What is taken of a folder, and what is passed over; results of ours are neither."""
    files, others = _files_below(folder)
    below = []
    for path in files:
        known = path.suffix.lower() in suffixes
        if not known or _is_special(path):
            others += [] if _is_ours(path) else [path]
        elif not is_result(path):
            below.append(Source(path, path.relative_to(folder).with_suffix("")))
    if not below:
        more = f", only {_counted(others)}" if others else ""
        raise PictureError(
            f"there is no picture in {folder}{more}; pictures end in one of {', '.join(suffixes)}"
        )
    return below, others


def _counted(paths: Sequence[Path]) -> str:
    return f"{paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


def _is_ours(path: Path) -> bool:
    return path.suffix.lower() == INVERSION_SUFFIX or is_result(path) or is_report(path)


def _is_special(path: Path) -> bool:
    """Whether reading might block or never end: pipes, sockets, devices."""
    return path.exists() and not path.is_file()


def _files_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Walk the visible files below a folder: those of a folder first, then of folders in it.

    Each folder is walked once: under its own name if that is below, else by the first link to it.

    Returns
    -------
    files, unreadable:
        The folders that cannot be read are listed in the second place.
    """
    files: list[Path] = []
    unreadable: list[Path] = []
    walked: set[str] = set()
    folders, links = [folder], list[Path]()
    while folders or links:
        place = folders.pop() if folders else links.pop(0)
        identity = os.path.realpath(place)
        if identity in walked:
            continue
        walked.add(identity)
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:
            unreadable.append(place)
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in _OF_THE_SYSTEM:
                continue
            path = place / entry.name
            if not is_directory(path):
                files.append(path)
            elif entry.is_symlink():
                links.append(path)
            else:
                folders.append(path)
    return sorted(files, key=_files_first), unreadable


def _files_first(path: Path) -> tuple[tuple[bool, str], ...]:
    return (*((True, part) for part in path.parent.parts), (False, path.name))


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
