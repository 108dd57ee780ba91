"""The tools that measure descent, on the tiny bundle: both contenders go the same way."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarking import descent_costs, pivotal_tuning
from benchmarking.descent_costs import DESCENTS, PASSES, PEAK, STEP, measure_descents
from benchmarking.pivotal_tuning import PRESET_OF, RUNTIME, TORCH, psnr
from hyperstyle_rt.errors import HyperStyleError

STEPS = 3


def test_torch_tunes_as_the_runtime_does(tiny_bundle: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        runtime = partial(pivotal_tuning.runtime_tuning, ("cpu", "fp32"))
        for make in (runtime, pivotal_tuning.torch_tuning):
            found = make(tiny_bundle, tmp_path, STEPS, 1, "wall")()
            assert found.keys() == PRESET_OF.keys()
            assert all(seconds > 0 for seconds in found.values())
    finally:
        torch.set_num_threads(threads)
    pictures = {
        name: [np.load(tmp_path / f"{name}-{stage}.npy") for stage in PRESET_OF]
        for name in (RUNTIME, TORCH)
    }
    for ours, theirs in zip(*pictures.values(), strict=True):
        assert psnr(ours, theirs) >= 80
    projected, tuned = pictures[RUNTIME]
    assert psnr(projected, tuned) < 60  # something has changed


def test_the_table_tells_ratios_and_likeness() -> None:
    by_stage = dict.fromkeys(PRESET_OF, 2.0)
    figures = {
        "size": 256,
        "backend": "openvino",
        "precision": "bf16",
        "steps": 3,
        "threads": 1,
        "seconds": {RUNTIME: by_stage, TORCH: dict.fromkeys(PRESET_OF, 5.0)},
        "times_as_fast": dict.fromkeys(PRESET_OF, 2.5),
        "whole": 2.5,
        "psnr": dict.fromkeys(PRESET_OF, 90.0),
        "peak_bytes": {RUNTIME: 2**30, TORCH: 2**31},
    }
    table = pivotal_tuning.as_table(figures)
    columns = [list(column.cells) for column in table.columns]
    assert columns[3] == ["2.50", "2.50", "2.50", ""]
    assert table.title == "Pivotal tuning, 256 px, openvino bf16, 1 threads"
    assert columns[4][0] == "90.0 dB after 3 steps"


def test_costs_are_told_in_forward_passes(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(make: object) -> dict[str, float]:  # a process each takes the test's seconds
        return {**make()(), PEAK: 1e9}  # type: ignore[operator]

    monkeypatch.setattr(descent_costs, "run_once", here)
    told: list[str] = []
    names = ["weights", "pti", "inversion, then codes"]
    found = measure_descents(tiny_bundle, names, 2, 1, "wall", lambda title, _: told.append(title))
    assert told == list(found) == ["inversion", *names]
    for name in names:
        assert found[name][PASSES] == found[name][STEP] / found["inversion"]["forward"] > 0
    table = descent_costs.as_table({"resolution": 32, "rows": {**found, "features": {}}})
    rows = [[str(each) for each in row] for row in table.rows]
    assert [row[0] for row in rows] == ["inversion", *names, "features"]
    assert rows[-1][1:] == ["", "ended"]


def test_what_cannot_be_measured_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(HyperStyleError, match="there is no 'hair' to measure"):
        measure_descents(tiny_bundle, ["hair"], 1, 1, "wall", lambda *_: None)
    titles = [descent.title for descent in DESCENTS]
    assert len(set(titles)) == len(titles)
