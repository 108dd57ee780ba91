"""What an inversion may change of a generator beside latents and kernels: noise, weights, features.

An inversion holds them flat, in the order of the manifest; graphs take them by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .backends.protocol import Backend, Buffers, in_own_memory
from .errors import BundleError
from .formats.manifest import Manifest
from .formats.parametric_inputs import ParametricInputs
from .types import Array

if TYPE_CHECKING:
    from .formats.inversion_file import InversionData

NOISE = "noise"
PARAMETERS = "parameters"
PARAMETRIC_GENERATOR = "parametric_generator"
FEATURE_OFFSET = "feature_offset"


@dataclass(frozen=True, eq=False)
class Free:
    """What an inversion changes beside latents and kernels; None for what it leaves alone.

    Attributes
    ----------
    noise:
        float32 [N], the noise maps of all layers after one another, in place of the stored ones.
    weights:
        float32 [Q], added to the synthesis weights.
    features:
        float32 [C,h,w], added to one feature map.
    """

    noise: Array | None = None
    weights: Array | None = None
    features: Array | None = None

    @classmethod
    def of(cls, data: InversionData) -> Free:
        """What an inversion file holds of it."""
        return cls(_single(data.noise), _single(data.weights), _single(data.features))

    @property
    def needs_parameters(self) -> bool:
        """Whether only the parametric generator renders it."""
        return self.weights is not None or self.features is not None


NOTHING_FREE = Free()


class FreeInputs:
    """Makes graph inputs of what is free, and gives what is stored where nothing is."""

    def __init__(self, manifest: Manifest, backend: Backend) -> None:
        self._manifest = manifest
        self._backend = backend
        self._stored_noise: Buffers | None = None

    @property
    def num_noise(self) -> int:
        """Numbers of all noise maps together; 0 for a generator without noise."""
        return noise_size(self._manifest)

    def noise(self, flat: Array | None = None) -> Buffers:
        """``noise.<layer>`` [1,1,s,s] of all layers that have some; None for the stored noise."""
        if flat is not None:
            layers = self._noise_layers()
            maps = [(f"noise.{name}", (1, 1, side, side)) for name, side in layers]
            return self._split(flat, maps)
        if NOISE not in self._manifest.graphs:
            return {}
        if self._stored_noise is None:
            self._stored_noise = in_own_memory(self._backend, self._backend.run(NOISE, {}))
        return self._stored_noise

    def stored_noise(self) -> Array:
        """The stored noise, float32 [N]."""
        maps = self.noise()
        layers = self._noise_layers()
        download = self._backend.download
        return np.concatenate([download(maps[f"noise.{name}"]).ravel() for name, _ in layers])

    def parameters(self, kernels: Buffers) -> Buffers:
        """``parameter.<name>`` of all synthesis weights, those of the tuned layers of `kernels`."""
        self.parametric()
        return self._backend.run(PARAMETERS, kernels)

    def changed_parameters(self, stored: Buffers, weights: Array | None) -> Buffers:
        """Those parameters with free weights [Q] added."""
        if weights is None:
            return stored
        changed, start = {}, 0
        for parameter in self.parametric().parameters:
            part = weights[start : start + parameter.size].reshape(parameter.shape)
            name = f"parameter.{parameter.name}"
            value = self._backend.download(stored[name])  # a copy
            value += part
            changed[name] = self._backend.upload(value)
            start += parameter.size
        return changed

    def feature_offset(self, features: Array | None) -> Any:
        """``feature_offset`` [1,C,h,w], zeros for None."""
        shape = self.parametric().feature.shape
        offset = np.zeros(shape, np.float32) if features is None else features
        return self._backend.upload(offset[None])

    def parametric(self) -> ParametricInputs:
        """The inputs of the parametric generator.

        Raises
        ------
        BundleError
            If the bundle has none.
        """
        inputs = self._manifest.parametric_inputs
        if inputs is None:
            raise BundleError(
                f"bundle {self._manifest.name!r} has no graph {PARAMETRIC_GENERATOR}, which free "
                "weights and features need; build it again with this version"
            )
        return inputs

    def release(self) -> None:
        """Give back what is kept."""
        self._stored_noise = None

    def _noise_layers(self) -> list[tuple[str, int]]:
        inputs = self._manifest.optional_inputs
        return [] if inputs is None else [(layer.name, layer.side) for layer in inputs.noise]

    def _split(self, flat: Array, parts: Sequence[tuple[str, tuple[int, ...]]]) -> Buffers:
        buffers, start = {}, 0
        for name, shape in parts:
            stop = start + int(np.prod(shape))
            buffers[name] = self._backend.upload(flat[start:stop].reshape(shape))
            start = stop
        return buffers


def noise_size(manifest: Manifest) -> int:
    """Numbers of all noise maps of a generator together."""
    inputs = manifest.optional_inputs
    return 0 if inputs is None else sum(layer.side**2 for layer in inputs.noise)


def _single(array: Any) -> Array | None:
    return None if array is None else array.astype(np.float32)
