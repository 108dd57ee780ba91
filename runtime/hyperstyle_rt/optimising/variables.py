"""What descent may change: each takes its place in a point, and reads its gradient."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..backends.protocol import Buffers
from ..errors import HyperStyleError
from ..formats.manifest import Manifest
from ..free_inputs import FreeInputs, noise_size
from ..rendering import CHANNEL_OFFSETS, LATENTS
from ..types import Array
from .noise_maps import split
from .objective import FEATURES, KERNELS, NOISE, WEIGHTS, Objective
from .point import Point

# Adam's rates where a preset names none.
CHANNEL_OFFSETS_RATE = 0.3  # over the root of a layer's input channels: steps then weigh the same
CODES_RATE = 0.03  # of the codes' root mean square
LATENTS_RATE = 0.05
NOISE_RATE = 0.05
WEIGHTS_RATE = 3e-4  # pivotal tuning's
FEATURES_RATE = 0.02

WEIGHTS_ADJOINT = "weights_adjoint"
CHANNEL_OFFSETS_ADJOINT = "channel_offsets_adjoint"


@dataclass(frozen=True)
class Gradients:
    """Derivatives at a point.

    Attributes
    ----------
    objective:
        The graph that has given them.
    buffers:
        Its gradients, under its names.
    added:
        Those of terms that the graph does not know, under the same names.
    """

    objective: Objective
    buffers: Buffers
    added: Mapping[str, Array]

    def array(self, name: str) -> Array:
        """The whole derivative ``gradient.<name>``, in the shape of the graph's input."""
        key = f"gradient.{name}"
        gradient = self.objective.backend.download(self.buffers[key])
        return gradient + self.added[key] if key in self.added else gradient

    def kernels(self) -> Buffers:
        """``gradient.<layer>`` of all tuned layers, as buffers."""
        backend = self.objective.backend
        gradients = self.objective.kernel_gradients(self.buffers)
        for name in gradients.keys() & self.added.keys():
            gradients[name] = backend.upload(backend.download(gradients[name]) + self.added[name])
        return gradients


@dataclass(frozen=True)
class Place:
    """Where a variable is found: a bundle, and the point that descent begins at.

    Attributes
    ----------
    method:
        That has made the point.
    mask:
        float32 [H,W] in [0,1], of the rendering's size: what counts; None for the whole picture.
    """

    manifest: Manifest
    free: FreeInputs
    point: Point
    method: str
    mask: Array | None = None


class Variable(ABC):
    """An array that descent changes.

    Attributes
    ----------
    start:
        The value to begin with, float32.
    rates:
        Adam's rates, of the value's shape or broadcast to it.
    """

    part: ClassVar[str]
    """The attribute of :class:`Point` that it is."""
    kind: ClassVar[str]
    """What an objective must give the gradient of."""
    graphs: ClassVar[tuple[str, ...]] = ()
    """Further graphs that it takes."""

    start: Array
    rates: Array

    @classmethod
    def lacking(cls, manifest: Manifest) -> str | None:
        """What a bundle has none of, so that there is nothing to change; None where it has."""
        return None

    @abstractmethod
    def __init__(self, place: Place) -> None: ...

    def place(self, point: Point, value: Array) -> None:
        """Put a value into a point."""
        setattr(point, self.part, value)

    def settled(self, value: Array, settle: Callable[[Array], Array]) -> Array:
        """A value after `settle` was done to it."""
        return settle(value)

    @abstractmethod
    def gradient(self, gradients: Gradients) -> Array:
        """The derivative by the value."""


class Latents(Variable):
    """Latents [L,W], a row for every style: W+."""

    part, kind = "latents", LATENTS

    def __init__(self, place: Place) -> None:
        self.start = place.point.latents
        self.rates = np.float32(LATENTS_RATE) * np.ones((), np.float32)

    def gradient(self, gradients: Gradients) -> Array:
        """See :class:`Variable`."""
        gradient: Array = gradients.array(LATENTS)[0]
        return gradient


class SharedLatent(Variable):
    """One latent [W] in all rows: W."""

    part, kind = "latents", LATENTS

    def __init__(self, place: Place) -> None:
        latents = place.point.latents
        self._rows = len(latents)
        self.start = latents[0] if (latents == latents[0]).all() else latents.mean(0)
        self.rates = np.float32(LATENTS_RATE) * np.ones((), np.float32)

    def place(self, point: Point, value: Array) -> None:
        """See :class:`Variable`."""
        point.latents = np.tile(value, (self._rows, 1))

    def gradient(self, gradients: Gradients) -> Array:
        """See :class:`Variable`."""
        return np.asarray(gradients.array(LATENTS)[0].sum(0), np.float32)


class Noise(Variable):
    """The noise maps [N] of all layers, after one another."""

    part, kind = "noise", NOISE

    @classmethod
    def lacking(cls, manifest: Manifest) -> str | None:
        """See :class:`Variable`."""
        return None if noise_size(manifest) else "noise maps"

    def __init__(self, place: Place) -> None:
        inputs = place.manifest.optional_inputs
        assert inputs is not None  # it lacks nothing
        self._names = [layer.name for layer in inputs.noise]
        self._sides = [layer.side for layer in inputs.noise]
        noise = place.point.noise
        self.start = place.free.stored_noise() if noise is None else noise
        self.rates = np.float32(NOISE_RATE) * np.ones((), np.float32)

    def settled(self, value: Array, settle: Callable[[Array], Array]) -> Array:
        """See :class:`Variable`; each map by itself."""
        return np.concatenate([settle(each).ravel() for each in split(value, self._sides)])

    def gradient(self, gradients: Gradients) -> Array:
        """See :class:`Variable`."""
        return np.concatenate([gradients.array(f"noise.{name}").ravel() for name in self._names])


