"""``hyperstyle-rt invert --export-bundle``: the generator as the inversion has tuned it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..batch.streams import INVERSION_SUFFIX, is_pipe_out
from ..errors import HyperStyleError
from .invert_options import InvertRequest
from .outputs import check_writable, first_files, refuse_existing

if TYPE_CHECKING:
    from ..batch.results import Settings
    from ..batch.run import Task
    from ..model import Model

TUNED_SUFFIX = f".tuned{INVERSION_SUFFIX}"


def check_export(
    request: InvertRequest, model: Model, tasks: Sequence[Task], settings: Sequence[Settings]
) -> None:
    """Refuse an export that cannot be made, before the picture is inverted.

    Raises
    ------
    HyperStyleError
        If there are several inversions, something is or would be in the way, or the bundle lacks
        the graphs.
    """
    from ..exporting.directories import check_destination
    from ..photos.portraits import ALL

    directory = request.written.export_bundle
    if directory is None:
        return
    if len(tasks) != 1 or settings[0].face == ALL or is_pipe_out(request.written.out):
        raise HyperStyleError(
            "--export-bundle is for one inversion of one picture, written to files; name one "
            "picture, one method and one face"
        )
    place = Path(os.path.realpath(directory))
    if _is_within(model.bundle.directory, place):
        raise HyperStyleError(
            f"--export-bundle {directory} would replace the bundle that the picture is inverted "
            "with; give another directory"
        )
    check_destination(directory, request.force)
    check_writable(place.parent, "--export-bundle")
    written = [*first_files(tasks[0], settings[0]), tuned_file(tasks[0]), request.folders.report]
    for path in filter(None, written):
        if _is_within(path, place):
            raise HyperStyleError(
                f"{path} would be in the way of --export-bundle {directory}, which holds nothing "
                "but the bundle; give another directory"
            )
    if not request.force:
        refuse_existing([tuned_file(tasks[0])])
    model.check_export()


def export_bundle(request: InvertRequest, model: Model, task: Task) -> str:
    """Export the generator of a picture's inversion file, of this run or of an earlier one.

    Returns
    -------
    A line for the user.
    """
    from ..inversion import Inversion

    directory = request.written.export_bundle
    assert directory is not None
    inversion = Inversion.load(task.target.file(INVERSION_SUFFIX))
    exported = model.export_bundle(inversion, directory, overwrite=request.force)
    exported.save(tuned_file(task))
    return (
        f"exported the tuned generator to {directory}; its inversion of the picture is "
        f"{tuned_file(task)}"
    )


def tuned_file(task: Task) -> Path:
    """Where the inversion in terms of the exported bundle goes."""
    return task.target.folder / f"{task.target.stem}{TUNED_SUFFIX}"


def _is_within(path: Path, place: Path) -> bool:
    """Whether a path is a directory, or leads into it; `place` has no links."""
    return Path(os.path.realpath(path)).is_relative_to(place)
