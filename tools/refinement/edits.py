"""Whether edits still do what they are named for once an inversion is refined.

Every picture is inverted, and the inversion refined; both are edited alike, and judges read the
results: a factor regressor how far the attribute moved that an edit is named for, an embedding
network whether it is still the same face.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from directions.factor_regressor import to_tensor
from directions.judge import Judge
from evaluation.identity import centred, strangers
from hyperstyle_rt.editing.expressions import parse_edits
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.model import Model
from hyperstyle_rt.types import Picture
from numpy.typing import NDArray
from torch import Tensor, nn

STATES = ("unrefined", "refined")
UNEDITED = "no edit"

Table = dict[str, dict[str, dict[str, list[float]]]]
"""Edit -> state -> figure -> one number a picture."""


@dataclass(frozen=True)
class Trial:
    """What is done to every picture.

    Attributes
    ----------
    iterations:
        Of Model.
    steps, variable:
        Of the refinement after them.
    edits:
        Direction -> amount; each is an edit of its own.
    """

    iterations: int
    steps: int
    variable: str
    edits: Mapping[str, float]

    @property
    def labels(self) -> list[str]:
        """What the edits are called in tables and on sheets."""
        return [edit_label(name, amount) for name, amount in self.edits.items()]


@dataclass(frozen=True)
class EditJudges:
    """The networks that read the results; None for those not given.

    Attributes
    ----------
    attributes:
        Has learnt at least the directions of the edits.
    faces:
        Pictures [B,3,h,w] in [-1,1] -> unit embeddings [B,V].
    """

    attributes: Judge | None
    faces: nn.Module | None


@dataclass(frozen=True)
class Readings:
    """What was read off one picture's results; S states, E edits, 0 along their axis being none.

    Attributes
    ----------
    attributes:
        [S,E+1,D], in steps; None without a judge.
    faces:
        [S,E+1,V], unit embeddings, and `face` [V] that of the picture itself; None without a
        network.
    cosine, size:
        [E]: what an edit changes in the refined picture beside what it changes in the unrefined
        one, pixel by pixel: the cosine of the two differences, and the ratio of their norms.
    """

    attributes: NDArray[np.float32] | None
    faces: Tensor | None
    face: Tensor | None
    cosine: list[float]
    size: list[float]


def edit_label(name: str, amount: float) -> str:
    """An edit in a table's or a sheet's words."""
    return f"{name.replace('_', ' ')} {amount:+g}"


def parse_amounts(text: str, model: Model) -> dict[str, float]:
    """Read "smile=2,yaw=1.5", directions that the model has.

    Raises
    ------
    EditError
        If it reads otherwise, an amount is 0, or a direction is unknown.
    """
    found = parse_edits(text.split(","))
    if len(found) > 1 or not all(found[0].values()):
        raise EditError(f"--edits are single amounts other than 0, e.g. smile=2,yaw=1.5: {text!r}")
    missing = [name for name in found[0] if name not in model.directions]
    if missing:
        there_are = ", ".join(sorted(model.directions)) or "none"
        raise EditError(f"the bundle has no direction {missing[0]!r}; its are {there_are}")
    return dict(found[0])


def run_trial(model: Model, target: Picture, trial: Trial) -> NDArray[np.uint8]:
    """Invert, refine and edit a picture.

    Returns
    -------
    uint8 [S,E+1,H,W,3]: of the unrefined inversion and of the refined one, unedited and edited.
    """
    inversion = model.invert(target, trial.iterations, align="never")
    refined = model.optimise(
        inversion, target, steps=trial.steps, variables=(trial.variable,), align="never"
    )
    edits = [{name: amount} for name, amount in trial.edits.items()]
    return np.stack([[one.image, *model.sweep(one, edits)] for one in (inversion, refined)])


def read_results(
    target: Picture, results: NDArray[np.uint8], trial: Trial, judges: EditJudges
) -> Readings:
    """Let the judges read what :func:`run_trial` gave for a picture of the generator's size."""
    states, edits = results.shape[:2]
    flat = results.reshape(states * edits, *results.shape[2:])
    attributes = faces = face = None
    if judges.attributes is not None:
        columns = [judges.attributes.names.index(name) for name in trial.edits]
        attributes = judges.attributes.read(flat)[0][:, columns].reshape(states, edits, -1)
    if judges.faces is not None:
        with torch.inference_mode():
            face, *others = judges.faces(to_tensor(np.stack([target, *flat])))
        faces = torch.stack(others).reshape(states, edits, -1)
    changes = results[:, 1:].astype(np.float32) - results[:, :1]
    before, after = changes.reshape(states, edits - 1, -1)
    norms = np.linalg.norm(before, axis=1) + 1e-6, np.linalg.norm(after, axis=1) + 1e-6
    cosine = (before * after).sum(1) / (norms[0] * norms[1])
    return Readings(attributes, faces, face, cosine.tolist(), (norms[1] / norms[0]).tolist())


