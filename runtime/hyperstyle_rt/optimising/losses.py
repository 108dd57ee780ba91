"""What descent minimises, with its gradients: graphs of the bundle on one target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..backends.protocol import Backend, Buffers
from ..imaging.pictures import to_input
from ..inverting.state import TARGET, size_of
from ..rendering import LATENTS, RENDERING
from ..types import Array, Picture

OBJECTIVE = "objective"
FEATURES = "features"
LOSS = "loss"


@dataclass(frozen=True)
class LossResult:
    """One evaluation of a loss.

    Attributes
    ----------
    loss:
        Its value.
    gradients:
        ``gradient.<layer>``: its derivatives by the kernels, buffers of the backend.
    rendering:
        Gives the rendering it is the loss of, float32 [3,H,W].
    """

    loss: float
    gradients: Buffers
    rendering: Callable[[], Array]


class Loss(Protocol):
    """A loss of the kernels ``weight.<layer>``."""

    def __call__(self, kernels: Buffers) -> LossResult:
        """Evaluate it."""
        ...


class PictureLoss:
    """The bundle's `objective`: how far the rendering of latents is from a picture.

    Parameters
    ----------
    latents:
        float32 [L,W].
    picture:
        uint8 [H,W,3] of any size.
    """

    def __init__(self, latents: Array, picture: Picture, backend: Backend) -> None:
        self._backend = backend

        def target_of(graph: str) -> Any:
            size = size_of(backend.signature(graph).inputs[TARGET])
            return backend.upload(to_input(picture, size))

        self._fixed: Buffers = {
            LATENTS: backend.upload(latents[None]),
            TARGET: target_of(OBJECTIVE),
            **backend.run(FEATURES, {TARGET: target_of(FEATURES)}),
        }

    def __call__(self, kernels: Buffers) -> LossResult:
        """See :class:`Loss`."""
        download = self._backend.download
        outputs = self._backend.run(OBJECTIVE, {**self._fixed, **kernels})
        rendering = outputs.pop(RENDERING)
        loss = float(download(outputs.pop(LOSS))[0])
        return LossResult(loss, outputs, lambda: download(rendering)[0])
