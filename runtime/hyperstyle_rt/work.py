"""What one thread works with: a bundle and its view of a backend."""

from __future__ import annotations

import weakref

from .backends.protocol import Backend
from .formats.bundle import Bundle
from .inverting.inverter import Inverter
from .rendering import Renderer


class Work:
    """What one thread works with: a bundle, its view of a backend, and what it keeps between calls.

    Closed where it is dropped, or before that by :meth:`close`.
    """

    def __init__(self, bundle: Bundle, shared: Backend) -> None:
        self.bundle = bundle
        self.backend = shared.for_session()
        self.renderer = Renderer(bundle.manifest, self.backend)
        self.inverter = Inverter(bundle, self.backend, self.renderer)
        own = None if self.backend is shared else self.backend
        self._finalizer = weakref.finalize(self, _release, self.inverter, self.renderer, own)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return not self._finalizer.alive

    def close(self) -> None:
        """Give back its memory; the model's backend stays open."""
        self._finalizer()


def _release(inverter: Inverter, renderer: Renderer, own: Backend | None) -> None:
    inverter.release()
    renderer.release()
    if own is not None:
        own.close()


def computed_by(backend: Backend) -> dict[str, str]:
    """What a result and its file say of the backend that computed it."""
    return {
        "backend": backend.name,
        "provider": backend.provider,
        "precision": backend.precision,
    }