def measure_edits(
    model: Model,
    targets: Sequence[Picture],
    trial: Trial,
    judges: EditJudges,
    on_done: Callable[[], None],
) -> list[Readings]:
    """Try all pictures; `on_done()` after each."""
    found = []
    for target in targets:
        found.append(read_results(target, run_trial(model, target, trial), trial, judges))
        on_done()
    return found


def mean_face(readings: Sequence[Readings]) -> Tensor | None:
    """Mean embedding [V] of the pictures themselves; None of fewer than two."""
    faces = [one.face for one in readings if one.face is not None]
    return torch.stack(faces).mean(0) if len(faces) > 1 else None


def stranger_figures(readings: Sequence[Readings], mean: Tensor | None) -> dict[str, float]:
    """What identity similarities are to be compared with: those of different pictures."""
    faces = [one.face for one in readings if one.face is not None]
    if mean is None:
        return {}
    vectors = torch.stack(faces)
    found = {"identity": strangers(vectors), "identity_centred": strangers(centred(vectors, mean))}
    return {name: value for name, value in found.items() if value is not None}


def tabulate(readings: Sequence[Readings], trial: Trial, mean: Tensor | None) -> Table:
    """Figures of every edit in either state, and of no edit.

    Parameters
    ----------
    mean:
        What centred similarities are centred on.

    Returns
    -------
    Figures: "own", how far the attribute moved that the edit is named for, in steps; "identity",
    the similarity to the unedited result; "likeness", that to the picture; both also "_centred";
    "cosine" and "size" as in :class:`Readings`.
    """
    table: Table = {label: {state: {} for state in STATES} for label in (UNEDITED, *trial.labels)}
    for one in readings:
        for edit, label in enumerate(table):
            for row, state in enumerate(STATES):
                found = _identities(one, row, edit, mean)
                if edit and one.attributes is not None:
                    moved = one.attributes[row, edit] - one.attributes[row, 0]
                    found["own"] = float(moved[edit - 1])
                if edit and state == "refined":
                    found |= {"cosine": one.cosine[edit - 1], "size": one.size[edit - 1]}
                for name, value in found.items():
                    table[label][state].setdefault(name, []).append(value)
    return table


def _identities(one: Readings, row: int, edit: int, mean: Tensor | None) -> dict[str, float]:
    if one.faces is None or one.face is None:
        return {}
    shown, unedited, face = one.faces[row, edit], one.faces[row, 0], one.face
    figures = {"likeness": float(shown @ face)}
    if edit:
        figures["identity"] = float(shown @ unedited)
    if mean is not None:
        shown, unedited, face = (centred(vector, mean) for vector in (shown, unedited, face))
        figures["likeness_centred"] = float(shown @ face)
        if edit:
            figures["identity_centred"] = float(shown @ unedited)
    return figures


def summarise(
    table: Table, trial: Trial, spread: Mapping[str, float]
) -> dict[str, dict[str, dict[str, float]]]:
    """Means over the pictures; and of the own attribute also other ways of saying it.

    Parameters
    ----------
    spread:
        Direction -> standard deviation of its attribute over renders, in steps.

    Returns
    -------
    Edit -> state -> figure: as :func:`tabulate`, and "own_sd", the change in standard deviations;
    "right_way", the share of pictures whose attribute moves as asked.
    """
    amounts = dict(zip(trial.labels, trial.edits.items(), strict=True))
    means: dict[str, dict[str, dict[str, float]]] = {}
    for label, states in table.items():
        means[label] = {}
        for state, figures in states.items():
            found = {name: float(np.mean(values)) for name, values in figures.items()}
            if "own" in figures:
                name, amount = amounts[label]
                found["own_sd"] = found["own"] / spread[name]
                found["right_way"] = float(np.mean(np.array(figures["own"]) * amount > 0))
            means[label][state] = found
    return means
