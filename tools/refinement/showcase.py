"""The sheet for the documentation: how a picture is refined, and edited before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from figures.sheets import headed_sheet
from hyperstyle_rt.imaging.pictures import resize_bilinear
from hyperstyle_rt.model import Model
from hyperstyle_rt.types import Picture

from .edits import Trial


@dataclass(frozen=True)
class Showcase:
    """What a row shows.

    Attributes
    ----------
    trial:
        Its edits are shown unrefined, and after a refinement of its steps.
    marks:
        Numbers of steps of which each is a refinement of its own.
    """

    trial: Trial
    marks: tuple[int, ...]

    def headings(self) -> list[str]:
        """One a column."""
        count = self.trial.iterations
        columns = ["input", "encoder only", f"{count} iteration" + "s" * (count != 1)]
        columns += [f"refine {steps}" for steps in self.marks]
        labels = self.trial.labels
        return [*columns, *labels, *(f"{label} after {self.trial.steps}" for label in labels)]

    def row(self, model: Model, picture: Picture) -> list[Picture]:
        """Pictures of the generator's size, one a column."""
        trial = self.trial
        inversion = model.invert(picture, trial.iterations, align="never")
        refined = {
            steps: model.optimise(
                inversion, picture, steps=steps, variables=(trial.variable,), align="never"
            )
            for steps in sorted({*self.marks, trial.steps})
        }
        edits = [{name: amount} for name, amount in trial.edits.items()]
        return [
            resize_bilinear(picture, model.bundle.manifest.image_size),
            model.invert(picture, 0, align="never").image,
            inversion.image,
            *(refined[steps].image for steps in self.marks),
            *model.sweep(inversion, edits),
            *model.sweep(refined[trial.steps], edits),
        ]


def draw(
    model: Model,
    pictures: Sequence[Picture],
    showcase: Showcase,
    on_done: Callable[[], None],
) -> Picture:
    """The sheet, a row a picture; `on_done()` after each row."""
    rows = []
    for picture in pictures:
        rows.append(showcase.row(model, picture))
        on_done()
    return headed_sheet(showcase.headings(), rows)
