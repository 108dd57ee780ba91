"""What one bundle is made of: a generator, and whatever inverts into its latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .encoder_method import EncoderMethod
from .hyperstyle import HyperStyle


@dataclass(frozen=True)
class Family:
    """Networks that share one generator.

    Attributes
    ----------
    model:
        The generator and the average latents; with HyperStyle's encoder and hypernetwork, or
        without values for them.
    encoders:
        Method to encoder, of pSp, e4e and ReStyle.
    """

    model: HyperStyle
    encoders: Mapping[str, EncoderMethod] = field(default_factory=dict)
