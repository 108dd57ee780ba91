"""What descent may change: each leads to kernels, and takes the kernels' gradients back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..backends.protocol import Backend, Buffers
from ..errors import HyperStyleError
from ..formats.inversion_file import InversionData
from ..formats.manifest import Manifest
from ..rendering import Renderer, base_inputs
from ..types import Array

# Adam's rates at the start.
CHANNEL_OFFSETS_RATE = 0.3  # over the root of a layer's input channels: steps then weigh the same
CODES_RATE = 0.03  # of the codes' root mean square

WEIGHTS_ADJOINT = "weights_adjoint"
CHANNEL_OFFSETS_ADJOINT = "channel_offsets_adjoint"


class Variable(Protocol):
    """An array that leads to kernels."""

    @property
    def start(self) -> Array:
        """The value to begin with."""
        ...

    @property
    def rates(self) -> Array:
        """Adam's rates, of the value's shape or broadcast to it."""
        ...

    def forward(self, value: Array) -> Buffers:
        """``weight.<layer>`` of all tuned layers."""
        ...

    def backward(self, gradients: Buffers) -> Array:
        """``gradient.<layer>`` -> the derivative by the value."""
        ...

    def result(self, data: InversionData, value: Array) -> InversionData:
        """The inversion with this value."""
        ...


class ChannelOffsets:
    """Channel offsets [P], one per pair of output and input channel, added to those of the codes.

    Raises
    ------
    BundleError
        If the bundle has no graphs for them.
    """

    def __init__(
        self, data: InversionData, manifest: Manifest, renderer: Renderer, backend: Backend
    ) -> None:
        self._backend, self._renderer = backend, renderer
        self._tuned = renderer.kernels(data.codes)
        self._base = renderer.base_kernels()
        shapes = [layer.shape for layer in manifest.tuned_layers]
        rates = [
            np.full(o * i, CHANNEL_OFFSETS_RATE / math.sqrt(i), np.float32) for o, i, _, _ in shapes
        ]
        self.rates = np.concatenate(rates)
        before = data.channel_offsets
        self.start: Array = (
            np.zeros_like(self.rates) if before is None else before.astype(np.float32)
        )

    def forward(self, value: Array) -> Buffers:
        """See :class:`Variable`."""
        offsets = self._backend.upload(value)
        return self._renderer.add_channel_offsets(self._tuned, self._base, offsets)

    def backward(self, gradients: Buffers) -> Array:
        """See :class:`Variable`."""
        inputs = {**gradients, **base_inputs(self._base)}
        outputs = self._backend.run(CHANNEL_OFFSETS_ADJOINT, inputs)
        return self._backend.download(outputs["channel_offsets_gradient"])

    def result(self, data: InversionData, value: Array) -> InversionData:
        """See :class:`Variable`."""
        return replace(data, channel_offsets=_to_half(value))


class Codes:
    """Offset codes [M,K+1]; the column that counts iterations stays as it is.

    Raises
    ------
    HyperStyleError
        If the inversion has no codes.
    """

    def __init__(
        self, data: InversionData, manifest: Manifest, renderer: Renderer, backend: Backend
    ) -> None:
        if data.codes is None:
            raise HyperStyleError(
                f"an inversion by {data.method!r} has no codes to refine; refine its channel "
                "offsets"
            )
        self._backend, self._renderer = backend, renderer
        offsets = data.channel_offsets
        self._channel_offsets = None if offsets is None else offsets.astype(np.float32)
        self.start: Array = data.codes
        size = float(np.sqrt(np.square(self.start[:, :-1], dtype=np.float64).mean())) or 1.0
        self.rates: Array = np.full_like(self.start, CODES_RATE * size)
        self.rates[:, -1] = 0

    def forward(self, value: Array) -> Buffers:
        """See :class:`Variable`."""
        return self._renderer.kernels(value, self._channel_offsets)

    def backward(self, gradients: Buffers) -> Array:
        """See :class:`Variable`."""
        outputs = self._backend.run(WEIGHTS_ADJOINT, gradients)
        gradient: Array = self._backend.download(outputs["codes_gradient"])[0]
        return gradient

    def result(self, data: InversionData, value: Array) -> InversionData:
        """See :class:`Variable`."""
        return replace(data, codes=value)


VariableOf = Callable[[InversionData, Manifest, Renderer, Backend], Variable]

VARIABLES: dict[str, VariableOf] = {"channel_offsets": ChannelOffsets, "codes": Codes}
"""Those there are, by name."""


def _to_half(value: Array) -> NDArray[Any]:
    """As an inversion file holds it: finite, so clipped to the range of float16."""
    largest = np.finfo(np.float16).max
    return np.clip(value, -largest, largest).astype(np.float16)
