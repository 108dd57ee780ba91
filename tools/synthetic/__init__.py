"""Checkpoints of the official layout, of any size, with synthetic weights."""

from .checkpoints import (
    OFFICIAL_CHANNELS,
    latent_average,
    official_config,
    synthetic_state,
    write_checkpoints,
)

__all__ = [
    "OFFICIAL_CHANNELS",
    "latent_average",
    "official_config",
    "synthetic_state",
    "write_checkpoints",
]
