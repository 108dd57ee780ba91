"""The bundle `portraits` can be edited out of the box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hyperstyle_rt import Inversion, Model

EXAMPLE = Path(__file__).parents[2] / "examples" / "portrait_0.png"
PROMISED = ("smile", "age", "yaw", "pitch", "hair_colour", "glasses")


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load("portraits", threads=1)


@pytest.fixture(scope="module")
def inversion(model: Model) -> Inversion:
    return model.invert(EXAMPLE)


@pytest.mark.parametrize("name", PROMISED)
def test_a_promised_direction_changes_the_picture(
    name: str, model: Model, inversion: Inversion
) -> None:
    assert model.directions[name].unit
    less, more = model.sweep(inversion, [{name: -1.0}, {name: 1.0}])
    assert np.abs(less.astype(int) - more).mean() > 0.5


def test_light_hair_is_lighter(model: Model, inversion: Inversion) -> None:
    dark, light = model.sweep(inversion, [{"hair_colour": -1.5}, {"hair_colour": 1.5}])
    top = slice(dark.shape[0] // 8)
    assert light[top].mean() > dark[top].mean()
