"""What ``hyperstyle-rt edit`` tells about every face, to people and to machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch.records import REPORT_FORMAT
from ..batch.streams import spoken
from ..errors import InversionError, PictureError

if TYPE_CHECKING:
    from ..batch.sources import Found
    from ..editing.expressions import Amounts
    from ..model import Model


@dataclass(frozen=True)
class Edited:
    """What was written for a face.

    Attributes
    ----------
    output:
        Picture, film or folder.
    pictures:
        How many were rendered.
    skipped:
        Whether an earlier run had written it.
    face:
        Which of the photo's faces it is, from 1, where results are named by faces; else 0.
    """

    output: Path
    pictures: int
    seconds: float
    skipped: bool = False
    face: int = 0


@dataclass
class EditReport:
    """What became of the faces so far."""

    found: Found
    steps: Sequence[Amounts]
    done: list[tuple[Path, Edited]] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)

    def add(self, subject: Path, work: Callable[[], Iterable[Edited]]) -> list[str]:
        """Do the work of an inversion or a picture and take up what becomes of it, one by one.

        Returns
        -------
        A line about each file that was written.

        Raises
        ------
        HyperStyleError
            What is wrong with all faces. What is wrong with one of several is taken up.
        """
        lines = []
        try:
            for edited in work():
                self.done.append((subject, edited))
                lines += [] if edited.skipped else [_line(subject, edited)]
        except (PictureError, InversionError) as error:
            text = str(error)
            named = spoken(subject) in text or len(self.found.sources) == 1
            self.failed[subject] = text if named else f"{subject}: {text}"
        return lines

    def to_json(self, model: Model) -> dict[str, Any]:
        """Make the document of ``--json`` and ``--report``; of a single named face it is flat."""
        about = {
            "format": REPORT_FORMAT,
            "version": 1,
            "bundle": model.bundle.manifest.name,
            "provider": model.backend.provider,
            "edits": [dict(step) for step in self.steps],
        }
        entries = [
            {
                "input": str(subject),
                "face": edited.face or None,
                "output": str(edited.output),
                "seconds": round(edited.seconds, 3),
                "skipped": edited.skipped,
            }
            for subject, edited in self.done
        ]
        alone = len(self.found.sources) == 1 and not self.found.folders
        if alone and len(entries) == 1 and not self.failed:
            return about | entries[0]
        return about | {
            "edited": entries,
            "passed_over": [str(path) for path in self.found.passed_over],
            "errors": [{"input": str(path), "error": text} for path, text in self.failed.items()],
        }


def _line(subject: Path, edited: Edited) -> str:
    pictures = "1 picture" if edited.pictures == 1 else f"{edited.pictures} pictures"
    return f"{subject} -> {edited.output}  ({pictures}, {edited.seconds:.1f} s)"
