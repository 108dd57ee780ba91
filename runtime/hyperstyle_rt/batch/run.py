"""Inversion of many pictures: what is done already is skipped, what is bad stops nothing.

Results are written as they are found. Each carries a record of the picture's content and of all
settings (:mod:`records`), from which a later run knows what is done.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import PictureError
from ..imaging.pictures import Original, decode_original, to_picture
from ..inversion import Inversion
from ..inverting.preparing import Crop, crops_of, one_crop
from ..model import Model
from ..optimising.effort import plan_of
from ..optimising.names import FAST
from ..photos.portraits import ALL
from ..transforms import unaligned_transform
from ..types import Array, Picture
from .keeping import Keeping
from .pipeline import JOBS, Failure, overlap
from .results import InvertedFace, Outputs, Settings, Target
from .streams import read_picture_source, spoken

logger = logging.getLogger(__name__)

OnProgress = Callable[[str], None]
"""Called after every iteration and gradient step, with the loss of the latter to show, else ""."""


@dataclass(frozen=True)
class Task:
    """A picture to invert, and where its results go."""

    picture: Path
    target: Target


@dataclass(frozen=True)
class Done:
    """An inverted face of a photo, or an inverted whole picture, and what was written.

    Attributes
    ----------
    face:
        From 1 where results are named by faces, else 0.
    seconds:
        Duration of the inversion; the first one includes the loading of the graphs.
    effort:
        What the bundle's own gradient steps have done, as ``settings["effort"]`` of the inversion
        says it; None where none were to follow.
    """

    face: int
    outputs: Outputs
    iterations: int
    seconds: float
    effort: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Finished:
    """A picture whose results are all there.

    Attributes
    ----------
    done:
        What was inverted; empty where an earlier run had done that.
    earlier:
        The results of that earlier run.
    notice:
        Something to tell the user, or None.
    """

    done: tuple[Done, ...] = ()
    earlier: tuple[Path, ...] = ()
    notice: str | None = None


@dataclass(frozen=True)
class _Prepared:
    task: Task
    digest: str
    photo: Original
    crops: tuple[tuple[int, Crop], ...]  # with the face's number, as :class:`Done` has it
    notice: str | None


@dataclass(frozen=True)
class _Inverted:
    prepared: _Prepared
    faces: list[InvertedFace]
    seconds: list[float]


def invert_many(
    model: Model,
    pictures: Iterable[str | Path],
    iterations: int | None = None,
    until: float | None = None,
    *,
    method: str | None = None,
    align: str = "auto",
    face: str | int = "largest",
    effort: str | None = None,
    jobs: int = JOBS,
) -> Iterator[tuple[str | Path, Inversion | Failure]]:
    """Invert pictures, reading and aligning some while another is inverted.

    Parameters
    ----------
    pictures:
        Paths; taken one by one, as they are needed.
    iterations, until, method, align, face, effort:
        As for :meth:`Model.invert`.
    jobs:
        Threads that read files, from 1.

    Yields
    ------
    picture, inversion:
        In the order of the pictures; the error in the inversion's place where one cannot be read.

    Raises
    ------
    PictureError
        At once, if it is one path instead of several.
    """
    if isinstance(pictures, str | Path):
        raise PictureError(f"invert_many takes several pictures; give a list: [{str(pictures)!r}]")

    def prepare(picture: str | Path) -> Crop:
        crop, notice = one_crop(picture, model.bundle.manifest, align, face)
        if notice is not None:
            logger.warning("%s: %s", picture, notice)
        return crop

    return overlap(
        pictures,
        prepare,
        lambda crop: model.invert(crop, iterations, until, method=method, effort=effort),
        lambda inversion: inversion,
        jobs,
    )


class Batch:
    """Pictures to invert with one model and the same settings.

    Parameters
    ----------
    tasks:
        No two of them with the same target.
    keeping:
        What becomes of the results, and what is done already.
    mask:
        What the settings name as their mask, as for :meth:`Model.optimise`.
    read:
        Gives the content of a picture's file; raises PictureError.
    """

    def __init__(
        self,
        model: Model,
        settings: Settings,
        tasks: Sequence[Task],
        keeping: Keeping,
        *,
        mask: Picture | str | None = None,
        read: Callable[[Path], bytes] = read_picture_source,
    ) -> None:
        self._model = model
        self._mask = mask
        self._settings = settings
        self._tasks = tasks
        self._keeping = keeping
        self._read = read

    def run(
        self, jobs: int = JOBS, on_iteration: OnProgress | None = None
    ) -> Generator[tuple[Task, Finished | Failure], None, None]:
        """Invert them all; :func:`overlap` says in what order and what an interruption leaves.

        Parameters
        ----------
        jobs:
            Threads that read and write beside the inference, from 1.
        on_iteration:
            Called after every iteration and gradient step, in the caller's thread.

        Raises
        ------
        BackendError, BundleError
            Errors of the model, which stop the batch. Those of one picture are yielded.
        """
        invert = partial(self._invert, on_iteration=on_iteration)
        return overlap(self._tasks, self._prepare, invert, self._finish, jobs)

    def _prepare(self, task: Task) -> _Prepared | Finished:
        """Read a picture and find what is to be inverted of it, or that all is done."""
        data = self._read(task.picture)
        digest = hashlib.sha256(data).hexdigest()
        if earlier := self._keeping.earlier(task.target, digest):
            return Finished(earlier=earlier)
        photo = decode_original(data, Path(spoken(task.picture)))
        crops, notice = self._crops(photo.picture(), task.picture)
        for number, _ in crops:  # before the inference, not after it
            self._keeping.check_free(task.target.outputs(self._settings, number).paths())
        return _Prepared(task, digest, photo, crops, notice)

    def _crops(self, photo: Picture, path: Path) -> tuple[tuple[tuple[int, Crop], ...], str | None]:
        """What is inverted of a picture, each with the face's number; and a notice."""
        settings, manifest = self._settings, self._model.bundle.manifest
        try:
            crops, notice = crops_of(photo, manifest, settings.align, settings.face)
        except PictureError as error:
            raise PictureError(f"{path}: {error}") from error
        numbers = range(1, len(crops) + 1) if settings.face == ALL else (0,)
        numbered = tuple(zip(numbers, crops, strict=True))
        return numbered, None if notice is None else f"{path}: {notice}"

    def _invert(
        self, prepared: _Prepared | Finished, on_iteration: OnProgress | None
    ) -> _Inverted | Finished:
        if isinstance(prepared, Finished):
            return prepared
        inverted = _Inverted(prepared, [], [])
        for number, crop in prepared.crops:
            started = time.perf_counter()
            inverted.faces.append(self._invert_crop(number, crop, prepared.digest, on_iteration))
            inverted.seconds.append(time.perf_counter() - started)
        return inverted

    def _invert_crop(
        self, number: int, crop: Crop, digest: str, on_iteration: OnProgress | None
    ) -> InvertedFace:
        settings = self._settings
        frames: list[Picture] = []
        frames_wanted = settings.steps or settings.coupled

        def watch(_iteration: int, rendering: Array, _codes: Array | None) -> None:
            if frames_wanted:
                frames.append(to_picture(rendering))
            if on_iteration is not None:
                on_iteration("")

        # A backend that can record a whole inversion does so only without a callback.
        watched = frames_wanted or on_iteration is not None
        manifest = self._model.bundle.manifest
        inversion: Inversion | None = None
        if settings.method in manifest.methods:
            iterates = manifest.method(settings.method).iterating_phase is not None
            inversion = self._model.invert(
                crop,
                settings.iterations if iterates else None,
                settings.until,
                watch if watched else None,
                method=settings.method,
                effort=FAST,
            )
        if settings.then is not None:
            inversion = self._optimise(inversion, crop, settings.then, on_iteration)
        assert inversion is not None  # a method of the bundle, or a preset
        unaligned = None
        if settings.unaligned and crop.transform is not None:
            motion = unaligned_transform(crop.transform)
            unaligned = self._model.render(inversion, transform=motion)
        data = replace(inversion.data, picture=digest)
        inversion = replace(inversion, data=data)
        return InvertedFace(number, crop.picture, inversion, frames, unaligned)

    def _optimise(
        self,
        inversion: Inversion | None,
        crop: Crop,
        preset: str,
        on_progress: OnProgress | None,
    ) -> Inversion:
        def watch(done: int, loss: float, _rendering: Array) -> None:
            if done and on_progress is not None:
                on_progress(f"loss {loss:.5f}")

        settings, model = self._settings, self._model
        how: dict[str, Any] = {
            "steps": settings.then_steps,
            "variables": settings.variables,
            "mask": self._mask,
            "on_step": watch,
        }
        if settings.effort is None or inversion is None:
            return model.optimise(inversion, crop, preset, **how)
        method, done = settings.method, inversion.iterations
        plan = plan_of(model.bundle.manifest, settings.effort, done, method)
        assert plan is not None  # the settings name its preset
        return model.follow(inversion, crop, plan, **how)

    def _finish(self, inverted: _Inverted | Finished) -> Finished:
        if isinstance(inverted, Finished):
            return inverted
        prepared, faces = inverted.prepared, inverted.faces
        written = self._keeping.write(prepared.task.target, prepared.photo, faces, prepared.digest)
        return Finished(
            done=tuple(
                Done(
                    face.number,
                    outputs,
                    face.inversion.iterations,
                    seconds,
                    face.inversion.settings.get("effort"),
                )
                for face, outputs, seconds in zip(faces, written, inverted.seconds, strict=True)
            ),
            notice=prepared.notice,
        )
