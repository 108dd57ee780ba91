"""`tools/gpu_report.py` on the CPU, with the tiny networks: whole, and with stages that fail."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from benchmarking import gpu_report
from benchmarking.gpu_report import Stage, as_markdown
from typer.testing import CliRunner, Result


def report(folder: Path, checkpoints: tuple[Path, Path], *options: str) -> Result:
    app = typer.Typer()
    app.command()(gpu_report.main)
    given = ["--device", "cpu", "--out", str(folder / "report"), "--rounds", "1"]
    given += ["--minutes", "60", *options]
    files = ["--checkpoint", str(checkpoints[0]), "--w-encoder", str(checkpoints[1])]
    return CliRunner().invoke(app, [*given, *files])


def read(folder: Path) -> tuple[dict[str, Any], str]:
    document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return document["stages"], (folder / "report.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_stage_answers(
    tiny_checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = tuple(replace(stage, seconds=600) for stage in gpu_report.STAGES)
    monkeypatch.setattr(gpu_report, "STAGES", patient)
    result = report(tmp_path, tiny_checkpoints)
    stages, page = read(tmp_path)
    failed = {title: stage["error"] for title, stage in stages.items() if not stage["ok"]}
    assert not failed
    assert result.exit_code == 0
    assert list(stages) == [stage.title for stage in gpu_report.STAGES]
    times = stages["times fp32"]["found"]
    assert {"encoder", "hypernet", "weights", "generator"} <= times["graphs"].keys()
    assert stages["official"]["found"]["torch"]["inversion"] > 0
    assert stages["accuracy fp16"]["found"]["candidate"] == "cpu-fp16"
    assert stages["peak"]["found"]["fp32 macs_per_second"] > 0
    for words in ("share of peak", "| generator |", "An inversion of ours in fp32 takes"):
        assert words in page


def test_a_stage_that_fails_is_reported_and_the_others_go_on(
    tiny_checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = (Stage("bundle", 600), Stage("times", 600, "fp8"), Stage("peak", 600))
    monkeypatch.setattr(gpu_report, "STAGES", stages)
    assert report(tmp_path, tiny_checkpoints).exit_code == 1
    found, page = read(tmp_path)
    assert [stage["ok"] for stage in found.values()] == [True, False, True]
    assert "there is no 'cpu-fp8' to compare" in found["times fp8"]["error"]
    assert "## times fp8 (failed" in page


def test_a_stage_that_hangs_is_ended(
    tiny_checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_report, "STAGES", (Stage("bundle", 0.01), Stage("peak", 600)))
    assert report(tmp_path, tiny_checkpoints).exit_code == 1
    found, _ = read(tmp_path)
    assert found["bundle"]["error"].startswith("not done within")
    assert found["peak"]["ok"]


def test_what_a_stage_has_started_ends_with_it(tmp_path: Path) -> None:
    """The stage of tests starts pytest: on the card, it would disturb all stages after it."""
    late = tmp_path / "late"
    child = f"import pathlib, time; time.sleep(1.5); pathlib.Path({str(late)!r}).touch()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    status, _ = gpu_report.run_group([sys.executable, "-c", parent], 1.0)
    assert status is None
    time.sleep(1.5)
    assert not late.exists()


def test_results_are_told_after_every_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"bundle": {"ok": True, "found": {}}, "peak": {"ok": False, "error": "no card"}}
    monkeypatch.setattr(gpu_report, "run_stage", lambda stage, *_: given[stage.title])
    told: list[list[str]] = []
    stages = (Stage("bundle", 60), Stage("peak", 60))
    gpu_report.run_stages(stages, tmp_path / "r", 60.0, lambda found: told.append(list(found)))
    assert told == [["bundle"], ["bundle", "peak"]]


def test_without_time_left_stages_are_not_begun(tmp_path: Path) -> None:
    stages = (Stage("bundle", 60), Stage("accuracy", 60, "fp32"))
    found = gpu_report.run_stages(stages, tmp_path / "request.json", 0.0)
    assert list(found) == ["bundle", "accuracy fp32"]
    assert [stage["error"] for stage in found.values()] == ["no time was left"] * 2
    assert not list(tmp_path.iterdir())


def test_wrong_options_are_refused(tiny_checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    assert report(tmp_path, tiny_checkpoints, "--without", "everything").exit_code == 2
    assert not list(tmp_path.iterdir())


def test_the_page_tells_the_share_of_the_peak_of_its_precision() -> None:
    graph = {"median": 0.5, "first": 1.0, "macs": 10**9}
    times = {
        "ok": True,
        "seconds": 1.0,
        "found": {
            "graph_precision": "fp16",
            "provider": "P",
            "precision": "fp16",
            "tasks": {"inversion": {"median": 0.002, "first": 1.0}},
            "graphs": {"generator": graph},
        },
    }
    peaks = {"fp32 macs_per_second": 1e9, "fp16 macs_per_second": 8e9}
    stages = {"peak": {"ok": True, "found": peaks}, "times fp16": times}
    page = as_markdown({"device": "cuda", "machine": "m", "stages": stages})
    assert "| generator | 500.00 | 1.00 | 25.0% |" in page
    assert "| inversion | 2.00 |  |  |" in page
