"""What becomes of the inverted pictures of a batch: files, or whatever else they are kept in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ..imaging.pictures import Original
from ..temporaries import remove_leftovers
from .results import BatchFiles, InvertedFace, Outputs, Settings, Target
from .resume import EarlierResults


class Keeping(Protocol):
    """Where a batch looks for what is done already, and where it puts what it does.

    Its methods are called in several threads.
    """

    def earlier(self, target: Target, digest: str) -> tuple[Path, ...]:
        """Results that are there already for a picture of this SHA-256; none if it is to be done.

        Raises
        ------
        PictureError
            If they cannot be used.
        """

    def check_free(self, paths: Sequence[Path]) -> None:
        """Refuse, before the inference, to write where a file is that may not be replaced.

        Raises
        ------
        PictureError
            Names the first of them.
        """

    def write(
        self, target: Target, photo: Original, faces: Sequence[InvertedFace], digest: str
    ) -> list[Outputs]:
        """Keep what was inverted of a picture, all of it or nothing.

        Returns
        -------
        For each face the files that were written.

        Raises
        ------
        PictureError, InversionError
            If that is not possible.
        """


class KeepingFiles:
    """Keeps results as files in folders.

    Parameters
    ----------
    files:
        Writes them.
    earlier:
        Results that are not made again; None to make all.
    """

    def __init__(self, files: BatchFiles, earlier: EarlierResults | None = None) -> None:
        self._files = files
        self._earlier = earlier

    def earlier(self, target: Target, digest: str) -> tuple[Path, ...]:
        """The results of an earlier run for this content, copied if it had another name."""
        if self._earlier is None:
            return ()
        files = self._earlier.files(target, digest)
        if not files:
            moved = self._earlier.moved(target, digest)
            self._files.copy(moved)
            files = [path for _, path in moved]
        return tuple(path for path in files if path.name.endswith(target.ending))

    def check_free(self, paths: Sequence[Path]) -> None:
        """See :meth:`BatchFiles.check_free`."""
        self._files.check_free(paths)

    def write(
        self, target: Target, photo: Original, faces: Sequence[InvertedFace], digest: str
    ) -> list[Outputs]:
        """See :meth:`BatchFiles.write`."""
        return self._files.write(target, photo, faces, digest)


def keeping_files(
    settings: Settings,
    targets: Sequence[Target],
    *,
    root: Path | None = None,
    force: bool = False,
) -> KeepingFiles:
    """Prepare folders for the files of a batch: what killed runs have left there is removed.

    Parameters
    ----------
    targets:
        Of all pictures.
    root:
        Folder below which results of an earlier run are looked for, whatever the pictures were
        called then; None to skip nothing and to replace nothing.
    force:
        Replace whatever files are in the way.
    """
    for folder in {target.folder for target in targets}:
        remove_leftovers(folder)
    files = BatchFiles(settings, resume=root is not None, force=force)
    return KeepingFiles(files, None if root is None else EarlierResults(settings, targets, root))
