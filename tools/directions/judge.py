"""The judge of edits: how far a picture has what directions are named for, and whose face it is.

It learns from renders whose factors are known, and never sees a bundle (:mod:`factor_regressor`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from hyperstyle_rt.errors import EditError
from hyperstyle_rt.types import Array
from numpy.typing import NDArray

from directions.factor_regressor import (
    BATCH,
    FactorRegressor,
    Pictures,
    Renders,
    columns,
    explained,
    train,
)
from directions.find import Recipe, factor_changes

SEEN = 0.3  # share of an attribute's variance the network must explain to judge it


@dataclass(frozen=True)
class Scale:
    """How F factors become D attributes, in steps of directions, and I looks.

    Attributes
    ----------
    factors:
        F names.
    std:
        [F], standard deviations over the renders that are learnt from.
    changes:
        [D,F], what one step of each direction changes, in these.
    looks:
        Columns of the factors that make up a person's looks.
    """

    factors: list[str]
    std: Array
    changes: NDArray[np.float64]
    looks: list[int]

    def attributes(self, renders: Renders) -> Array:
        """[N,D], in steps.

        Raises
        ------
        EditError
            If the renders have other factors.
        """
        if renders.names != self.factors:
            raise EditError("the two folders of renders have different factors; give two alike")
        return attribute_values(renders.factors, self.changes, self.std)

    def targets(self, renders: Renders) -> Array:
        """[N,D+I]; raises as :meth:`attributes`."""
        looks = renders.factors[:, self.looks]
        return np.concatenate([self.attributes(renders), looks], axis=1)


@dataclass(frozen=True)
class Judge:
    """A regressor whose first D targets are attributes and whose others are a person's looks.

    Attributes
    ----------
    regressor:
        The network.
    names:
        D directions, for which the attributes are named.
    scale:
        How factors become targets.
    spread:
        [D]: standard deviation of each attribute over the renders it has learnt from, in steps.
    """

    regressor: FactorRegressor
    names: tuple[str, ...]
    scale: Scale
    spread: Array

    def read(self, pictures: Pictures) -> tuple[Array, Array]:
        """Attributes [N,D] in steps and identities [N,I] of pictures uint8 [N,h,w,3]."""
        targets, count = self.regressor.read(pictures), len(self.names)
        return targets[:, :count], targets[:, count:] / self.regressor.std[count:].numpy()

    def seen(self, renders: Renders) -> Array:
        """[D]: how much of each attribute's variance the network explains on these renders.

        Raises
        ------
        EditError
            If their factors are others than the judge has learnt.
        """
        wanted = self.scale.targets(renders)
        return explained(self.regressor, renders.pictures, wanted)[: len(self.names)]


def attribute_values(factors: Array, changes: NDArray[np.float64], std: Array) -> Array:
    """How many steps of each direction a face has: [N,F] -> [N,D]."""
    scaled = changes / np.square(changes).sum(1, keepdims=True)
    return ((factors / std) @ scaled.T).astype(np.float32)


def check_count(renders: int) -> None:
    """Refuse too few renders; EditError if they are."""
    if renders < BATCH:
        raise EditError(f"{renders} renders teach nothing; give {BATCH} at least")


def train_judge(
    recipes: Mapping[str, Recipe],
    renders: Renders,
    looks: Sequence[str],
    epochs: int,
    on_epoch: Callable[[int, float], None],
) -> Judge:
    """Train a judge of these directions.

    Parameters
    ----------
    looks:
        Factors that make up a person's looks; empty if identities are not measured.
    on_epoch:
        As :func:`factor_regressor.train`.

    Raises
    ------
    EditError
        If the renders lack factors of the recipes, or are fewer than a batch.
    """
    check_count(len(renders.pictures))
    std = renders.factors.std(0) + 1e-3
    changes = factor_changes(recipes, renders.names, std)
    scale = Scale(renders.names, std, changes, columns(renders.names, looks))
    counts = np.array([len(recipes), len(looks)])
    weights = np.repeat(1 / np.maximum(counts, 1), counts).astype(np.float32)
    targets = scale.targets(renders)
    regressor = train(renders.pictures, targets, weights, epochs, on_epoch)
    return Judge(regressor, tuple(recipes), scale, targets[:, : len(recipes)].std(0))
