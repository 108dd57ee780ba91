"""Names of presets and variables, and what a preset is for: for help texts, without numpy."""

from __future__ import annotations

from collections.abc import Mapping

MAX_STEPS = 100_000

REFINE = "refine"

PRESET_LINES: Mapping[str, str] = {
    REFINE: "gradient steps on the weight offsets of an inversion",
    "photo": "steps on latents and weight offsets together, most of them on the bundle's draft",
    "projector": "StyleGAN2's projector (Karras et al. 2020): one latent, and the noise",
    "image2stylegan": "Image2StyleGAN (Abdal et al. 2019): a latent for every layer",
    "ii2s": "II2S (Zhu et al. 2020): the same, kept where the mapping network puts latents",
    "idinvert": "IDInvert's second stage (Zhu et al. 2020): latents that its encoder finds again",
    "pti": "pivotal tuning (Roich et al. 2022): one latent, then all weights of the generator",
    "pti_locality": "the same; away from that latent the generator stays as it was",
    "hybrid": "after DHR (Cao et al. 2023): weights inside a mask, a feature map outside it",
}
"""Name of a preset -> one line about it."""

VARIABLE_NAMES = ("channel_offsets", "codes", "latents", "w", "noise", "weights", "features")

FAST, AUTO, BEST = "fast", "auto", "best"
EFFORT_LINES: Mapping[str, str] = {
    FAST: "the method alone",
    AUTO: "then the bundle's gradient steps, where the picture does not fit and until it does",
    BEST: "all of these steps",
}
"""How much is done for a picture -> one line about it."""
