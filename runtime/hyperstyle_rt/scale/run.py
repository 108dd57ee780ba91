"""Inversion of many pictures on a Ray cluster.

The pictures are a Ray dataset in blocks of a few. Actors that hold a model each take one block
after the other, as :mod:`blocks` says, and what comes back are the outcomes alone; results are
written where they are made. Ray starts an actor anew that has died and gives its block to one that
lives; a block that several have died of is tried picture by picture (:mod:`attempts`), so that one
bad picture takes no others with it.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..batch.pipeline import JOBS, Failure
from ..batch.run import Finished, OnProgress, Task
from ..errors import BackendError, HyperStyleError, InversionError, PictureError
from .attempts import SharedCounter
from .blocks import CONTENT, NAME, SOURCE, BlockInverter, BlockWork
from .outcomes import outcome_of
from .ray_library import connected
from .tables import picture_columns, picture_name
from .urls import filesystem_of

BLOCK = 16
"""Pictures that are redone at most where a worker dies, for each of its blocks in flight."""

READERS = 1
"""Processors that read tables of pictures; if the workers had all, they would wait for ever."""

BLOCKS_IN_FLIGHT = 2
"""Blocks that are at a worker: the one it does and the next."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What a run takes of a cluster.

    Attributes
    ----------
    address:
        As for :func:`connected`.
    workers:
        Models at once; None for as many as processors or GPUs allow.
    processors, gpus:
        Of each worker; several workers share a GPU with a fraction of one each.
    """

    address: str
    workers: int | None = None
    processors: int = 1
    gpus: float = 0.0

    def count_workers(self, ray: Any, spare: int = 0) -> int:
        """How many workers there are at once.

        Parameters
        ----------
        spare:
            Processors that are left to others.

        Raises
        ------
        BackendError
            If the cluster has no place for one.
        """
        has: Mapping[str, float] = ray.cluster_resources()
        fits = int((has.get("CPU", 0.0) - spare) // self.processors)
        if self.gpus:
            fits = min(fits, int(has.get("GPU", 0.0) / self.gpus + 1e-6))
        if fits < 1:
            raise BackendError(
                f"the cluster has {has.get('CPU', 0):g} processors and {has.get('GPU', 0):g} GPUs, "
                f"and a worker needs {self.processors} and {self.gpus:g}; lower --threads or "
                "--ray-gpus"
            )
        return min(fits, self.workers or fits)


class RayBatch:
    """Pictures to invert on a cluster, all with the same settings: :class:`Batch` on many machines.

    Parameters
    ----------
    work:
        What workers do with each picture.
    tasks:
        By name; no two with the same target.
    pictures:
        Tables of pictures that the tasks are in; none where each task is a file of its own.
    """

    def __init__(
        self,
        cluster: Cluster,
        work: BlockWork,
        tasks: Mapping[str, Task],
        pictures: Sequence[Path] = (),
    ) -> None:
        self._cluster = cluster
        self._work = work
        self._tasks = tasks
        self._pictures = pictures

    def run(
        self, jobs: int = JOBS, on_iteration: OnProgress | None = None
    ) -> Generator[tuple[Task, Finished | Failure], None, None]:
        """Invert them all, in the order in which they are done; see :meth:`Batch.run`.

        ``jobs`` are threads of every worker, and iterations are not told across machines. That
        there is no Ray or no cluster stops the run, too.
        """
        reading = READERS if self._pictures else 0
        with connected(self._cluster.address, reading) as ray:
            workers = self._cluster.count_workers(ray, reading)
            work = replace(self._work, jobs=jobs, attempts=SharedCounter(ray))
            rows = max(1, min(BLOCK, len(self._tasks) // (4 * workers)))
            for name, outcome in self._outcomes(ray, work, rows, workers):
                yield self._tasks[name], outcome

    def _outcomes(
        self, ray: Any, work: BlockWork, rows: int, workers: int
    ) -> Iterator[tuple[str, Finished | Failure]]:
        """Run the pictures through workers, so many in a block."""
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        dataset = self._dataset(ray, rows).map_batches(
            BlockInverter,
            fn_constructor_args=(work,),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=workers, max_tasks_in_flight_per_actor=BLOCKS_IN_FLIGHT
            ),
            num_cpus=self._cluster.processors,
            num_gpus=self._cluster.gpus,
        )
        try:
            for block in dataset.iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=0
            ):
                for row in block.to_pylist():
                    outcome = outcome_of(row)
                    if not isinstance(outcome, (Finished, PictureError, InversionError)):
                        raise outcome  # the model's, which stops the run
                    yield row[NAME], outcome
        except ray.exceptions.RayTaskError:  # a fault of this program
            raise
        except ray.exceptions.RayError as error:
            raise _spoken(error) from error

    def _dataset(self, ray: Any, rows: int) -> Any:
        """The pictures as a dataset, so many to a block."""
        import pyarrow as pa

        if not self._pictures:
            names = list(self._tasks)
            texts = pa.schema([(NAME, pa.string()), (SOURCE, pa.string())])
            blocks = [names[start : start + rows] for start in range(0, len(names), rows)]
            return ray.data.from_arrow(
                [
                    pa.table([each, [str(self._tasks[n].picture) for n in each]], schema=texts)
                    for each in blocks
                ]
            )
        tables = [self._table(ray, path, rows) for path in self._pictures]
        return tables[0].union(*tables[1:]) if len(tables) > 1 else tables[0]

    def _table(self, ray: Any, path: Path, rows: int) -> Any:
        """A table of pictures as a dataset."""
        import pyarrow as pa
        import pyarrow.dataset as ds

        filesystem, place = filesystem_of(path)
        schema = ds.dataset(place, format="parquet", filesystem=filesystem).schema
        columns = picture_columns(schema.names, path)

        def named(block: Any) -> Any:
            names = pa.array(map(picture_name, block.column(columns[0]).to_pylist()), pa.string())
            return pa.table({NAME: names, CONTENT: block.column(columns[1])})

        return (
            ray.data.read_parquet(place, filesystem=filesystem, columns=list(columns))
            .map_batches(named, batch_size=rows, batch_format="pyarrow")
            .repartition(target_num_rows_per_block=rows)
        )


def _spoken(error: Exception) -> HyperStyleError:
    """What has become of the cluster, in one sentence."""
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    return BackendError(
        f"the Ray cluster has failed ({first}); what is done is kept: run it again with --resume"
    )
