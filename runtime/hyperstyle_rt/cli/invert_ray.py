"""``hyperstyle-rt invert --ray``: what is asked for, as a run on a cluster."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends.registry import BACKENDS
from ..batch.streams import is_pipe, is_pipe_out
from ..errors import HyperStyleError
from ..files import is_directory
from .invert_descent import check_descent, mask_of
from .invert_film import films_of
from .invert_methods import ALL_METHODS, all_settings
from .invert_options import InvertRequest
from .invert_report import Report
from .outputs import check_report, first_files, is_directory_for, plan_tasks, refuse_existing

if TYPE_CHECKING:
    from ..batch.results import Settings
    from ..batch.run import Task
    from ..batch.sources import Found
    from ..model import Model
    from ..scale.blocks import BlockWork
    from ..scale.run import Cluster, RayBatch
    from ..scale.tables import Tables
    from ..types import Picture

TABLE_SUFFIX = ".parquet"


@dataclass(frozen=True)
class OnRay:
    """A run on a cluster, ready to begin.

    Attributes
    ----------
    model:
        Opened where the command is, for what there is to know of the bundle.
    provider:
        What computes; None where that is up to the machines of the cluster.
    """

    batch: RayBatch
    model: Model
    settings: Settings
    results: Report
    provider: str | None


def check_cluster(request: InvertRequest) -> None:
    """Refuse options that go with a cluster where there is none, and others where there is one.

    Raises
    ------
    HyperStyleError
        If so.
    """
    cluster, written = request.cluster, request.written
    if cluster.ray is None:
        given = {
            "--parquet": cluster.parquet,
            "--ray-workers": cluster.ray_workers,
            "--ray-gpus": cluster.ray_gpus,
            "--no-files": cluster.no_files or None,
        }
        for name, value in given.items():
            if value is not None:
                raise HyperStyleError(f"{name} goes with --ray; add --ray local")
        return
    if cluster.no_files and cluster.parquet is None:
        raise HyperStyleError("--no-files leaves nothing to write; add --parquet")
    if written.export_bundle is not None:
        raise HyperStyleError("--export-bundle is for one picture; leave --ray out")
    if request.search.method == ALL_METHODS:
        raise HyperStyleError("with --ray every method is a run of its own; name one with --method")
    if films_of(request.pictures):
        raise HyperStyleError("a film is inverted on one machine; leave --ray out")
    if is_pipe_out(written.out) or any(map(is_pipe, request.pictures)):
        raise HyperStyleError("the machines of a cluster share no pipes; name files for --ray")


def plan_on_ray(request: InvertRequest) -> OnRay:
    """Find the pictures and check all that can be checked before the first is inverted.

    Raises
    ------
    HyperStyleError
        If something is missing, in the way, or does not go together.
    """
    from ..scale.ray_library import LOCAL, import_ray
    from ..scale.run import RayBatch

    import_ray()
    cluster = request.cluster
    is_local = cluster.ray == LOCAL
    model = _model(request, is_local)
    mask = mask_of(request)
    (settings,) = all_settings(request, model, mask)
    check_descent(settings, model)
    tables = _tables(request, settings)
    planned = _planned(request, settings)
    tasks = list(planned.tasks.values())
    folders = request.folders
    if folders.report is not None:
        used = [p for t in tasks for p in (t.picture, *first_files(t, settings))]
        check_report(folders.report, folders.resume, request.force, used)
    if not (request.force or folders.resume or cluster.no_files):
        refuse_existing([p for t in tasks for p in first_files(t, settings)])
    work = _work(request, settings, tasks, tables, mask)
    batch = RayBatch(_cluster(request), work, planned.tasks, planned.tables)
    results = Report(tasks, planned.passed_over)
    return OnRay(batch, model, settings, results, model.backend.provider if is_local else None)


def _model(request: InvertRequest, is_local: bool) -> Model:
    """The model, for what the bundle says: of a cluster, whose head may have no GPU, on the CPU."""
    from ..model import Model

    running = request.running
    if is_local:
        return Model.load(request.search.bundle, running.backend, **running.settings())
    return Model.load(request.search.bundle, "cpu")


def _tables(request: InvertRequest, settings: Settings) -> Tables | None:
    from ..scale.tables import Tables
    from ..scale.urls import as_location

    directory = request.cluster.parquet
    if directory is None:
        return None
    location = as_location(directory)
    whole = location if location != directory else directory.absolute()
    tables = Tables(whole, settings, uuid.uuid4().hex[:12])
    if not request.folders.resume:
        tables.check_new()
    return tables


@dataclass(frozen=True)
class Planned:
    """The pictures of a run.

    Attributes
    ----------
    tables:
        That they are in; none where each is a file of its own.
    tasks:
        By the name that workers know them by.
    """

    tables: Sequence[Path]
    tasks: Mapping[str, Task]
    passed_over: tuple[Path, ...]


def _planned(request: InvertRequest, settings: Settings) -> Planned:
    from ..batch.results import Target
    from ..batch.run import Task
    from ..batch.sources import Found, Source
    from ..scale.tables import picture_names
    from ..scale.urls import as_location

    locations = [as_location(path) for path in request.pictures]
    tables = [path for path in locations if path.suffix.lower() == TABLE_SUFFIX]
    if tables and len(tables) < len(locations):
        raise HyperStyleError(
            "tables of pictures and pictures are runs of their own; name only the one or the other"
        )
    if tables:
        places = map(Path, picture_names(tables))
        found = Found(tuple(Source(place, place) for place in places), folders=True)
    else:
        found = _found(locations)
    if request.cluster.no_files:
        tasks = [Task(s.path, Target(s.name.parent, s.name.name)) for s in found]
    else:
        if not is_directory_for(request.written.out, found):
            raise HyperStyleError(
                f"--ray needs a directory for the results, and --out {request.written.out} is a "
                "picture"
            )
        tasks = plan_tasks(found, request.written.out, settings)
    names = (source.name.as_posix() for source in found)
    return Planned(tables, dict(zip(names, tasks, strict=True)), found.passed_over)


def _found(locations: Sequence[Path]) -> Found:
    """Files, folders and patterns as always; of URLs what is below them."""
    from ..batch.sources import Found, Source, find_sources
    from ..imaging.pictures import READABLE_SUFFIXES
    from ..scale.urls import Url, files_below

    local = [path for path in locations if not isinstance(path, Url)]
    found = find_sources(local) if local else Found(())
    sources = list(found.sources)
    for url in locations:
        if isinstance(url, Url):
            below = files_below(url, READABLE_SUFFIXES)
            sources += [Source(each, _name_below(each, url)) for each in below]
    name, count = Counter(source.name for source in sources).most_common(1)[0]
    if count > 1:
        raise HyperStyleError(
            f"{count} pictures would all be called {name}; invert them one run after the other, "
            "each with an --out of its own"
        )
    return Found(tuple(sources), found.passed_over, folders=found.folders or len(sources) > 1)


def _name_below(file: Path, url: Path) -> Path:
    name = Path(file.name) if file == url else Path(*file.parts[len(url.parts) :])
    return name.with_suffix("")


def _cluster(request: InvertRequest) -> Cluster:
    from ..scale.run import Cluster

    asked = request.cluster
    assert asked.ray is not None
    memory = {entry.name: entry.memory for entry in BACKENDS}
    on_gpu = memory.get(request.running.backend) == "cuda"
    return Cluster(
        address=asked.ray,
        workers=asked.ray_workers,
        processors=request.running.threads or 1,
        gpus=asked.ray_gpus if asked.ray_gpus is not None else float(on_gpu),
    )


def _work(
    request: InvertRequest,
    settings: Settings,
    tasks: Sequence[Task],
    tables: Tables | None,
    mask: Picture | str | None,
) -> BlockWork:
    """What workers do; what killed runs have left where they will write is removed."""
    from ..batch.resume import EarlierResults
    from ..scale.blocks import BlockWork, Opening
    from ..temporaries import remove_leftovers

    running, bundle, resume = request.running, request.search.bundle, request.folders.resume
    out = None if request.cluster.no_files else request.written.out
    targets = [task.target for task in tasks]
    if out is not None:
        for folder in {target.folder for target in targets}:
            remove_leftovers(folder)
    # A block that is done again must find what was done of it, so without --force every run
    # resumes itself; whether others are resumed was checked before.
    again = resume or not request.force
    return BlockWork(
        opening=Opening(
            bundle=str(Path(bundle).absolute())
            if bundle and is_directory(Path(bundle))
            else bundle,
            backend=running.backend,
            threads=running.threads or 1,
            precision=running.precision,
            device=running.device,
        ),
        settings=settings,
        mask=mask,
        out=out,
        working_directory=Path.cwd(),
        earlier=EarlierResults(settings, targets, out if resume else None) if again else None,
        force=request.force,
        tables=tables,
        done=tables.done() if tables is not None and resume else frozenset(),
        jobs=request.folders.jobs,
    )
