"""Costs that are counted after a bundle was built are those that its builder counts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import typer
from benchmarking import count_costs
from hyperstyle_rt.formats.bundle import Bundle
from typer.testing import CliRunner


def count(bundle: Path) -> int:
    app = typer.Typer()
    app.command()(count_costs.main)
    return CliRunner().invoke(app, [str(bundle)]).exit_code


def test_counted_costs_are_the_builders_and_nothing_else_changes(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy)
    built = (copy / "manifest.json").read_text(encoding="utf-8")
    document = json.loads(built)
    for graph in document["graphs"].values():
        assert graph.pop("macs") >= 0
        assert graph.pop("bytes_moved") >= 0
    (copy / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    before = Bundle.open(copy)
    assert before.manifest.graphs["generator"].macs is None
    assert count(copy) == 0
    assert (copy / "manifest.json").read_text(encoding="utf-8") == built
    assert Bundle.open(copy).digest == before.digest


def test_an_altered_graph_is_refused_and_nothing_is_written(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy)
    built = (copy / "manifest.json").read_bytes()
    (copy / "encoder.onnx").write_bytes(b"")
    assert count(copy) == 2
    assert (copy / "manifest.json").read_bytes() == built
