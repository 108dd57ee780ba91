"""Checkpoints of the official layout, of any size, with synthetic weights."""

from .checkpoints import (
    OFFICIAL_CHANNELS,
    latent_average,
    official_config,
    official_generator,
    synthetic_state,
    write_checkpoints,
)
from .encoders import encoder_config, encoder_state, write_encoder

__all__ = [
    "OFFICIAL_CHANNELS",
    "encoder_config",
    "encoder_state",
    "latent_average",
    "official_config",
    "official_generator",
    "synthetic_state",
    "write_checkpoints",
    "write_encoder",
]
