"""What a manifest says of general descent: the free inputs of its graphs, and its perceptual term.

``parametric_generator`` renders whatever descent has changed. Beside latents, style offsets and
noise it takes ``parameter.<name>``, all synthesis weights, and ``feature_offset``, what is added to
one feature map. The graph ``parameters`` gives the weights that go with an inversion's kernels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .fields import Fields, invalid

MAX_LENGTH = 65536
MAX_AXES = 5
MAX_PARAMETERS = 1 << 27
"""Numbers of all parameters together; StyleGAN2 at 1024 pixels has 28 million."""

MAX_WEIGHT = 1e6


@dataclass(frozen=True)
class Parameter:
    """A synthesis weight that descent may change: the graph input ``parameter.<name>``.

    Attributes
    ----------
    name:
        As in the checkpoint, e.g. ``convs.3.conv.weight``.
    shape:
        Likewise.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class FeatureMap:
    """The feature map that ``feature_offset`` [1,C,h,w] is added to.

    Attributes
    ----------
    layer:
        Whose output it is, e.g. ``convs.6``.
    shape:
        (C, h, w).
    """

    layer: str
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class ParametricInputs:
    """The inputs of ``parametric_generator`` that ``styled_generator`` has not.

    Attributes
    ----------
    parameters:
        All of them, in the order in which an inversion's free weights are stored.
    feature:
        The feature map that may be changed.
    """

    parameters: tuple[Parameter, ...]
    feature: FeatureMap

    @property
    def num_weights(self) -> int:
        """Q: numbers of all parameters together."""
        return sum(parameter.size for parameter in self.parameters)

    @classmethod
    def from_fields(cls, fields: Fields) -> ParametricInputs:
        """Read the object of a manifest; the inverse of :meth:`to_json`.

        Raises
        ------
        BundleError
            If a field is missing or has another type or range.
        """
        parameters = tuple(
            Parameter(child.plain_name("name"), _shape(child))
            for child in fields.children("parameters")
        )
        names = [parameter.name for parameter in parameters]
        if len(set(names)) < len(names):
            raise invalid(f"field {fields.path('parameters')} gives two parameters one name")
        if sum(parameter.size for parameter in parameters) > MAX_PARAMETERS:
            raise invalid(
                f"field {fields.path('parameters')} has more than {MAX_PARAMETERS} numbers"
            )
        feature = fields.child("feature")
        channels, height, width = feature.integers("shape", 3, 1, MAX_LENGTH)
        if channels * height * width > MAX_PARAMETERS:
            raise invalid(f"field {feature.path('shape')} has more than {MAX_PARAMETERS} numbers")
        return cls(parameters, FeatureMap(feature.plain_name("layer"), (channels, height, width)))

    def to_json(self) -> dict[str, Any]:
        """Make the object of a manifest."""
        return {
            "parameters": [
                {"name": parameter.name, "shape": list(parameter.shape)}
                for parameter in self.parameters
            ],
            "feature": {"layer": self.feature.layer, "shape": list(self.feature.shape)},
        }


@dataclass(frozen=True)
class ObjectiveFacts:
    """What the objective graphs compare pictures with, beside pixels.

    Attributes
    ----------
    perceptual:
        The network of the perceptual term: ``encoder``, the bundle's own;
        ``lpips_alexnet``, ``lpips_vgg16``, ``vgg16``.
    weight:
        What the term is multiplied by in the graphs already; above 0.
    """

    perceptual: str
    weight: float

    @classmethod
    def from_fields(cls, fields: Fields) -> ObjectiveFacts:
        """Read the object of a manifest; the inverse of :meth:`to_json`.

        Raises
        ------
        BundleError
            If a field is missing or has another type or range.
        """
        return cls(fields.plain_name("perceptual"), fields.positive("weight", MAX_WEIGHT))

    def to_json(self) -> dict[str, Any]:
        """Make the object of a manifest."""
        return {"perceptual": self.perceptual, "weight": self.weight}


def _shape(fields: Fields) -> tuple[int, ...]:
    value = fields.value("shape")
    axes = len(value) if isinstance(value, list) else 0
    if not 1 <= axes <= MAX_AXES:
        raise invalid(f"field {fields.path('shape')} must be a list of 1 to {MAX_AXES} integers")
    return fields.integers("shape", axes, 1, MAX_LENGTH)
