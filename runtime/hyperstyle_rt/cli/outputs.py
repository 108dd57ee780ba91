"""Where inversions are written, decided and checked before any work."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch.records import is_report
from ..batch.streams import is_pipe_out
from ..errors import HyperStyleError
from ..files import is_directory, make_directory, write_atomically

if TYPE_CHECKING:
    from ..batch.results import Settings
    from ..batch.run import Task
    from ..batch.sources import Found


def plan_tasks(found: Found, out: Path, settings: Settings) -> list[Task]:
    """Name the files of all pictures.

    Parameters
    ----------
    found:
        The pictures.
    out:
        A directory, which need not exist, for ``<name>.inverted.png`` and so on; or for a single
        picture the result's name, whose suffix is the format of all its pictures.
    settings:
        They tell what is written beside the results.

    Returns
    -------
    One for every picture, in their order.

    Raises
    ------
    HyperStyleError
        If ``out`` is not usable, two pictures would share a file, or an input would be overwritten.
    """
    from ..batch.results import Target
    from ..batch.run import Task

    sources = found.sources
    if is_directory_for(out, found):
        targets = [Target(out / source.name.parent, source.name.name) for source in sources]
    else:
        targets = [Target(out.parent, out.stem, out.suffix)]
    tasks = [Task(source.path, target) for source, target in zip(sources, targets, strict=True)]
    check_distinct((task.picture, first_files(task, settings)) for task in tasks)
    return tasks


def check_distinct(
    planned: Iterable[tuple[Path, Sequence[Path]]],
    others: Sequence[Path] = (),
    what: str = "pictures",
) -> None:
    """Refuse results that would replace what is worked on, or one another.

    Parameters
    ----------
    planned:
        Every picture, and the files that are written for it.
    others:
        What is read beside the pictures.
    what:
        What is worked on, for the sentence.

    Raises
    ------
    HyperStyleError
        If there are such, whatever may be replaced otherwise.
    """
    planned = list(planned)
    inputs = {os.path.realpath(path) for path in (*others, *(picture for picture, _ in planned))}
    owners: dict[str, Path] = {}
    for picture, files in planned:
        for path in files:
            if os.path.realpath(path) in inputs:
                raise HyperStyleError(
                    f"{path} is one of the {what} and would be overwritten; give another --out"
                )
            key = os.path.normcase(path)
            if key in owners:
                raise HyperStyleError(
                    f"{owners[key]} and {picture} would both be written to {path}; rename one, or "
                    "take them one after the other with another --out"
                )
            owners[key] = picture


def refuse_existing(
    paths: Sequence[Path], error: type[HyperStyleError] = HyperStyleError, option: str = "--out"
) -> None:
    """Refuse to replace files.

    Parameters
    ----------
    option:
        That names them.

    Raises
    ------
    HyperStyleError
        Of type `error`, if one of the files exists.
    """
    existing = [path for path in paths if os.path.lexists(path)]
    if existing:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise error(
            f"{existing[0]}{more} exists; give another {option}, or replace it with --force"
        )


def check_report(path: Path, resume: bool, force: bool, others: Iterable[Path]) -> None:
    """Check before any work that the report can be written.

    Parameters
    ----------
    resume, force:
        Whether an older report may be replaced, or whatever file is there.
    others:
        What else is read or written, which is never replaced, nor made impossible to write.

    Raises
    ------
    HyperStyleError
        If not.
    """
    if is_directory(path):
        raise HyperStyleError(f"--report {path} is a directory; name a file in it")
    if is_pipe_out(path) or (os.path.exists(path) and not os.path.isfile(path)):  # noqa: PTH110, PTH113
        raise HyperStyleError(
            f"--report {path} is no file; name one, or have the report printed by --json"
        )
    check_writable(path.parent, "--report")
    place = os.path.realpath(path)
    for other in others:
        used = os.path.realpath(other)
        if used == place or used.startswith(f"{place}{os.sep}"):
            raise HyperStyleError(
                f"--report {path} would take the place of {other}; give another --report"
            )
    if not force and not (resume and is_report(path)):
        refuse_existing([path], option="--report")


def write_report(path: Path, document: Mapping[str, Any]) -> None:
    """Write the document of ``--json`` into the file of ``--report``, which is replaced.

    Raises
    ------
    HyperStyleError
        If it cannot be written.
    """
    text = json.dumps(document, indent=2)
    make_directory(path.parent, HyperStyleError)
    write_atomically(path, f"{text}\n".encode("ascii"), HyperStyleError)


def first_files(task: Task, settings: Settings) -> list[Path]:
    """List the files of a picture as far as they are known: of several faces those of the first."""
    from ..photos.portraits import ALL

    return task.target.outputs(settings, int(settings.face == ALL)).paths()


def numbered(path: Path, number: int, ending: str) -> Path:
    """Put a face's number into a name, before its suffix or `ending`; 0 is no number.

    ``x.aligned.png`` becomes ``x.face1.aligned.png``, ``x.png`` becomes ``x.face1.png``.
    """
    if not number:
        return path
    ending = ending if path.name.endswith(ending) else path.suffix
    return path.with_name(f"{path.name.removesuffix(ending)}.face{number}{ending}")


def is_directory_for(
    out: Path, found: Found, known: Sequence[str] = (), what: str = "pictures"
) -> bool:
    """Whether ``--out`` is a directory for the results of what was found, not the name of one.

    For what a folder holds it is one, whatever its name looks like; for several pictures, too,
    unless the name is that of a result.

    Parameters
    ----------
    known:
        Suffixes of the files that the name may be one of; () for those of pictures.
    what:
        What was found, for the sentence.

    Raises
    ------
    HyperStyleError
        If it is neither, names one file or a pipe for several pictures, or cannot be written to.
    """
    from ..imaging.pictures import PICTURE_SUFFIXES

    if is_pipe_out(out):
        raise several_to_pipe(out)
    known = known or PICTURE_SUFFIXES
    count = len(found.sources)
    directory = found.folders or is_directory(out) or not out.suffix
    if not directory and (count > 1 or found.patterns):
        directory = out.suffix.lower() not in known
    if not directory:
        check_suffix(out, known)
        if count > 1:
            raise HyperStyleError(
                f"--out {out} names one file for {count} {what}; give a directory"
            )
    check_writable(out if directory else out.parent)
    return directory


def several_to_pipe(out: Path) -> HyperStyleError:
    """Make the error for an ``--out`` that is a pipe where more than one file may be written."""
    return HyperStyleError(
        f"--out {out} takes the one result of one picture; give a directory for more files"
    )


def check_suffix(out: Path, known: Sequence[str]) -> None:
    """Refuse an ``--out`` that has none of the suffixes of a format.

    Raises
    ------
    HyperStyleError
        If so.
    """
    if out.suffix.lower() not in known:
        raise HyperStyleError(
            f"--out {out} must end in one of {', '.join(known)}; "
            "if it is to be a directory, create it first"
        )


def check_writable(directory: Path, option: str = "--out") -> None:
    """Refuse a directory that files cannot be written into, or that cannot be created.

    Parameters
    ----------
    option:
        That names it.

    Raises
    ------
    HyperStyleError
        If it is such.
    """
    above = (directory, *directory.absolute().parents)
    nearest = next(path for path in above if os.path.lexists(path))
    if not is_directory(nearest):
        raise HyperStyleError(
            f"cannot write into {directory}: {nearest} is not a directory; give another {option}"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise HyperStyleError(
            f"cannot write into {directory}: {nearest} is not yours to write; give another {option}"
        )
