"""Inversion of many pictures: what is done already is skipped, what is bad stops nothing.

Results are written as they are found. Each carries a record of the picture's content and of all
settings (:mod:`records`), from which a later run knows what is done.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import PictureError
from ..files import remove_leftovers
from ..formats.manifest import Manifest
from ..imaging.pictures import (
    Original,
    decode_original,
    read_picture,
    read_picture_file,
    to_picture,
)
from ..inversion import Inversion
from ..model import Model
from ..photos.portraits import ALL
from ..types import Array, Picture
from .pipeline import JOBS, Failure, overlap
from .results import BatchFiles, Face, Outputs, Settings, Target
from .resume import EarlierResults

OnProgress = Callable[[str], None]
"""Called after every iteration and gradient step, with the loss of the latter to show, else ""."""


@dataclass(frozen=True)
class Task:
    """A picture to invert, and where its results go."""

    picture: Path
    target: Target


@dataclass(frozen=True)
class Done:
    """A face, or a picture that is one, that was inverted, and what was written.

    Attributes
    ----------
    face:
        From 1 where results are named by faces, else 0.
    seconds:
        Duration of the inversion; the first one includes the loading of the graphs.
    """

    face: int
    outputs: Outputs
    iterations: int
    seconds: float


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
class _Crop:
    image: Picture
    face: int
    transform: Array | None  # [3,3], photo -> rendered picture; None: the photo is the crop


@dataclass(frozen=True)
class _Prepared:
    task: Task
    digest: str
    photo: Original
    crops: tuple[_Crop, ...]
    notice: str | None


@dataclass(frozen=True)
class _Inverted:
    prepared: _Prepared
    faces: list[Face]
    seconds: list[float]


def invert_many(
    model: Model,
    pictures: Iterable[str | Path],
    iterations: int | None = None,
    until: float | None = None,
    *,
    jobs: int = JOBS,
) -> Iterator[tuple[str | Path, Inversion | Failure]]:
    """Invert aligned pictures, reading some while another is inverted.

    Parameters
    ----------
    pictures:
        Paths; taken one by one, as they are needed.
    iterations, until:
        As for :meth:`Model.invert`.
    jobs:
        Threads that read files, from 1.

    Yields
    ------
    picture, inversion:
        In the order of the pictures; the error in the inversion's place where one cannot be read.
    """
    return overlap(
        pictures,
        read_picture,
        lambda image: model.invert(image, iterations, until),
        lambda inversion: inversion,
        jobs,
    )


def shows_faces(manifest: Manifest) -> bool:
    """Whether a bundle is for faces as the FFHQ recipe aligns them: its domain says so."""
    return bool({"face", "faces", "ffhq"} & set(manifest.domain.lower().split()))


class Batch:
    """Pictures to invert with one model and the same settings.

    Parameters
    ----------
    tasks:
        No two of them with the same target.
    root:
        Folder below which results of an earlier run are looked for, whatever the pictures were
        called then; None to skip nothing and to replace nothing.
    force:
        Replace whatever files are in the way.
    """

    def __init__(
        self,
        model: Model,
        settings: Settings,
        tasks: Sequence[Task],
        *,
        root: Path | None = None,
        force: bool = False,
    ) -> None:
        self._model = model
        self._settings = settings
        self._tasks = tasks
        self._root = root
        self._files = BatchFiles(settings, resume=root is not None, force=force)
        self._earlier: EarlierResults | None = None

    def run(
        self, jobs: int = JOBS, on_iteration: OnProgress | None = None
    ) -> Iterator[tuple[Task, Finished | Failure]]:
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
            What is wrong with all pictures. What is wrong with one of them is yielded.
        """
        if self._root is not None:
            targets = [task.target for task in self._tasks]
            for folder in {target.folder for target in targets}:
                remove_leftovers(folder)
            self._earlier = EarlierResults(self._root, self._settings, targets)
        invert = partial(self._invert, on_iteration=on_iteration)
        return overlap(self._tasks, self._prepare, invert, self._finish, jobs)

    def _prepare(self, task: Task) -> _Prepared | Finished:
        """Read a picture and find what is to be inverted of it, or that all is done."""
        data = read_picture_file(task.picture)
        digest = hashlib.sha256(data).hexdigest()
        if earlier := self._reused(task.target, digest):
            return Finished(earlier=earlier)
        photo = decode_original(data, task.picture)
        crops, notice = self._crops(photo.picture(), task.picture)
        for crop in crops:  # before the inference, not after it
            self._files.check_free(task.target.outputs(self._settings, crop.face).paths())
        return _Prepared(task, digest, photo, crops, notice)

    def _reused(self, target: Target, digest: str) -> tuple[Path, ...]:
        """The results of an earlier run for this content, copied if it had another name."""
        if self._earlier is None:
            return ()
        files = self._earlier.files(target, digest)
        if not files:
            moved = self._earlier.moved(target, digest)
            self._files.copy(moved)
            files = [path for _, path in moved]
        return tuple(path for path in files if path.name.endswith(target.ending))

    def _crops(self, photo: Picture, path: Path) -> tuple[tuple[_Crop, ...], str | None]:
        """The faces to invert, or the picture as it is; and a notice."""
        settings, manifest = self._settings, self._model.bundle.manifest
        numbered = settings.face == ALL
        whole = (_Crop(photo, int(numbered), None),)
        if settings.align == "never" or (settings.align == "auto" and not shows_faces(manifest)):
            return whole, None
        from ..photos.portraits import find_portraits, portraits_to_invert

        notice = None
        try:
            if settings.align == "always":
                portraits = find_portraits(photo, which=settings.face)
            else:
                portraits, notice = portraits_to_invert(photo, settings.face)
        except PictureError as error:
            raise PictureError(f"{path}: {error}") from error
        crops = tuple(
            _Crop(
                portrait.crop,
                number if numbered else 0,
                portrait.transform_to(manifest.resolution).astype(np.float32),
            )
            for number, portrait in enumerate(portraits, 1)
        )
        return crops or whole, None if notice is None else f"{path}: {notice}"

    def _invert(
        self, prepared: _Prepared | Finished, on_iteration: OnProgress | None
    ) -> _Inverted | Finished:
        if isinstance(prepared, Finished):
            return prepared
        inverted = _Inverted(prepared, [], [])
        for crop in prepared.crops:
            started = time.perf_counter()
            inverted.faces.append(self._invert_crop(crop, prepared.digest, on_iteration))
            inverted.seconds.append(time.perf_counter() - started)
        return inverted

    def _invert_crop(self, crop: _Crop, digest: str, on_iteration: OnProgress | None) -> Face:
        settings = self._settings
        frames: list[Picture] = []
        frames_wanted = settings.steps or settings.coupled

        def watch(_iteration: int, reconstruction: Array, _codes: Array) -> None:
            if frames_wanted:
                frames.append(to_picture(reconstruction))
            if on_iteration is not None:
                on_iteration("")

        # A backend that runs its whole loop at once does so only where nobody watches.
        watched = frames_wanted or on_iteration is not None
        inversion = self._model.invert(
            crop.image, settings.iterations, settings.until, watch if watched else None
        )
        if settings.refine:
            inversion = self._refine(inversion, crop.image, on_iteration)
        data = replace(inversion.data, transform=crop.transform, picture=digest)
        return Face(crop.face, crop.image, replace(inversion, data=data), frames)

    def _refine(
        self, inversion: Inversion, picture: Picture, on_progress: OnProgress | None
    ) -> Inversion:
        def watch(done: int, loss: float, _image: Array) -> None:
            if done and on_progress is not None:
                on_progress(f"loss {loss:.5f}")

        settings = self._settings
        return self._model.refine(
            inversion, picture, settings.refine, space=settings.refine_space, on_step=watch
        )

    def _finish(self, inverted: _Inverted | Finished) -> Finished:
        if isinstance(inverted, Finished):
            return inverted
        prepared, faces = inverted.prepared, inverted.faces
        written = self._files.write(prepared.task.target, prepared.photo, faces, prepared.digest)
        return Finished(
            done=tuple(
                Done(face.number, outputs, face.inversion.iterations, seconds)
                for face, outputs, seconds in zip(faces, written, inverted.seconds, strict=True)
            ),
            notice=prepared.notice,
        )
