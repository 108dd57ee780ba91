"""What the graph ``styled_generator`` is fed beside latents and kernels, as a manifest says it.

Hosts that edit no styles and draw no noise run ``generator`` and need not know of these inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .fields import Fields

MAX_CHANNELS = 65536
MAX_NOISE_SIDE = 4096


@dataclass(frozen=True)
class StyleLayer:
    """A modulated convolution: ``width`` consecutive columns of the style offsets.

    Attributes
    ----------
    name:
        As in the checkpoint, e.g. ``convs.3``.
    width:
        Its input channels, one style each.
    """

    name: str
    width: int


@dataclass(frozen=True)
class NoiseLayer:
    """A layer that adds noise: the graph input ``noise.<name>``, float32 [1,1,side,side]."""

    name: str
    side: int


@dataclass(frozen=True)
class OptionalInputs:
    """The inputs that ``styled_generator`` has and ``generator`` has not.

    Attributes
    ----------
    styles:
        Columns of ``style_offsets``, float32 [1 or N,S]: all layers in the order of the offset
        index, toRGB included.
    noise:
        The layers that add noise, in the same order; none where training left no strength.
    """

    styles: tuple[StyleLayer, ...]
    noise: tuple[NoiseLayer, ...]

    @property
    def style_channels(self) -> int:
        """S: styles of all layers together."""
        return sum(layer.width for layer in self.styles)

    @classmethod
    def from_fields(cls, fields: Fields) -> OptionalInputs:
        """Read the object of a manifest; the inverse of :meth:`to_json`.

        Raises
        ------
        BundleError
            If a field is missing or has another type or range.
        """
        return cls(
            tuple(
                StyleLayer(layer.plain_name("name"), layer.integer("width", 1, MAX_CHANNELS))
                for layer in fields.children("styles")
            ),
            tuple(
                NoiseLayer(layer.plain_name("name"), layer.integer("side", 1, MAX_NOISE_SIDE))
                for layer in fields.children("noise")
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """Make the object of a manifest."""
        return {
            "styles": [{"name": layer.name, "width": layer.width} for layer in self.styles],
            "noise": [{"name": layer.name, "side": layer.side} for layer in self.noise],
        }
