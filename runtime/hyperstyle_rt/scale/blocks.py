"""What a worker does with a block of pictures: invert them, and keep what came of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..batch.keeping import Keeping, KeepingFiles
from ..batch.pipeline import Failure
from ..batch.results import BatchFiles, InvertedFace, Outputs, Settings, Target
from ..batch.resume import EarlierResults
from ..batch.run import Batch, Finished, Task
from ..errors import BundleError, HyperStyleError, PictureError
from ..imaging.pictures import Original
from ..model import Model
from ..types import Picture
from .attempts import MOST, Attempts
from .outcomes import table_of
from .tables import Row, Tables, row_of
from .urls import as_location, read_location

NAME, SOURCE, CONTENT = "name", "source", "content"
"""Columns of a block: what results are named after, and where the picture is or its content."""


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
    attempts:
        Of blocks and pictures; None where a worker that dies ends the run.
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
    attempts: Attempts | None = None

    def target(self, name: str) -> Target:
        """Where the results of a picture go."""
        place = Path(name)
        return Target((self.out or Path()) / place.parent, place.name)


@dataclass(frozen=True)
class Block:
    """What became of pictures: their outcomes by name, and the rows of both tables."""

    outcomes: dict[str, Finished | Failure] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)

    def add(self, other: Block) -> None:
        """Take up what became of others."""
        self.outcomes.update(other.outcomes)
        self.rows.extend(other.rows)
        self.errors.extend(other.errors)


class BlockInverter:
    """A worker: a model, and what is to be done with it; called with a block, it gives another."""

    def __init__(self, work: BlockWork) -> None:
        self._work = work
        self._problem: HyperStyleError | None = None
        try:
            self._model = self._open(work)
        except HyperStyleError as error:  # told with the first block: Ray would make pages of it
            self._problem = error.with_traceback(None)

    def __call__(self, block: Any) -> Any:
        """Invert a block of pictures.

        Parameters
        ----------
        block:
            pyarrow table with :data:`NAME`, and :data:`SOURCE` or :data:`CONTENT`.

        Returns
        -------
        pyarrow table of :func:`outcomes.table_of`, in the block's order: each picture's
        :class:`Finished` or error, or that of the model, which is to stop the run.
        """
        rows = block.to_pylist()
        names = [row[NAME] for row in rows]
        outcomes: Mapping[str, Finished | HyperStyleError]
        try:
            outcomes = self._outcomes(rows)
        except HyperStyleError as error:  # returned, for Ray would take it for one of the block
            outcomes = dict.fromkeys(names, error.with_traceback(None))
        return table_of({name: outcomes[name] for name in names})

    def _outcomes(self, rows: Sequence[Row]) -> Mapping[str, Finished | Failure]:
        """What becomes of a block; picture by picture where workers have died of it before."""
        if self._problem is not None:
            raise self._problem
        attempts, block = self._work.attempts, "\0".join(row[NAME] for row in rows)
        done = Block()
        if attempts is None or attempts.begin(block) < MOST:
            done.add(self._invert(rows))
        else:
            for row in rows:
                done.add(self._attempt(row, attempts))
        outcomes: Mapping[str, Finished | Failure] = done.outcomes
        if self._work.tables is not None:
            try:
                self._work.tables.write(list(outcomes), done.rows, done.errors)
            except PictureError as error:
                outcomes = dict.fromkeys(outcomes, error.with_traceback(None))
        if attempts is not None:
            attempts.end(block)
        return outcomes

    def _attempt(self, row: Row, attempts: Attempts) -> Block:
        """Invert one picture, unless workers have died of it."""
        name = row[NAME]
        if attempts.begin(name) > MOST:
            attempts.end(name)
            source = row.get(SOURCE) or name
            error = PictureError(
                f"{MOST} workers have died, one after the other, while they inverted {source}; "
                "look at its size and at the memory of the workers"
            )
            return Block({name: error}, [], [_error_row(name, source, error)])
        done = self._invert([row])
        attempts.end(name)
        return done

    def _invert(self, rows: Sequence[Row]) -> Block:
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
        done = Block()
        for task, outcome in batch.run(work.jobs):
            name = names[task.target]
            done.outcomes[name] = outcome
            if isinstance(outcome, Exception):
                done.errors.append(_error_row(name, str(task.picture), outcome))
        done.rows.extend(keeping.rows_in_order())
        return done

    @classmethod
    def _open(cls, work: BlockWork) -> Model:
        cls._enter(work.working_directory)
        opening = work.opening
        model = Model.load(
            opening.bundle,
            opening.backend,
            threads=opening.threads,
            precision=opening.precision,
            device=opening.device,
        )
        if model.bundle.digest != work.settings.bundle:
            raise BundleError(
                f"the bundle {model.bundle.directory} on a worker is not the one of this run; "
                "install the same version on all machines, or name a bundle on a shared disk"
            )
        return model

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


def _error_row(name: str, source: str, error: Exception) -> dict[str, str]:
    return {"name": name, "source": source, "error": str(error)}
