"""Methods as a manifest lists them: phases over named state, which every host runs alike.

A phase runs one graph: its inputs are fed from the state by name, its outputs replace the state, an
output ``<name>_next`` the state ``<name>``. ``docs/architecture.md`` has the whole rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .fields import Fields, invalid

MAX_ITERATIONS = 100
MAX_PHASES = 32
AVERAGE = "_average"  # how roles end of graphs that give latents and their reconstruction


@dataclass(frozen=True)
class Phase:
    """One step of a method.

    Attributes
    ----------
    graph:
        Role of the graph that runs.
    repeat:
        How often, 1 to :data:`MAX_ITERATIONS`; None for a graph that runs once and is no iteration.
    """

    graph: str
    repeat: int | None = None


@dataclass(frozen=True)
class Method:
    """How a picture is inverted: phases, one after the other.

    A user's number of iterations replaces the repeat of the last phase that has one.
    """

    phases: tuple[Phase, ...]

    @property
    def iterating_phase(self) -> int | None:
        """Position of the phase that a number of iterations replaces; None where none repeats."""
        repeating = [at for at, phase in enumerate(self.phases) if phase.repeat is not None]
        return repeating[-1] if repeating else None

    @property
    def iterations(self) -> int:
        """Iterations when the user names no number; 0 where no phase repeats."""
        at = self.iterating_phase
        return 0 if at is None else self.phases[at].repeat or 0

    @property
    def renderings(self) -> int:
        """How often latents are rendered: before every iteration, and at the end."""
        given = sum(phase.graph.endswith(AVERAGE) for phase in self.phases)
        return 1 + sum(phase.repeat or 0 for phase in self.phases) - given

    @property
    def graph_runs(self) -> dict[str, int]:
        """How often its graphs run, when the user names no number of iterations."""
        runs: dict[str, int] = {}
        for phase in self.phases:
            runs[phase.graph] = runs.get(phase.graph, 0) + (phase.repeat or 1)
        return runs

    def cost(self, macs: Mapping[str, int | None]) -> int | None:
        """Multiply-accumulates of an inversion; None where those of a graph are not known.

        Parameters
        ----------
        macs:
            Role to those of one run, of all graphs of the bundle.
        """
        runs = self.graph_runs | {"generator": self.renderings}
        if "weights" in macs:
            runs["weights"] = self.renderings
        known = [count * found for role, count in runs.items() if (found := macs[role]) is not None]
        return sum(known) if len(known) == len(runs) else None

    @classmethod
    def from_fields(cls, fields: Fields) -> Method:
        """Read the object of a manifest; the inverse of :meth:`to_json`.

        Raises
        ------
        BundleError
            If a field is missing or has another type or range.
        """
        phases = fields.children("phases")
        if not 0 < len(phases) <= MAX_PHASES:
            raise invalid(f"field {fields.path('phases')} must hold 1 to {MAX_PHASES} phases")
        return cls(tuple(_phase(phase) for phase in phases))

    def to_json(self) -> dict[str, Any]:
        """Make the object of a manifest."""
        return {
            "phases": [
                {"graph": phase.graph} | ({} if phase.repeat is None else {"repeat": phase.repeat})
                for phase in self.phases
            ]
        }


def _phase(fields: Fields) -> Phase:
    repeat = fields.integer("repeat", 1, MAX_ITERATIONS) if fields.has("repeat") else None
    return Phase(fields.plain_name("graph"), repeat)
