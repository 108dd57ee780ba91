"""How far the steps of a descent go, and how it is disturbed, from its start to its end.

The published formulas are those of StyleGAN2's projector (Karras et al. 2020):
``docs/spec-methods.md``, section 2.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int, float], float]
"""(steps done, progress 0 to 1) -> what the rates of the next step are multiplied by."""

WARM_UP = 5  # steps

SETTLED = 0.1
GENTLE = 0.5

RAMP_DOWN = 0.25  # share of the descent in which the rates fall to zero
RAMP_UP = 0.05  # share in which they rise

DISTURBANCE = 0.05  # of the latents' deviation, at the start
DISTURBED = 0.75  # share of the descent


def constant(_done: int, _progress: float) -> float:
    """The same rates throughout."""
    return 1.0


def cosine(_done: int, progress: float) -> float:
    """Fall to zero along half a cosine."""
    return (1 + math.cos(math.pi * progress)) / 2


def warm_cosine(done: int, progress: float) -> float:
    """Rise over the first steps, then fall to zero along half a cosine."""
    return min(1.0, (done + 1) / WARM_UP) * (1 + math.cos(math.pi * progress)) / 2


def gently(done: int, progress: float) -> float:
    """Like :func:`warm_cosine` from a half, and to a tenth of that: another descent goes on there.

    With whole rates photographs ended farther off (docs/evaluation.md), and a rare one went astray.
    """
    falling = SETTLED + (1 - SETTLED) * cosine(done, progress)
    return GENTLE * min(1.0, (done + 1) / WARM_UP) * falling


def projector_rate(_done: int, progress: float) -> float:
    """StyleGAN2's: rise in a straight line, stay, fall to zero along half a cosine.

    It is zero at the very start: the first step changes Adam's moments alone.
    """
    fall = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1.0 - progress) / RAMP_DOWN))
    return fall * min(1.0, progress / RAMP_UP)


def projector_disturbance(progress: float) -> float:
    """StyleGAN2's: deviation of the noise on the latents, in units of their own deviation."""
    return float(DISTURBANCE * max(0.0, 1.0 - progress / DISTURBED) ** 2)
