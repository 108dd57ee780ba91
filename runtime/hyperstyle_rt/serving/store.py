"""The inversions that a service keeps: as many as it may, for as long as it may."""

from __future__ import annotations

import json
import logging
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import HyperStyleError
from ..files import write_atomically
from ..temporaries import remove_leftovers
from .jobs import Inverted, Progress
from .settings import Keeping

_log = logging.getLogger(__name__)

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"

_ID = re.compile(r"[0-9A-Za-z_-]{22}")
_FILE, _PICTURE, _CROP, _FACTS = ".safetensors", ".png", ".crop.png", ".json"


@dataclass(eq=False)
class Kept:
    """An inversion of a client, from the moment it was asked for.

    Attributes
    ----------
    id:
        Cannot be guessed: who knows it may use the inversion.
    state:
        :data:`QUEUED`, :data:`RUNNING`, :data:`DONE` or :data:`FAILED`.
    result:
        When it is done.
    problem, status:
        The sentence and HTTP status, when it has failed.
    told:
        What was told so far; of the pictures the last alone is kept.
    cancel:
        Gives the job up.
    """

    id: str
    created: float
    state: str = QUEUED
    result: Inverted | None = None
    problem: str | None = None
    status: int = 200
    told: list[Progress] = field(default_factory=list)
    cancel: Callable[[], None] = lambda: None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in (DONE, FAILED)

    @property
    def notice(self) -> str | None:
        """What the user should know of how the picture was taken."""
        return next((each.notice for each in self.told if each.notice is not None), None)


class Store:
    """Inversions by their ids; to be used by several threads.

    Parameters
    ----------
    keeping:
        How many, for how long and where. What a directory holds of an earlier run is kept on.

    Raises
    ------
    HyperStyleError
        If the directory cannot be used.
    """

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._used: dict[str, float] = {}
        self._lock = threading.Lock()
        if keeping.directory is not None:
            self._open(keeping.directory)

    def __len__(self) -> int:
        with self._lock:
            return len(self._kept)

    def add(self) -> Kept:
        """A place for a new inversion; the oldest ones that have ended make room for it."""
        kept = Kept(secrets.token_urlsafe(16), time.time())
        with self._lock:
            self._kept[kept.id] = kept
            self._used[kept.id] = time.monotonic()
        self.expire()
        return kept

    def get(self, id: str) -> Kept | None:
        """An inversion by its id; None if there is none, or none any more."""
        self.expire()
        self._use(id)
        with self._lock:
            return self._kept.get(id)

    def finish(self, kept: Kept, result: Inverted) -> None:
        """Keep what was found, on disk too where that is wanted; its time begins now."""
        directory = self._keeping.directory
        if directory is not None and self._use(kept.id):
            self._write(kept, result, directory)
        if not self._use(kept.id):  # forgotten meanwhile, when there was nothing to unlink yet
            self._unlink(kept.id)
        kept.result = result

    def remove(self, id: str) -> bool:
        """Forget an inversion, and give its job up; whether there was one."""
        with self._lock:
            kept = self._kept.pop(id, None)
            self._used.pop(id, None)
        if kept is None:
            return False
        kept.cancel()
        self._unlink(id)
        return True

    def expire(self) -> None:
        """Forget what is too old or too much."""
        now = time.monotonic()
        with self._lock:
            ended = [id for id, kept in self._kept.items() if kept.ended]
            surplus = max(0, len(self._kept) - self._keeping.most)
            old = [id for id in ended if now - self._used[id] > self._keeping.seconds]
            gone = dict.fromkeys([*ended[:surplus], *old])
        for id in gone:
            self.remove(id)

    def _use(self, id: str) -> bool:
        """Begin the time of an inversion anew; whether there is one."""
        with self._lock:
            if id in self._kept:
                self._used[id] = time.monotonic()
            return id in self._kept

    def _open(self, directory: Path) -> None:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HyperStyleError(
                f"cannot keep inversions in {directory} ({error.strerror}); name another --store"
            ) from None
        remove_leftovers(directory)
        for kept in sorted(_stored(directory), key=lambda each: each.created):
            self._kept[kept.id] = kept
            self._used[kept.id] = time.monotonic()
        self.expire()

    def _write(self, kept: Kept, result: Inverted, directory: Path) -> None:
        facts = {"created": kept.created, "facts": result.facts}
        contents = {_FILE: result.file, _PICTURE: result.picture}
        contents |= {} if result.crop is None else {_CROP: result.crop}
        try:
            for ending, content in contents.items():
                write_atomically(directory / (kept.id + ending), content, HyperStyleError)
            # The last one: what lacks it is not whole.
            text = json.dumps(facts).encode("ascii")
            write_atomically(directory / (kept.id + _FACTS), text, HyperStyleError)
        except HyperStyleError as error:
            _log.error("an inversion is kept in memory only: %s", error)

    def _unlink(self, id: str) -> None:
        if self._keeping.directory is not None:
            for ending in (_FACTS, _FILE, _PICTURE, _CROP):
                with suppress(OSError):
                    (self._keeping.directory / (id + ending)).unlink()


def _stored(directory: Path) -> Iterator[Kept]:
    """What an earlier run has kept; what is damaged is passed over."""
    for path in directory.glob(f"*{_FACTS}"):
        id = path.name.removesuffix(_FACTS)
        if not _ID.fullmatch(id):
            continue
        try:
            document = json.loads(path.read_bytes())
            created, facts = document["created"], document["facts"]
            if not isinstance(created, float) or not isinstance(facts, Mapping):
                raise ValueError("has other types")
            crop = directory / (id + _CROP)
            result = Inverted(
                (directory / (id + _FILE)).read_bytes(),
                (directory / (id + _PICTURE)).read_bytes(),
                crop.read_bytes() if crop.exists() else None,
                facts,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s is passed over: it is damaged (%s)", path, error)
            continue
        yield Kept(id, created, DONE, result)


def facts_of(kept: Kept) -> dict[str, Any]:
    """What a client is told of an inversion."""
    facts: dict[str, Any] = {"id": kept.id, "state": kept.state}
    last = kept.told[-1] if kept.told else None
    if last is not None and not kept.ended:
        facts["progress"] = {"kind": last.kind, "number": last.number}
    for name, value in (("problem", kept.problem), ("notice", kept.notice)):
        facts |= {} if value is None else {name: value}
    if kept.result is not None:
        facts |= dict(kept.result.facts)
        facts["has_crop"] = kept.result.crop is not None
    return facts
