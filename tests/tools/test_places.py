"""Where tools write is looked at before they work: nothing else that they are given is there."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from directions import find, measure, read
from evaluation import cli as evaluation
from figures import model
from hyperstyle_rt import HyperStyleError
from mistakes import check_place
from photos.commands import EncoderCommand, StepCommand, evaluate_encoder, fit_heads
from photos.errors import PhotosError
from photos.renders import render_set
from refinement.cli import app as refinement
from typer.testing import CliRunner

NOWHERE = Path("nowhere")
FILE = Path("/proc/version")  # below which no folder can be made
BUNDLE = ("--bundle", "nowhere")


def alone(main: Callable[..., None]) -> typer.Typer:
    app = typer.Typer()
    app.command()(main)
    return app


SETS = ("--train", "nowhere", "--held-out", "nowhere", "--identity", "x", "--recipe", "nowhere")


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (alone(evaluation.main), ("nowhere",)),
        (refinement, ("quality", "nowhere")),
        (refinement, ("edits", "nowhere")),
        (alone(read.main), ("nowhere", "--face-api", "nowhere")),
        (alone(measure.main), (*BUNDLE, *SETS)),
        (alone(find.main), (*BUNDLE, "--recipe", "nowhere")),
        (alone(model.main), ("nowhere",)),
        (refinement, ("sheet", "nowhere")),
    ],
)
def test_a_place_that_cannot_be_written_is_told_first(
    app: typer.Typer, words: tuple[str, ...]
) -> None:
    result = CliRunner().invoke(app, [*words, "--out", str(FILE / "report.png")])
    assert result.exit_code == 2
    assert "is not a directory; give another --out" in " ".join(result.stderr.split())


def test_a_sheet_is_a_picture(tmp_path: Path) -> None:
    portraits = importlib.import_module("portraits.__main__").app
    for app, words in ((portraits, ["sheet"]), (refinement, ["sheet", "nowhere"])):
        for out, sentence in ((tmp_path / "sheet.gif", "must end in"), (tmp_path, "must end in")):
            result = CliRunner().invoke(app, [*words, "--out", str(out)])
            said = f"{result.stderr} {result.exception}"
            assert result.exit_code != 0 and sentence in " ".join(said.split())
    with pytest.raises(HyperStyleError, match="is a directory; name a file in it"):
        check_place(tmp_path)
    check_place(tmp_path / "new" / "page.md")
    assert (tmp_path / "new").is_dir()


@pytest.mark.parametrize(
    "work",
    [
        lambda: list(fit_heads(NOWHERE, FILE / "heads", [4], 80, 1, 0)),
        lambda: EncoderCommand(NOWHERE, NOWHERE, 4, (), NOWHERE, FILE / "run").run(*[None] * 4),
        lambda: list(StepCommand(NOWHERE, NOWHERE, NOWHERE, 4, (), FILE / "s").run(*[None] * 3)),
        lambda: list(
            evaluate_encoder(NOWHERE, NOWHERE, None, NOWHERE, None, 1, FILE / "s.png", None)
        ),
    ],
    ids=["heads", "encoder", "step", "evaluate"],
)
def test_training_for_photographs_finds_out_first(work: Callable[[], object]) -> None:
    with pytest.raises(HyperStyleError, match="/proc/version is not a directory; give another --"):
        work()


def test_a_folder_for_shards_that_cannot_be_made_is_named() -> None:
    with pytest.raises(PhotosError, match="cannot create /proc/version/set"):
        render_set(None, None, 4, FILE / "set", 1, 1, print)  # type: ignore[arg-type]
