"""Domain randomisation: what a network sees is disturbed, what it must say is not.

A network that has only seen a generator's pictures takes everything else a photograph shows (grain,
JPEG, another camera's colours, a crop a little off) for a property of the face. Off by default: the
official recipes train on pictures as they are.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import disturbances
from .disturbances import Disturbance
from .errors import TrainingError

MAX_STRENGTH = 4.0


@dataclass(frozen=True)
class Chance:
    """How often a disturbance is applied, and how much of it.

    Attributes
    ----------
    chance:
        Probability that a picture gets it, 0 .. 1.
    strength:
        1 is what photographs commonly show.
    """

    chance: float = 0.0
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.chance <= 1:
            raise TrainingError(f"a chance is {self.chance}; give one of 0 to 1")
        if not 0 < self.strength <= MAX_STRENGTH:
            raise TrainingError(
                f"a strength is {self.strength}; give one above 0, at most {MAX_STRENGTH:g}"
            )


OFF = Chance()


@dataclass(frozen=True)
class Randomisation:
    """Chances of all disturbances, in the order in which they are applied.

    First what happens before a camera, then in it, then to its file. See `disturbances` for each.

    Attributes
    ----------
    clean:
        Probability that a picture stays as it is whatever the other chances say.
    """

    crop: Chance = OFF
    border: Chance = OFF
    background: Chance = OFF
    occluder: Chance = OFF
    local_light: Chance = OFF
    tone: Chance = OFF
    white_balance: Chance = OFF
    cast: Chance = OFF
    grey: Chance = OFF
    rescale: Chance = OFF
    blur: Chance = OFF
    sharpen: Chance = OFF
    noise: Chance = OFF
    jpeg: Chance = OFF
    clean: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.clean <= 1:
            raise TrainingError(f"'clean' is {self.clean}; give a probability of 0 to 1")

    @property
    def active(self) -> tuple[tuple[Disturbance, Chance], ...]:
        """What may be applied, in order."""
        chances = [(f.name, getattr(self, f.name)) for f in dataclasses.fields(self)]
        return tuple(
            (getattr(disturbances, name), chance)
            for name, chance in chances
            if isinstance(chance, Chance) and chance.chance > 0
        )


PHOTOGRAPHS = Randomisation(
    crop=Chance(0.8),
    border=Chance(0.2),
    background=Chance(0.2),
    occluder=Chance(0.1),
    local_light=Chance(0.3),
    tone=Chance(0.6),
    white_balance=Chance(0.4),
    cast=Chance(0.1),
    grey=Chance(0.15),
    rescale=Chance(0.3),
    blur=Chance(0.2),
    sharpen=Chance(0.15),
    noise=Chance(0.25),
    jpeg=Chance(0.4),
    clean=0.1,
)
"""What photographs that people bring are like, from scans of prints to portraits of phones."""


def disturbed(
    picture: NDArray[np.uint8], randomisation: Randomisation, seed: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Disturb one picture.

    Parameters
    ----------
    picture:
        uint8 [h,w,3], square.
    randomisation:
        What may happen.
    seed:
        Numbers that name this picture at this time, such as (run, epoch, number): equal ones give
        equal results.

    Returns
    -------
    uint8 array [h,w,3]; the picture itself where nothing was drawn.
    """
    random = np.random.default_rng(seed)
    if random.random() < randomisation.clean:
        return picture
    drawn = [(f, c) for f, c in randomisation.active if random.random() < c.chance]
    if not drawn:
        return picture
    x = picture.astype(np.float32) / np.float32(255)
    for disturbance, chance in drawn:
        x = disturbance(x, random, chance.strength)
    return np.round(x * 255).astype(np.uint8)
