"""The table of speed: its figures, and parts that cannot run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from benchmarking import table
from benchmarking.table import Part, aims, as_markdown, parts, run_part
from typer.testing import CliRunner

STAGES = ("encoder", "hypernet", "generator", "inversion")


def report() -> dict[str, Any]:
    """Of a machine on which OpenVINO in bf16 is ten times as fast as everything else."""
    seconds = {
        name: dict.fromkeys(STAGES, 1.0 if name == "openvino-bf16" else 10.0)
        for name in ("torch", "torch half", "runtime", "openvino", "openvino-bf16")
    }
    peaks = {name: 2e9 if name == "torch" else 1e9 for name in seconds}
    timing = {"median": 1.0, "macs": 2e9, "macs_per_second": 2e9}
    results = [
        {
            "contender": name,
            "provider": "P",
            "precision": "fp32",
            "tasks": {"refinement step": {"median": step}, "8 edits": {"median": step}},
            "graphs": {"generator": timing},
        }
        for name, step in (("cpu", 3.0), ("openvino-bf16", 1.0))
    ]
    found: dict[str, Any] = {}
    for size in (1024, 256):
        left_out = {"torch compiled": "no compiler"}
        found[f"inversion {size}"] = {"seconds": seconds, "peak_bytes": peaks, "left_out": left_out}
        found[f"bench {size}"] = {"results": results}
    return found


def test_figures_are_ratios_of_what_was_measured() -> None:
    found = report()
    figures = [aim.figure(found) for aim in aims()]
    edits = 8 * (10.0 / 6) / 1.0
    assert figures == pytest.approx([10, 10, 10, 1, 0.5, 0.5, 3, edits, 10, 1])
    page = as_markdown(found)
    assert "| 1024: bf16 against the official form | 10.00 | at least 9 | yes |" in page
    assert "| 1024: ... of ONNX Runtime | 0.50 | at most 0.45 | no |" in page
    assert "- inversion 1024, torch compiled: no compiler" in page
    assert "- bench 256, cpu: P, fp32; GMAC/s: generator 2.0" in page


def test_what_was_not_measured_is_said() -> None:
    page = as_markdown({"inversion 256": {"error": "status 1: no room"}})
    assert page.count("not measured") == len(aims())
    assert "- inversion 256, error: status 1: no room" in page


def test_a_part_gives_its_json_or_its_last_words(tmp_path: Path) -> None:
    printed = ("-c", "print('a note'); print('{\"a\": 1}')")
    assert run_part(Part("p", printed, 1)) == {"a": 1}
    file = tmp_path / "out.json"
    file.write_text('{"b": 2}', encoding="utf-8")
    assert run_part(Part("p", printed, 1, file)) == {"b": 2}
    failing = run_part(Part("p", ("-c", "import sys; sys.exit('no bfloat16')"), 1))
    assert failing == {"error": "status 1: no bfloat16"}
    slow = run_part(Part("p", ("-c", "import time; time.sleep(60)"), 0.005))
    assert slow["error"].startswith("not done within 0.005 minutes")


def test_the_report_is_written_after_every_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "speed"
    seen: list[list[str]] = []

    def run(part: Part) -> dict[str, Any]:
        written = out.with_suffix(".json")
        seen.append(list(json.loads(written.read_text())["parts"]) if written.exists() else [])
        return {"error": "not here"}

    monkeypatch.setattr(table, "run_part", run)
    app = typer.Typer()
    app.command()(table.main)
    assert CliRunner().invoke(app, ["--out", str(out), "--sizes", "256"]).exit_code == 0
    titles = [part.title for part in parts([256], 5, 2, tmp_path)]
    assert seen == [titles[:count] for count in range(len(titles))]
    assert "not measured" in out.with_suffix(".md").read_text(encoding="utf-8")


def test_commands_are_python_ones(tmp_path: Path) -> None:
    for part in parts([1024, 256], 5, 2, tmp_path):
        assert part.words[0] == "-m" or (Path(table.__file__).parents[1] / part.words[0]).exists()
    assert sys.executable
