"""When a descent stops."""

from __future__ import annotations

from dataclasses import dataclass

from ..formats.asked import number_from_0, whole_number
from .names import MAX_STEPS

SETTLED_OVER = 10  # steps over which an improvement is looked for


@dataclass(frozen=True)
class Limits:
    """When to stop: whichever comes first, in numbers of Python whatever kind was given.

    Attributes
    ----------
    steps:
        At most so many gradient steps.
    seconds:
        No step is begun after so long; None for any time.
    until:
        Stop when the loss has fallen by less than this fraction of itself over the last
        :data:`SETTLED_OVER` steps; None for never.

    Raises
    ------
    HyperStyleError
        On construction, if one of them is no such number.
    """

    steps: int
    seconds: float | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", whole_number("steps", self.steps, MAX_STEPS))
        for name in ("seconds", "until"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, number_from_0(name, value))

    def progress(self, steps: int, seconds: float) -> float:
        """Share of the limits that is used up: 0 at the start, 1 at the end."""
        used = steps / self.steps if self.steps else 1.0
        if self.seconds is not None:
            used = max(used, seconds / self.seconds if self.seconds else 1.0)
        return min(used, 1.0)

    def settled(self, losses: list[float]) -> bool:
        """Whether the loss no longer falls enough."""
        if self.until is None or len(losses) <= SETTLED_OVER:
            return False
        before, now = losses[-1 - SETTLED_OVER], losses[-1]
        return before - now < self.until * before
