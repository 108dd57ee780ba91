"""The tool that compares all methods of a bundle, on the tiny bundle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import fakeweights
import numpy as np
import pytest
from comparison.cli import app, parse_limits, parse_numbers
from comparison.errors import ComparisonError
from comparison.judging import measure
from comparison.log import Log
from comparison.pictures import Sample, draw_renders
from comparison.processes import Engine, RowProcess
from comparison.results import gather
from comparison.rows import ALL, Row, limited, parse_rows, scaled
from comparison.store import Store
from evaluation.measure import Judges
from hyperstyle_rt import HyperStyleError, Inversion, Model
from hyperstyle_rt.imaging.pictures import read_picture, write_picture
from typer.testing import CliRunner

TOOLS = Path(__file__).parents[3] / "tools"
METHODS = "hyperstyle@0,hyperstyle+refine,projector"
STEPS = ("--steps", "projector=3", "--steps-scale", "0.05")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compared") / "pictures"
    path.mkdir()
    for seed in (1, 2):
        write_picture(path / f"{seed}.png", fakeweights.image_u8(seed, 40, 40))
    (path / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return path


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return Model.load(tiny_bundle, "cpu", threads=1)


def call(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, " ".join(result.stderr.split())


def test_a_killed_comparison_goes_on(tiny_bundle: Path, folder: Path, tmp_path: Path) -> None:
    """The whole way: killed in the middle of a descent, gone on with, refused, reported."""
    out = tmp_path / "out"
    heads = tmp_path / "heads.pth"
    heads.write_bytes(b"no weights")
    words = [folder, "--bundle", tiny_bundle, "--methods", METHODS, *STEPS, "--out", out]
    command = [sys.executable, TOOLS / "compare.py", *words, "--steps", "hyperstyle+refine=100000"]
    endless = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    log = out / "inversions.jsonl"
    while endless.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") == 2):
        time.sleep(0.02)
    endless.kill()
    assert endless.wait() == -signal.SIGKILL
    before = log.read_text().splitlines()
    assert [json.loads(line)["row"] for line in before] == ["hyperstyle@0"] * 2
    log.write_text(log.read_text() + '{"picture": "torn')

    code, _, said = call(*words)
    assert code == 2 and "--resume" in said
    weights = ("--backbone", heads, "--heads", heads)
    code, printed, said = call(*words, "--resume", "--json", *weights)
    assert code == 2
    assert "3.png" in said and "LPIPS is left out" in said and said.count("error:") == 2
    assert log.read_text().splitlines()[:2] == before  # not inverted again
    document = json.loads(printed)
    rows = {row["row"]: row for row in document["rows"]}
    assert list(rows) == METHODS.split(",")
    for row in rows.values():
        assert row["pictures"] == ["1.png", "2.png"] and row["peak_bytes"] > 1e6
        assert set(row["mean"]) == {"l2", "psnr", "ms_ssim", "seconds", "cpu"}
    assert [row["steps"] for row in rows.values()] == [0, 3, 3]
    refined, alone = rows["hyperstyle+refine"], rows["hyperstyle@0"]
    assert refined["mean"]["l2"] < alone["mean"]["l2"]
    assert refined["course_of_common"]["seconds"][-1] == refined["mean"]["seconds"]
    picture, target = (
        read_picture(next((out / name).glob("1-*.png"))).astype(float)
        for name in ("renderings/projector", "pictures")
    )
    by_hand = np.mean((picture - target) ** 2) / 127.5**2
    assert rows["projector"]["values"]["l2"][0] == pytest.approx(by_hand, rel=1e-4)
    assert any("3.png" in text for text in document["problems"])
    page = (out / "table.md").read_text()
    assert "| hyperstyle@0 | 2 | – |" in page and "3.png" in page
    assert (out / "quality.png").read_bytes().startswith(b"\x89PNG")
    assert read_picture(out / "sheet.jpg").shape[1] == 4 * 32
    (inversion, _) = sorted((out / "inversions" / "projector").iterdir())
    assert Inversion.load(inversion).settings["optimise"][0]["steps"] == 3

    records = log.read_bytes()
    code, _, said = call(*words, "--resume", "--steps", "projector=4")
    assert code == 2 and "projector has been run with 3 steps" in said
    code, _, said = call(*words, "--resume", "--threads", 2)
    assert code == 2 and "has threads 1, not 2" in said
    code, _, said = call(*words, "--resume", "--precision", "bf16")
    assert code == 2 and "cpu has no precision 'bf16'" in said
    assert log.read_bytes() == records


def test_what_these_judges_could_not_measure_is_missing(tmp_path: Path) -> None:
    """A rendering that was damaged since others measured it: their figures are of other kinds."""
    store, row = Store(tmp_path, {}, False), Row("hyperstyle", "hyperstyle")
    samples = [Sample(f"{name}.png", name, tmp_path / f"{name}.png") for name in ("a", "b")]
    spent = {"seconds": 1.0, "cpu": 1.0, "peak": 1, "steps_done": 0, "marks": []}
    for sample in samples:
        store.add_inversion(sample, row, spent)
        store.rendering(sample, row).parent.mkdir(parents=True, exist_ok=True)
        store.rendering(sample, row).write_bytes(b"")
        store.add_figures(sample, row, {}, {"l2": [0.1]})
    judges = {"lpips": "digest"}
    store.add_figures(samples[0], row, judges, {"l2": [0.2], "lpips": [0.3]})
    (found,) = gather("", [row], samples, store, judges, None, [], {}).rows
    assert found.names == ["a.png"] and found.missing == ["b.png"]
    assert found.mean(["a", "b"])["lpips"] == 0.3


def test_where_nothing_can_be_used_nothing_is_left(
    tiny_bundle: Path, folder: Path, tmp_path: Path
) -> None:
    """A name that is mistyped neither begins a comparison nor costs an earlier one."""
    out = tmp_path / "out"
    words = ["--bundle", tiny_bundle, "--methods", "hyperstyle@0", "--out", out]
    mistakes = {
        "there is nothing to compare": (),
        "there is no nowhere.png": ("nowhere.png", "nobody.png"),
        "no picture can be used; 3.png: ": (folder / "3.png",),
        "leave out those that are named": (folder, "--renders", 1),
    }
    for sentence, given in mistakes.items():
        code, printed, said = call(*given, *words)
        assert (code, printed) == (2, "") and sentence in said and said.count("error:") == 1
        assert not out.exists()
    code, printed, said = call(folder, "nowhere.png", *words)
    assert code == 2 and "hyperstyle@0  2" in printed and "nowhere.png: cannot read" in said
    before = (out / "inversions.jsonl").read_bytes()
    for given in mistakes.values():
        if folder / "3.png" not in given:
            assert call(*given, *words, "--force")[0] == 2
    assert (out / "inversions.jsonl").read_bytes() == before


def test_a_perfect_inversion_is_recorded(folder: Path, tmp_path: Path) -> None:
    """Its PSNR is infinite, which JSON does not know."""
    found = measure(read_picture(folder / "1.png"), [], folder / "1.png", Judges(None, None))
    assert found["l2"] == [0.0] and found["psnr"] == [None]
    Log(tmp_path / "log.jsonl").append({"figures": found})
    assert Log(tmp_path / "log.jsonl").records == [{"figures": found}]


def test_random_faces_depend_on_seed_and_number_alone(model: Model, tmp_path: Path) -> None:
    counted: list[tuple[int, int]] = []

    def draw(count: int, seed: int, name: str) -> list[bytes]:
        drawn = draw_renders(
            model, count, seed, tmp_path / name, lambda done, total: counted.append((done, total))
        )
        return [path.read_bytes() for path in drawn]

    two = draw(2, 5, "two")
    assert counted == [(1, 2), (2, 2)] and two[0] != two[1]
    assert draw(2, 5, "two") == two and len(counted) == 2  # nothing is drawn again
    assert draw(1, 5, "one") == two[:1] and draw(1, 6, "other") != two[:1]
    assert read_picture(tmp_path / "one" / "5-000000.png").shape == (32, 32, 3)


def test_a_process_that_dies_is_named_and_followed_by_another(
    tiny_bundle: Path, folder: Path, tmp_path: Path
) -> None:
    row = Row("hyperstyle@0", "hyperstyle", 0)
    process = RowProcess(Engine(tiny_bundle, "cpu", 1, "fp32"), row, tmp_path / "said.log")
    try:
        assert process.failure is None
        answer = process.invert({"picture": str(folder / "3.png")})
        assert "error" in answer and process.failure is None  # a bad picture ends nothing
        assert "ends" not in answer
        os.kill(process.pid, signal.SIGKILL)
        answer = process.invert({"picture": str(folder / "1.png")})
        assert "SIGKILL" in answer["error"] and process.failure == answer["error"]
    finally:
        process.close()


def test_an_altered_graph_ends_its_row_alone(
    tiny_bundle: Path, folder: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "tiny")
    (bundle / "hypernet.onnx").write_bytes(b"another")
    words = (folder, "--bundle", bundle, "--out", tmp_path / "out", "--json")
    code, printed, said = call(*words, "--methods", "hyperstyle,hyperstyle@0")
    assert code == 2 and said.count("hypernet.onnx") == 1  # told once, not for every picture
    counts = {row["row"]: len(row["pictures"]) for row in json.loads(printed)["rows"]}
    assert counts == {"hyperstyle": 0, "hyperstyle@0": 2}


def test_a_bundle_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    engine = Engine(tmp_path, "cpu", 1, "fp32")
    process = RowProcess(engine, Row("psp", "psp"), tmp_path / "said.log")
    process.close()
    assert process.failure is not None and "manifest.json" in process.failure


def test_the_precision_is_that_of_the_process(tiny_bundle: Path, tmp_path: Path) -> None:
    engine = Engine(tiny_bundle, "cpu", 1, "bf16")
    process = RowProcess(engine, Row("hyperstyle", "hyperstyle"), tmp_path / "said.log")
    process.close()
    assert process.failure is not None and "cpu has no precision 'bf16'" in process.failure


def test_rows_are_read(model: Model) -> None:
    rows, left_out = parse_rows(ALL, model)
    names = [row.name for row in rows]
    assert names[:2] == ["hyperstyle@0", "hyperstyle"]
    wanted = {"projector", "image2stylegan", "ii2s", "pti", "hyperstyle+pti", "hyperstyle+hybrid"}
    assert wanted <= set(names)
    assert any("idinvert is left out" in text and "encoder_term" in text for text in left_out)
    by_name = {row.name: row for row in rows}
    assert by_name["pti"].steps == 800 and by_name["hyperstyle+pti"].steps == 350
    shorter = scaled(rows, 0.1, {"pti": 7})
    assert {row.name: row.steps for row in shorter}["hyperstyle+refine"] == 6
    assert {row.name: row.steps for row in shorter}["pti"] == 7
    assert {row.name: row.limit for row in limited(rows, {"pti": 2})}["pti"] == 2
    (refine,), _ = parse_rows("refine", model)
    assert refine == replace(by_name["hyperstyle+refine"])
    (third,), _ = parse_rows("hyperstyle@3+refine", model)
    assert (third.method, third.iterations, third.preset) == ("hyperstyle", 3, "refine")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("hyper", "there is no method 'hyper'"),
        ("hyperstyle@x", "there is no method 'hyperstyle@x'"),
        ("hyperstyle+idinvert", "encoder_term"),
        ("pti,pti", "names 'pti' twice"),
    ],
)
def test_senseless_rows_are_refused(model: Model, text: str, sentence: str) -> None:
    with pytest.raises(HyperStyleError, match=sentence):
        parse_rows(text, model)


def test_senseless_numbers_are_refused(model: Model) -> None:
    rows, _ = parse_rows("hyperstyle,pti", model)
    assert parse_limits(["5", "pti=2"]) == (5, {"pti": 2})
    for text in ("pti", "pti=0", "pti=x"):
        with pytest.raises(ComparisonError, match="METHOD=N"):
            parse_numbers([text], "--steps")
    with pytest.raises(ComparisonError, match="not among"):
        limited(rows, {"ii2s": 1})
    with pytest.raises(ComparisonError, match="takes no gradient steps"):
        scaled(rows, 1.0, {"hyperstyle": 5})
    with pytest.raises(ComparisonError, match="--limit"):
        parse_limits(["1", "2"])


def test_a_log_keeps_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    Log(path).append({"a": 1})
    path.write_bytes(path.read_bytes() + b'{"a": 2')
    log = Log(path)
    assert log.records == [{"a": 1}]
    log.append({"a": 3})
    assert Log(path).records == [{"a": 1}, {"a": 3}]
    path.write_text("[]\n")
    with pytest.raises(ComparisonError, match="line 1"):
        Log(path)