class ChannelOffsets(Variable):
    """Channel offsets [P], one per pair of output and input channel, added to the codes'."""

    part, kind = "channel_offsets", KERNELS
    graphs = (CHANNEL_OFFSETS, CHANNEL_OFFSETS_ADJOINT)

    @classmethod
    def lacking(cls, manifest: Manifest) -> str | None:
        """See :class:`Variable`."""
        return None if manifest.tuned_layers else "tuned layers for channel offsets"

    def __init__(self, place: Place) -> None:
        shapes = [layer.shape for layer in place.manifest.tuned_layers]
        rates = [
            np.full(o * i, CHANNEL_OFFSETS_RATE / math.sqrt(i), np.float32) for o, i, _, _ in shapes
        ]
        self.rates = np.concatenate(rates)
        before = place.point.channel_offsets
        self.start = np.zeros_like(self.rates) if before is None else before

    def gradient(self, gradients: Gradients) -> Array:
        """See :class:`Variable`."""
        base = gradients.objective.base_kernels()
        inputs = {name.replace("weight.", "base.", 1): value for name, value in base.items()}
        backend = gradients.objective.backend
        outputs = backend.run(CHANNEL_OFFSETS_ADJOINT, {**gradients.kernels(), **inputs})
        return backend.download(outputs["channel_offsets_gradient"])


class Codes(Variable):
    """Offset codes [M,K+1]; the column that counts iterations stays as it is."""

    part, kind = "codes", KERNELS
    graphs = (WEIGHTS_ADJOINT,)

    @classmethod
    def lacking(cls, manifest: Manifest) -> str | None:
        """See :class:`Variable`."""
        return "offset codes" if manifest.codes is None else None

    def __init__(self, place: Place) -> None:
        if place.point.codes is None:
            raise HyperStyleError(
                f"an inversion by {place.method!r} has no codes to refine; refine its channel "
                "offsets"
            )
        self.start = place.point.codes
        size = float(np.sqrt(np.square(self.start[:, :-1], dtype=np.float64).mean())) or 1.0
        self.rates = np.full_like(self.start, CODES_RATE * size)
        self.rates[:, -1] = 0

    def gradient(self, gradients: Gradients) -> Array:
        """See :class:`Variable`."""
        backend = gradients.objective.backend
        outputs = backend.run(WEIGHTS_ADJOINT, gradients.kernels())
        gradient: Array = backend.download(outputs["codes_gradient"])[0]
        return gradient


class SynthesisWeights(Variable):
    """All synthesis weights [Q], as what is added to the stored ones."""

    part, kind = "weights", WEIGHTS

    def __init__(self, place: Place) -> None:
        inputs = place.free.parametric()
        self._names = [parameter.name for parameter in inputs.parameters]
        weights = place.point.weights
        self.start = np.zeros(inputs.num_weights, np.float32) if weights is None else weights
        self.rates = np.float32(WEIGHTS_RATE) * np.ones((), np.float32)

    def gradient(self, gradients: Gradients) -> Array:
        """See :class:`Variable`."""
        return np.concatenate([gradients.array(name).ravel() for name in self._names])


class FeatureOffset(Variable):
    """What is added to one feature map [C,h,w], the one the bundle was built for.

    It moves where the mask counts, and stays elsewhere: gradients from there are next to nothing,
    but Adam steps by their signs, and a face outside the mask would get blotches.
    """

    part, kind = "features", FEATURES

    def __init__(self, place: Place) -> None:
        shape = place.free.parametric().feature.shape
        features = place.point.features
        self.start = np.zeros(shape, np.float32) if features is None else features
        rates = np.full(shape, FEATURES_RATE, np.float32)
        if place.mask is not None:
            rates *= _sampled(place.mask, place.manifest, shape[1:])
        self.rates = rates

    def gradient(self, gradients: Gradients) -> Array:
        """See :class:`Variable`."""
        gradient: Array = gradients.array("feature_offset")[0]
        return gradient


def _sampled(mask: Array, manifest: Manifest, size: tuple[int, int]) -> Array:
    """A mask of the rendering [H,W] at the places of a feature map [h,w] of the whole square.

    Rows that are cropped away are as the nearest that is kept.
    """
    top, _ = manifest.crop_rows or (0, manifest.resolution)
    rows, columns = (
        ((np.arange(length) + 0.5) * manifest.resolution / length).astype(np.intp)
        for length in size
    )
    sampled: Array = mask[np.ix_((rows - top).clip(0, len(mask) - 1), columns)]
    return sampled


VARIABLES: Mapping[str, type[Variable]] = {
    "latents": Latents,
    "w": SharedLatent,
    "noise": Noise,
    "codes": Codes,
    "channel_offsets": ChannelOffsets,
    "weights": SynthesisWeights,
    "features": FeatureOffset,
}
"""Those there are, by the names that users choose them by."""


def check_variables(names: tuple[str, ...]) -> None:
    """Refuse variables that there are not, or that do not go together.

    Raises
    ------
    HyperStyleError
        If so.
    """
    known = ", ".join(VARIABLES)
    for name in names:
        if name not in VARIABLES:
            raise HyperStyleError(f"there is no variable {name!r} to change; choose of {known}")
    if not names:
        raise HyperStyleError(f"no variable is named that could change; choose of {known}")
    if len(set(names)) < len(names):
        raise HyperStyleError("a variable is named twice; name each once")
    if {"latents", "w"} <= set(names):
        raise HyperStyleError(
            "latents and w are the same numbers, one row for each layer or one row for all; name "
            "one of them"
        )
