"""`tools/benchmark.py` for real, on the tiny networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from benchmarking import inversion
from hyperstyle_rt import BundleError
from typer.testing import CliRunner


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(inversion.main)
    return app


def figures(command: typer.Typer, checkpoints: tuple[Path, Path], folder: Path) -> dict:
    out = folder / "figures.json"
    options = ["--checkpoint", str(checkpoints[0]), "--w-encoder", str(checkpoints[1])]
    options += ["--threads", "1", "--repeats", "1", "--json", str(out)]
    result = CliRunner().invoke(command, options, catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(out.read_text(encoding="utf-8"))


def test_without_a_compiler_that_form_is_left_out_with_a_sentence(
    command: typer.Typer,
    tiny_checkpoints: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "missing"))
    found = figures(command, tiny_checkpoints, tmp_path)
    assert list(found["seconds"]) == ["torch", "torch half", "runtime"]
    assert list(found["speed_up"]) == ["torch", "torch half"]
    assert "C++ compiler" in found["left_out"]["torch compiled"]
    assert all(seconds > 0 for stages in found["seconds"].values() for seconds in stages.values())
    for form, ratios in found["speed_up"].items():
        quotient = found["seconds"][form]["inversion"] / found["seconds"]["runtime"]["inversion"]
        assert ratios["inversion"] == pytest.approx(quotient)


@pytest.mark.slow
def test_the_compiled_form_runs(
    command: typer.Typer, tiny_checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    pytest.importorskip("torch._inductor")
    try:
        inversion.require_compiler()
    except inversion.Unavailable as error:
        pytest.skip(str(error))
    found = figures(command, tiny_checkpoints, tmp_path)
    assert not found["left_out"]
    assert "torch compiled" in found["speed_up"]


def test_forms_that_cannot_run_are_told_apart_in_the_table() -> None:
    stages = dict.fromkeys((*inversion.STAGES, "inversion"), 1.0)
    table = inversion.as_table(
        {
            "size": 256,
            "iterations": 5,
            "threads": 2,
            "seconds": {"torch": stages, "runtime": stages},
            "speed_up": {"torch": stages},
            "left_out": {"torch compiled": "no compiler"},
            "peak_bytes": {"torch": 2**30, "runtime": 2**30},
            "peak_ratio": {"torch": 1.0},
            "generator_share_of_matmul_peak": 0.5,
        }
    )
    assert [column.header for column in table.columns] == ["", "runtime", "torch"]
    assert "without torch compiled: no compiler" in str(table.caption)


def broken() -> None:
    raise BundleError("the bundle is broken; restore it")


def test_what_keeps_a_contender_from_running_is_a_sentence() -> None:
    """Whatever of ours it is, and though it happens in another process."""
    with pytest.raises(inversion.Unavailable, match="the bundle is broken; restore it"):
        inversion.Contender(broken)
