"""A model: a bundle on a backend, shared by threads.

>>> from hyperstyle_rt import Model
>>> with Model.load() as model:                     # the embedded default bundle
...     inversion = model.invert("portrait.png")
...     smiling = model.edit(inversion, {"smile": 2.0}).image
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .backends.protocol import Backend, asked_precision
from .backends.registry import open_backend
from .closing import Closable
from .errors import BackendError
from .formats.bundle import Bundle
from .formats.bundle_lookup import find_bundle
from .formats.directions_file import Direction, bundle_directions
from .formats.manifest import BASE_PRECISION
from .operations import Operations
from .session import Session
from .work import Work

MODELS_KEPT = 4
"""Models that a process keeps of those it has been sent by others; see :meth:`Model.__reduce__`."""


@dataclass(frozen=True)
class Opening:
    """How a model was opened, and is opened again where it is sent to.

    Attributes
    ----------
    directory:
        Of the bundle, absolute.
    backend, threads, precision:
        As given to :meth:`Model.load`.
    """

    directory: Path
    backend: str
    threads: int | None
    precision: str
    device: int | None = None


class Model(Operations, Closable):
    """A bundle opened on a backend.

    It does not change, and threads may share it: each works in a session of its own, which is
    opened by itself. Close a model, or use it as a context manager, to get its memory back. It can
    be pickled: what is sent is where its bundle is and how it was opened, and it is opened again
    where it lands, so `ProcessPoolExecutor.map(model.invert, paths)` works. After a fork a model of
    the parent cannot be used in the child (ONNX Runtime's threads and CUDA's context are not
    there): send it, or open it there.

    Attributes
    ----------
    bundle:
        The files.
    backend:
        What runs the graphs.
    """

    def __init__(self, bundle: Bundle, backend: Backend, opening: Opening | None = None) -> None:
        bundle.manifest.check_stands_alone()
        self.bundle = bundle
        self.backend = backend
        self._opening = opening or Opening(
            bundle.directory, backend.name, None, asked_precision(backend)
        )
        self._here = threading.local()
        self._opened: weakref.WeakSet[Work] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        backend: str = "auto",
        *,
        threads: int | None = None,
        precision: str = BASE_PRECISION,
        device: int | None = None,
    ) -> Model:
        """Open a bundle.

        Parameters
        ----------
        path:
            Directory or name of a bundle; None for the embedded default.
        backend:
            One of :data:`~hyperstyle_rt.backends.registry.BACKEND_NAMES`.
        threads:
            CPU threads; None for as many processors as this process may use.
        precision:
            ``fp32``, or ``fp16`` for a GPU if the bundle was built with it. On a CPU fp16 graphs
            are computed in float32 and save nothing. ``bf16`` is OpenVINO's, on a CPU that has it.
        device:
            Which of several devices of a backend, from 0; None for the first.

        Raises
        ------
        BundleError
            If the bundle is missing, altered, of another format version, or has no method.
        BackendError
            If the backend is not usable on this machine.
        """
        bundle = Bundle.open(find_bundle(path))
        bundle.manifest.check_stands_alone()  # before a backend is opened for nothing
        opening = Opening(bundle.directory, backend, threads, precision, device)
        return cls(bundle, open_backend(backend, bundle, threads, precision, device), opening)

    def session(self) -> Session:
        """Open a session: the work of one thread, with an end that is up to the caller.

        Raises
        ------
        BackendError
            If the model is closed.
        """
        return Session(self)

    @cached_property
    def directions(self) -> Mapping[str, Direction]:
        """The bundle's directions by name, those of :meth:`edit`; empty if it has none.

        Raises
        ------
        BundleError, EditError
            If the bundle's file of directions is altered or damaged.
        """
        return bundle_directions(self.bundle)

    def close(self) -> None:
        """Give back all memory, that of every session too; further use raises BackendError."""
        with self._lock:
            self._closed = True
            opened = list(self._opened)
        for work in opened:
            work.close()
        self.backend.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle how it was opened.

        Of the models that a process is sent, the last few stay open there: a pool of processes is
        sent the model with every picture.
        """
        return _reopen, (self._opening,)

    @property
    def _work(self) -> Work:
        work: Work | None = getattr(self._here, "work", None)
        if work is None or work.closed:
            work = self._here.work = self.open_work()
        return work

    def open_work(self) -> Work:
        """Open what a session, or a thread that uses the model itself, works with.

        Raises
        ------
        BackendError
            If the model is closed.
        """
        with self._lock:
            if self._closed:
                raise BackendError("the model is closed; open it again with Model.load")
            work = Work(self.bundle, self.backend)
            self._opened.add(work)
            return work


_reopened: dict[Opening, Model] = {}
_reopening = threading.Lock()


def _forget_reopened() -> None:
    """In a forked child: the parent's models are of no use, and its lock may be held for ever."""
    global _reopening
    _reopening = threading.Lock()
    _reopened.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_reopened)


def _reopen(opening: Opening) -> Model:
    """Open a model that another process has sent, or give the one that is open already."""
    with _reopening:
        model = _reopened.pop(opening, None)
        if model is None or model.closed:
            model = Model.load(
                opening.directory,
                opening.backend,
                threads=opening.threads,
                precision=opening.precision,
                device=opening.device,
            )
        _reopened[opening] = model
        if len(_reopened) > MODELS_KEPT:
            del _reopened[next(iter(_reopened))]  # it is freed with its last reference
        return model
