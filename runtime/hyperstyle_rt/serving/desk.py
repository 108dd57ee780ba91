"""What a worker of a service has before it: an open model, and what it used last."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from ..adaptation import Adaptation
from ..closing import Closable
from ..errors import BundleError
from ..inversion import Inversion
from ..model import Model
from ..optimising.running import Request, check_bundle, stages_of
from .settings import ModelSettings

INVERSIONS_KEPT = 16
ADAPTATIONS_KEPT = 2

T = TypeVar("T")


class Desk(Closable):
    """A model opened on a backend, with adapted bundles and inversions that were used last.

    Raises
    ------
    BundleError, BackendError
        As `Model.load`.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self._model = Model.load(settings.bundle, settings.backend, **self._opening())
        self.session = self._model.session()
        self._inversions: OrderedDict[str, Inversion] = OrderedDict()
        self._adaptations: OrderedDict[str, Adaptation] = OrderedDict()

    def inversion(self, file: bytes) -> Inversion:
        """An inversion from the content of its file.

        The same object for the same content, so that what is kept for it is found again.

        Raises
        ------
        InversionError
            If the content is damaged.
        """
        key = hashlib.sha256(file).hexdigest()
        return _kept(self._inversions, key, INVERSIONS_KEPT, lambda: Inversion.from_bytes(file))[0]

    def adaptation(self, name: str) -> Adaptation:
        """An adapted bundle, by the name that it is served under.

        Raises
        ------
        BundleError
            If there is none of this name, or it cannot be opened.
        """
        if name not in self._settings.adapted:
            served = ", ".join(self._settings.adapted) or "none"
            raise BundleError(f"there is no adapted bundle {name!r}; this service has {served}")
        path = self._settings.adapted[name]
        adaptation, dropped = _kept(
            self._adaptations,
            name,
            ADAPTATIONS_KEPT,
            lambda: Adaptation.load(path, self._settings.backend, **self._opening()),
        )
        for each in dropped:
            each.close()
        return adaptation

    def count_steps(self, preset: str, steps: int | None) -> int:
        """Gradient steps of a preset that follows an inversion; refuses one that cannot run."""
        request = Request(preset, steps=steps)
        check_bundle(self.session.bundle, self.session.backend, request, has_latents=True)
        return sum(stage.steps for stage in stages_of(request, has_latents=True))

    def close(self) -> None:
        """Give back all memory."""
        for adaptation in self._adaptations.values():
            adaptation.close()
        self._model.close()

    def _opening(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "threads": settings.threads,
            "precision": settings.precision,
            "device": settings.device,
        }


def _kept(
    kept: OrderedDict[str, T], key: str, most: int, make: Callable[[], T]
) -> tuple[T, list[T]]:
    """What is kept under a key, or made now; and what had to go for it."""
    if key not in kept:
        kept[key] = make()
    kept.move_to_end(key)
    dropped = [kept.popitem(last=False)[1] for _ in range(len(kept) - most)]
    return kept[key], dropped
