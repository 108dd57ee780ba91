"""What a worker does with a block of pictures: invert them, and keep what came of it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..batch.keeping import Keeping, KeepingFiles
from ..batch.pipeline import Failure
from ..batch.results import BatchFiles, InvertedFace, Outputs, Settings, Target
from ..batch.resume import EarlierResults
from ..batch.run import Batch, Finished, Task
from ..errors import BundleError, HyperStyleError
from ..imaging.pictures import Original
from ..model import Model
from ..types import Picture
from .tables import Row, Tables, row_of
from .urls import as_location, read_location

NAME, SOURCE, CONTENT, OUTCOME = "name", "source", "content", "outcome"
"""Columns of a block: what results are named after and where the picture is, or its content; of
what comes back."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How every worker opens the model.

    Attributes
    ----------
    bundle:
        Name or absolute directory; None for the embedded default.
    backend, threads, precision, device:
        As for :meth:`Model.load`.
    """

    bundle: str | None
    backend: str
    threads: int | None
    precision: str
    device: int | None = None


@dataclass(frozen=True, kw_only=True)
class BlockWork:
    """What is done with every picture, the same on all workers.

    Attributes
    ----------
    mask:
        As for :class:`Batch`.
    out:
        Directory of the result files; None to write none.
    working_directory:
        What relative paths are relative to.
    earlier:
        Results that are not made again; None to make all.
    force:
        Replace whatever files are in the way.
    tables:
        Where results go as Parquet, or None.
    done:
        Name and SHA-256 of what is in the tables already.
    jobs:
        Threads of every worker that read and write beside the inference.
    """

    opening: Opening
    settings: Settings
    mask: Picture | str | None
    out: Path | None
    working_directory: Path
    earlier: EarlierResults | None
    force: bool
    tables: Tables | None
    done: frozenset[tuple[str, str]]
    jobs: int

    def target(self, name: str) -> Target:
        """Where the results of a picture go."""
        place = Path(name)
        return Target((self.out or Path()) / place.parent, place.name)


class BlockInverter:
    """A worker: a model, and what is to be done with it; called with a block, it gives another.

    Raises
    ------
    BundleError, BackendError
        If the model cannot be opened, or is another one than that of the run.
    """

    def __init__(self, work: BlockWork) -> None:
        self._work = work
        self._enter(work.working_directory)
        opening = work.opening
        self._model = Model.load(
            opening.bundle,
            opening.backend,
            threads=opening.threads,
            precision=opening.precision,
            device=opening.device,
        )
        if self._model.bundle.digest != work.settings.bundle:
            raise BundleError(
                f"the bundle {self._model.bundle.directory} on the worker is not the one of this "
                "run; install the same version on all machines, or name a bundle on a shared disk"
            )

    def __call__(self, block: Any) -> Any:
        """Invert a block of pictures.

        Parameters
        ----------
        block:
            pyarrow table with :data:`NAME`, and :data:`SOURCE` or :data:`CONTENT`.

        Returns
        -------
        pyarrow table with :data:`NAME` and :data:`OUTCOME`: a pickled :class:`Finished`, or the
        error of the picture.
        """
        import pyarrow as pa

        rows = block.to_pylist()
        outcomes = self._invert(rows)
        packed = [pickle.dumps(outcomes[row[NAME]]) for row in rows]
        names = [row[NAME] for row in rows]
        return pa.table({NAME: pa.array(names, pa.string()), OUTCOME: packed})

    def _invert(self, rows: Sequence[Row]) -> dict[str, Finished | Failure]:
        work = self._work
        contents = {Path(row[NAME]): row[CONTENT] for row in rows if row.get(CONTENT) is not None}
        names, tasks = {}, []
        for row in rows:
            target = work.target(row[NAME])
            source = Path(row.get(SOURCE) or row[NAME])
            names[target] = row[NAME]
            tasks.append(Task(source if source in contents else as_location(source), target))

        def read(picture: Path) -> bytes:
            content: bytes | None = contents.get(picture)
            return read_location(picture) if content is None else content

        keeping = KeepingBlock(work, names, {task.target: task.picture for task in tasks})
        batch = Batch(self._model, work.settings, tasks, keeping, mask=work.mask, read=read)
        outcomes = {names[task.target]: outcome for task, outcome in batch.run(work.jobs)}
        if work.tables is not None:
            errors = [
                {"name": name, "source": str(task.picture), "error": str(outcome)}
                for task, (name, outcome) in zip(tasks, outcomes.items(), strict=True)
                if isinstance(outcome, Exception)
            ]
            work.tables.write(list(outcomes), keeping.rows_in_order(), errors)
        return outcomes

    @staticmethod
    def _enter(directory: Path) -> None:
        """Let relative paths mean on a worker what they mean where the run was started."""
        try:
            os.chdir(directory)
        except OSError as error:
            raise HyperStyleError(
                f"a worker cannot enter {directory}, where the run was started ({error.strerror}); "
                "start it in a directory that all machines share"
            ) from error


class KeepingBlock:
    """Keeps results of a block as files, as rows of a table, or both.

    A picture is done where it has both, or the one that is asked for. The rows of a block are
    written after its files, so a worker that dies may leave files without rows; these are made
    again.
    """

    def __init__(
        self, work: BlockWork, names: dict[Target, str], sources: dict[Target, Path]
    ) -> None:
        self._work = work
        self._names = names
        self._sources = sources
        self._rows: dict[str, list[Row]] = {}
        self._files: Keeping | None = None
        if work.out is not None:
            files = BatchFiles(work.settings, resume=work.earlier is not None, force=work.force)
            self._files = KeepingFiles(files, work.earlier)

    def earlier(self, target: Target, digest: str) -> tuple[Path, ...]:
        """See :class:`Keeping`."""
        tables = self._work.tables
        if tables is not None and (self._names[target], digest) not in self._work.done:
            return ()
        if self._files is not None:
            return self._files.earlier(target, digest)
        assert tables is not None  # there is one of both
        return (tables.inversions,)

    def check_free(self, paths: Sequence[Path]) -> None:
        """See :class:`Keeping`."""
        if self._files is not None:
            self._files.check_free(paths)

    def write(
        self, target: Target, photo: Original, faces: Sequence[InvertedFace], digest: str
    ) -> list[Outputs]:
        """See :class:`Keeping`; rows are kept until the block is done."""
        work, name = self._work, self._names[target]
        written = []
        if self._files is not None:
            written = self._files.write(target, photo, faces, digest)
        if work.tables is not None:
            source = self._sources[target]
            self._rows[name] = [
                row_of(name, source, face, len(faces), digest, work.settings) for face in faces
            ]
            written = written or [Outputs(work.tables.inversions) for _ in faces]
        return written

    def rows_in_order(self) -> list[Row]:
        """The rows of all pictures, in the order of these."""
        return [row for name in self._names.values() for row in self._rows.get(name, ())]
