"""The gradient steps of an inversion that a service is asked for, on a bundle that names some."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from hyperstyle_export.bundles.writer import write_manifest
from hyperstyle_rt import Bundle, Inversion
from hyperstyle_rt.formats.fit import Fit, Quantiles
from hyperstyle_rt.imaging.pictures import encode_picture
from hyperstyle_rt.serving.desk import Desk
from hyperstyle_rt.serving.jobs import NOTHING, Inverted, InvertJob, Progress
from hyperstyle_rt.serving.settings import ModelSettings


def desk_of(bundle: Path, level: float, folder: Path) -> Desk:
    """A worker's, on a bundle whose pictures fit as well as this after the method."""
    for file in bundle.iterdir():
        (folder / file.name).hardlink_to(file)
    (folder / "manifest.json").unlink()
    after = Quantiles((level,), (level,))
    manifest = Bundle.open(bundle).manifest
    write_manifest(folder, replace(manifest, fit=Fit(8, (0.5,), (after, after))))
    return Desk(ModelSettings(bundle=folder, threads=1))


@pytest.fixture
def strict(tiny_faces_bundle: Path, tmp_path: Path) -> Iterator[Desk]:
    """Nothing fits."""
    with desk_of(tiny_faces_bundle, 0.0, tmp_path) as desk:
        yield desk


def inverted(desk: Desk, job: InvertJob) -> tuple[Inverted, list[Progress]]:
    told: list[Progress] = []
    done = job.run(desk, told.append)
    assert isinstance(done, Inverted)
    return done, [news for news in told if news.kind == "step"]


def content(picture: np.ndarray) -> bytes:
    return encode_picture(Path("face.png"), picture)


def test_the_bundle_s_own_steps_are_taken_once(strict: Desk, picture: np.ndarray) -> None:
    job = InvertJob(picture=content(picture), steps=3, align="never")
    done, steps = inverted(strict, job)
    inversion = Inversion.from_bytes(done.file)
    assert [news.number for news in steps] == [1, 2, 3]
    assert len(inversion.settings["optimise"]) == 1
    assert inversion.settings["effort"]["steps"] == 3


def test_none_are_taken_where_none_are_wanted(strict: Desk, picture: np.ndarray) -> None:
    job = InvertJob(picture=content(picture), then=NOTHING, align="never")
    done, steps = inverted(strict, job)
    assert steps == [] and "optimise" not in Inversion.from_bytes(done.file).settings


def test_a_picture_that_fits_needs_none(
    tiny_faces_bundle: Path, tmp_path: Path, picture: np.ndarray
) -> None:
    with desk_of(tiny_faces_bundle, 9.0, tmp_path) as desk:
        done, steps = inverted(desk, InvertJob(picture=content(picture), align="never"))
    assert steps == []
    assert Inversion.from_bytes(done.file).settings["effort"]["steps"] == 0


def test_those_that_are_named_are_all_taken(strict: Desk, picture: np.ndarray) -> None:
    job = InvertJob(picture=content(picture), then="refine", steps=2, align="never")
    done, steps = inverted(strict, job)
    settings = Inversion.from_bytes(done.file).settings
    assert len(steps) == 2 and "effort" not in settings
    assert [each["preset"] for each in settings["optimise"]] == ["refine"]
