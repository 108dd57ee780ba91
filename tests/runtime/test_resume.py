"""What is done is not done again: judged by contents and settings, not by names."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import fakeweights
import pytest
from batch_folders import contents, make_pictures, outcomes
from command_line import files, refuse, run, sentence, succeed
from hyperstyle_rt import Model
from hyperstyle_rt.imaging.pictures import write_picture
from hyperstyle_rt.temporaries import remove_leftovers


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tiny_bundle: Path) -> tuple[object, ...]:
    """Options for ``in/`` with a.png and x/b.png, which are done already."""
    make_pictures("in/a.png", "in/x/b.png")
    options = ("in", "-o", "out", "--bundle", tiny_bundle)
    assert outcomes(*options)["inversions"] == ["a", "b"]
    return options


def test_what_is_done_is_skipped(folder: tuple[object, ...], monkeypatch: pytest.MonkeyPatch):
    def work(*_: object, **_named: object) -> None:
        raise AssertionError("this is work")

    monkeypatch.setattr(Model, "invert", work)
    before = contents()
    report = json.loads(succeed("invert", *folder, "-n", 1, "--resume", "--json"))
    assert report["skipped"] == [
        {"input": "in/a.png", "results": ["out/a.inverted.png"]},
        {"input": "in/x/b.png", "results": ["out/x/b.inverted.png"]},
    ]
    assert contents() == before
    line = succeed("invert", *folder, "-n", 1, "--resume")
    assert re.fullmatch(r"0 inverted, 2 skipped of 2 in \d+\.\d s\n", line)


def _edited() -> None:
    make_pictures("in/a.png", first=7)


def _touched() -> None:
    os.utime("in/a.png", (0, 0))


def _swapped() -> None:
    Path("in/a.png").rename("in/c.png")
    Path("in/x/b.png").rename("in/a.png")
    Path("in/c.png").rename("in/x/b.png")


def _result_removed() -> None:
    Path("out/a.inverted.png").unlink()


def _result_cut() -> None:
    path = Path("out/a.inverted.png")
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (_edited, ["a"]),
        (_touched, []),
        (_swapped, ["a", "b"]),
        (_result_removed, ["a"]),
        (_result_cut, ["a"]),
    ],
)
def test_what_changed_is_done_again(
    change: Callable[[], None], again: list[str], folder: tuple[object, ...]
) -> None:
    change()
    found = outcomes(*folder, "--resume")
    assert found == {"inversions": again, "skipped": sorted({"a", "b"} - {*again}), "errors": []}
    written = contents()
    shutil.rmtree("out")
    outcomes(*folder)
    assert contents() == written


def test_a_renamed_picture_is_not_inverted_again(folder: tuple[object, ...]) -> None:
    before = contents()
    Path("in/x/b.png").rename("in/new.png")
    found = outcomes(*folder, "--resume")
    assert found == {"inversions": [], "skipped": ["a", "new"], "errors": []}
    assert contents() == before | {"new.inverted.png": before["x/b.inverted.png"]}


def test_files_beside_the_result_are_renamed_with_it(tiny_bundle: Path) -> None:
    make_pictures("in/a.png")
    beside = ("--save-steps", "--coupled", "--save-inversion")
    options = ("in", "-o", "out", "--bundle", tiny_bundle, *beside)
    outcomes(*options)
    before = contents()
    Path("in/a.png").rename("in/b.png")
    assert outcomes(*options, "--resume")["skipped"] == ["b"]
    assert contents() == before | {f"b{name[1:]}": data for name, data in before.items()}
    Path("out/b.step1.png").unlink()
    assert outcomes(*options, "--resume")["skipped"] == ["b"]  # copied from "a" once more
    for name in ("a", "b"):
        Path(f"out/{name}.safetensors").unlink()
    assert outcomes(*options, "--resume")["inversions"] == ["b"]


@pytest.mark.parametrize(
    "changed",
    [("--until", 0.5), ("--save-inversion",), ("--align", "never"), ("--face", "0")],
)
def test_other_settings_are_other_results(
    changed: tuple[object, ...], folder: tuple[object, ...]
) -> None:
    assert outcomes(*folder, "--resume", *changed)["inversions"] == ["a", "b"]
    assert outcomes(*folder, "--resume", *changed)["skipped"] == ["a", "b"]


def test_steps_on_named_variables_are_not_taken_again(tiny_bundle: Path) -> None:
    make_pictures("in/a.png")
    steps = ("--then", "refine", "--steps", 1, "--variables", "latents,codes")
    options = ("in", "-o", "out", "--bundle", tiny_bundle, *steps, "--resume")
    assert outcomes(*options)["inversions"] == ["a"]
    assert outcomes(*options)["skipped"] == ["a"]


def test_another_bundle_gives_other_results(
    folder: tuple[object, ...], tiny_bundle: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(tiny_bundle, tmp_path / "other")
    (other / "more.onnx").write_bytes(b"")
    manifest = json.loads((other / "manifest.json").read_text())
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    manifest["files"]["more.onnx"] = {"sha256": empty, "bytes": 0, "stored": "fp32"}
    manifest["graphs"]["more"] = {"file": "more.onnx", "data": []}
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert outcomes(*folder[:-1], other, "--resume")["inversions"] == ["a", "b"]


def test_files_of_others_are_left_alone(folder: tuple[object, ...]) -> None:
    write_picture("out/a.inverted.png", fakeweights.image_u8(9, 16, 16))
    mine = Path("out/a.inverted.png").read_bytes()
    result = run("invert", *folder, "-n", 1, "--resume")
    assert result.exit_code == 2
    text = sentence(result.stderr)
    assert (
        text.startswith("out/a.inverted.png exists and is of no earlier run") and "--force" in text
    )
    assert Path("out/a.inverted.png").read_bytes() == mine
    assert outcomes(*folder, "--resume", "--force") == {
        "inversions": ["a"],
        "skipped": ["b"],
        "errors": [],
    }


def test_an_inversion_file_of_others_is_left_alone(tiny_bundle: Path) -> None:
    make_pictures("in/a.png")
    options = ("in", "-o", "out", "--bundle", tiny_bundle, "--save-inversion", "--resume")
    Path("out").mkdir()
    Model.load(tiny_bundle).invert("in/a.png", 2).save("out/a.safetensors")
    before = files()
    assert outcomes(*options, exit_code=2)["errors"] == ["a"]
    assert files() == before
    assert outcomes(*options, "--force")["inversions"] == ["a"]
    Path("out/a.inverted.png").unlink()  # as if killed between the two
    assert outcomes(*options)["inversions"] == ["a"]


def test_results_are_no_pictures(tiny_bundle: Path) -> None:
    """A folder may be its own --out."""
    make_pictures("in/a.png")
    options = ("in", "-o", "in", "--bundle", tiny_bundle, "--save-steps", "--coupled", "--resume")
    assert outcomes(*options)["inversions"] == ["a"]
    assert outcomes(*options) == {"inversions": [], "skipped": ["a"], "errors": []}


def test_leftovers_of_a_killed_run_are_removed(folder: tuple[object, ...]) -> None:
    old, new, other = (Path("out", f".{c * 32}.part") for c in "abx")
    for path in (old, new, other):
        path.write_bytes(b"")
    for path in (old, other):
        os.utime(path, (0, 0))
    outcomes(*folder, "--resume")
    assert [path.exists() for path in (old, new, other)] == [False, True, True]
    remove_leftovers(Path("missing"))


def test_resume_needs_a_directory(tiny_bundle: Path) -> None:
    make_pictures("a.png")
    text = refuse("invert", "a.png", "-o", "b.png", "--resume", "--bundle", tiny_bundle)
    assert text == "--resume needs a directory, and --out b.png is a picture"


def test_reports_are_replaced_only_by_those_that_go_on(folder: tuple[object, ...]) -> None:
    options = ("invert", *folder, "-n", 1, "--report", "r.json", "--quiet")
    succeed(*options, "--resume")
    succeed(*options, "--resume")
    Path("r.json").write_text('{"mine": 1}')
    said = refuse(*options, "--resume")
    assert said == "r.json exists; give another --report, or replace it with --force"
    succeed(*options, "--resume", "--force")


def test_a_report_with_names_that_are_no_unicode_is_one(folder: tuple[object, ...]) -> None:
    """As old archives have them, and all but ASCII in the locale C."""
    name = os.fsdecode(b"\xff.png")
    Path("in/a.png").rename(f"in/{name}")
    options = ("invert", *folder, "-n", 1, "--resume", "--report", "in/r.json", "--json")
    for _ in range(2):
        document = json.loads(succeed(*options))
        assert (document["skipped"][0]["input"], document["passed_over"]) == (f"in/{name}", [])


@pytest.mark.parametrize("report", ["in", "in/a.png/r.json", "in/a.png"])
def test_reports_that_cannot_be_written(report: str, folder: tuple[object, ...]) -> None:
    before = contents("in") | contents()
    refuse("invert", *folder, "-n", 1, "--resume", "--report", report)
    assert contents("in") | contents() == before


@pytest.mark.parametrize(
    ("report", "says"),
    [
        ("in/a.png", "would take the place of in/a.png; give another --report"),
        ("out/x/../a.inverted.png", "would take the place of out/a.inverted.png"),
        ("out/a.safetensors", "would take the place of out/a.safetensors"),
        ("new", "would take the place of new/a.inverted.png"),
        ("link.json", "would take the place of in/a.png"),
        ("pipe", "--report pipe is no file; name one, or have the report printed by --json"),
        ("-", "--report - is no file"),
        ("/dev/null", "--report /dev/null is no file"),
    ],
)
def test_reports_take_no_other_place(
    report: str, says: str, folder: tuple[object, ...], tiny_bundle: Path
) -> None:
    os.mkfifo("pipe")
    Path("link.json").symlink_to("in/a.png")
    before = contents("in") | contents()
    out = "new" if report == "new" else "out"
    options = ("in", "-o", out, "--bundle", tiny_bundle, "-n", 1, "--save-inversion", "--force")
    assert says in refuse("invert", *options, "--report", report)
    assert contents("in") | contents() == before
    assert not Path("new").exists() and not Path("-").exists()
