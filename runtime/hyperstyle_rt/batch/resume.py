"""What earlier runs have left in a folder, found by the records in the results themselves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..files import visible_files
from ..photos.portraits import ALL
from .records import read_record
from .results import RESULT_ENDING, Settings, Target, record_of_sheet


class EarlierResults:
    """The results of earlier runs with the same settings.

    Parameters
    ----------
    targets:
        Of this run.
    root:
        Folder below which results are looked for that are named after no picture of this run:
        their pictures may have got other names. None to look under the names of this run alone.
    """

    def __init__(
        self, settings: Settings, targets: Iterable[Target] = (), root: Path | None = None
    ) -> None:
        self._settings = settings
        self._recorded = settings.to_json()
        self._first_face = int(settings.face == ALL)
        planned = {(target.folder, target.stem) for target in targets}
        self._elsewhere: dict[str, tuple[Path, str]] = {}
        first = f".face{self._first_face}{RESULT_ENDING}" if self._first_face else RESULT_ENDING
        for path in () if root is None else visible_files(root):
            place = path.parent, path.name.removesuffix(first)
            if not path.name.endswith(first) or place in planned:
                continue
            record = read_record(path)
            if record is not None and record.settings == self._recorded:
                self._elsewhere[record.picture] = place

    def files(self, target: Target, digest: str) -> list[Path]:
        """List the files of a picture in the order they were written; none unless all are there.

        Parameters
        ----------
        digest:
            SHA-256 of the picture's file as it is now.
        """
        found: list[Path] = []
        face = faces = self._first_face
        while face <= faces:
            record = read_record(target.result(face))
            if record is None or (record.picture, record.face) != (digest, face):
                return []
            files = [*map(target.file, record.beside), target.result(face)]
            if record.settings != self._recorded or not all(path.is_file() for path in files):
                return []
            sheet = target.outputs(self._settings, face).coupled
            if target.comparison is not None and sheet is not None:
                if read_record(sheet) != record_of_sheet(record, target):
                    return []  # what it shows has changed
                found.append(sheet)
            found += files
            face, faces = face + 1, record.faces
        return found

    def moved(self, target: Target, digest: str) -> list[tuple[Path, Path]]:
        """List the files of a picture that had another name, each with its name under the target.

        They are none that this run writes, so their contents belong together.
        """
        place = self._elsewhere.get(digest)
        if place is None:
            return []
        old, pairs = target.renamed(*place), []
        for path in self.files(old, digest):
            before, now = old.stem, target.stem
            if old.comparison and target.comparison and not path.name.startswith(before):
                before, now = old.comparison.stem, target.comparison.stem
            pairs.append((path, target.folder / (now + path.name.removeprefix(before))))
        return pairs
