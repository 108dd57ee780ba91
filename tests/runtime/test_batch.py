"""Folders of pictures: what is bad stops nothing, what is done is not done again."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_folders import contents, make_pictures
from command_line import RUNTIME, refuse, run, sentence, succeed
from hyperstyle_rt import Inversion, Model, PictureError, invert_many
from hyperstyle_rt.batch.keeping import KeepingFiles, keeping_files
from hyperstyle_rt.batch.records import read_record
from hyperstyle_rt.batch.results import Outputs, Settings, Target
from hyperstyle_rt.batch.run import Batch, Finished, Task
from hyperstyle_rt.imaging.pictures import write_picture


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


# The command


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "hyperstyle_rt", "invert", *map(str, arguments)]


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(RUNTIME), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(*arguments),
        env=environment,
        text=True,
        preexec_fn=_heed_interrupts,
        **options,
    )


def _heed_interrupts() -> None:
    """Shells start what runs in the background with SIGINT ignored, and children inherit it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def make_folder(good: int, bad: int) -> None:
    """``in/``, two levels deep, with bad pictures of several kinds among the good ones."""
    make_pictures(*(f"in/{n % 3}/{n % 7}/{n:03}.png" for n in range(good)))
    whole = Path("in/0/0/000.png").read_bytes()
    spoilt = (b"", b"no picture", whole[:-20], whole[:60] + b"x" + whole[61:], b"GIF89a")
    for number in range(bad):
        Path(f"in/{number % 3}/bad{number}.png").write_bytes(spoilt[number % 5])


def wait_for(number: int, process: subprocess.Popen[str]) -> None:
    """Wait until so many results are there."""
    deadline = time.monotonic() + 60
    while len(list(Path("out").rglob("*.inverted.png"))) < number:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("good", [90, pytest.param(490, marks=pytest.mark.slow)])
def test_a_folder_that_is_killed_in_the_middle(good: int, tiny_bundle: Path) -> None:
    bad = 10
    make_folder(good, bad)
    options = ("in", "-o", "out", "--bundle", tiny_bundle, "-n", 2, "--threads", 1)
    process = start(*options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(good // 2, process)
    process.kill()
    process.wait()
    results = list(Path("out").rglob("*.inverted.png"))
    before = {path: path.stat().st_mtime_ns for path in results if read_record(path)}
    assert good // 2 <= len(before) == len(results) < good
    process = start(*options, "--resume", "--json", stdout=-1, stderr=-1)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2
    report = json.loads(out)
    assert len(report["skipped"]) == len(before)
    assert len(report["inversions"]) == good - len(before)
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())

    assert [line.split()[1] for line in err.splitlines()] == sorted(
        str(path) for path in Path("in").rglob("bad*")
    )
    assert [entry["input"] for entry in report["errors"]] == [
        line.split()[1] for line in err.splitlines()
    ]
    assert run("invert", "in", "-o", "straight", *options[3:], "--quiet").exit_code == 2
    assert contents() == contents("straight")
    assert len(contents()) == good


def test_a_descent_that_is_killed_in_the_middle(tiny_bundle: Path) -> None:
    make_pictures(*(f"in/{n}.png" for n in range(3)))
    descent = ("--method", "pti", "--steps", 120, "--save-inversion", "--threads", 1)
    options = ("in", "-o", "out", "--bundle", tiny_bundle, *descent)
    process = start(*options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(1, process)
    time.sleep(0.1)  # a descent takes several times as long
    process.kill()
    assert process.wait() == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    assert {path.name for path in before if not path.name.startswith(".")} == {
        "0.inverted.png",
        "0.safetensors",
    }
    report = json.loads(succeed("invert", *options, "--resume", "--json"))
    assert [Path(entry["input"]).name for entry in report["skipped"]] == ["0.png"]
    assert [Path(entry["input"]).name for entry in report["inversions"]] == ["1.png", "2.png"]
    assert Path("out/0.inverted.png").stat().st_mtime_ns == before[Path("out/0.inverted.png")]
    succeed("invert", "in", "-o", "straight", *options[3:], "--quiet")
    assert contents() == contents("straight")
    assert len(contents()) == 6


def test_interruption_leaves_whole_files_only(tiny_bundle: Path) -> None:
    make_pictures(*(f"in/{n:03}.png" for n in range(30)))
    options = (
        "in",
        "-o",
        "out",
        "--bundle",
        tiny_bundle,
        "--save-inversion",
        "--save-steps",
        "-n",
        2,
    )
    process = start(*options, "--report", "r.json", stdout=-1, stderr=-1)
    wait_for(5, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "error: interrupted\n")
    written = {path.name for path in Path("out").iterdir()}
    stems = {name.partition(".")[0] for name in written}
    endings = (".inverted.png", ".step1.png", ".step2.png", ".safetensors")
    assert written == {f"{stem}{ending}" for stem in stems for ending in endings}
    assert 5 <= len(stems) < 30
    report = json.loads(Path("r.json").read_text())
    assert report["pictures"] == 30
    assert len(stems) - 3 <= len(report["inversions"]) <= len(stems)
    assert run("invert", *options, "--resume", "--report", "r.json", "-q").exit_code == 0
    report = json.loads(Path("r.json").read_text())
    assert len(report["skipped"]) == len(stems)
    assert len(contents()) == 30 * len(endings)


def test_what_is_written_while_a_line_is_printed_is_reported(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Printing waits where nobody reads, and Ctrl-C then finds the command there."""
    make_pictures(*(f"in/{n}.png" for n in range(9)))
    calls, second, writing = [], threading.Event(), threading.Semaphore(0)
    invert, write = Model.invert, KeepingFiles.write

    def watched_invert(*arguments: Any, **named: Any) -> Inversion:
        calls.append(arguments)
        if len(calls) == 2:
            second.set()
        return invert(*arguments, **named)

    def slow_write(*arguments: Any) -> list[Outputs]:
        writing.release()
        assert second.wait(20)  # so that another picture is behind the first one that is printed
        return write(*arguments)

    def interrupted(_line: str) -> None:
        assert all(writing.acquire(timeout=20) for _ in range(2))
        raise KeyboardInterrupt

    monkeypatch.setattr(Model, "invert", watched_invert)
    monkeypatch.setattr(KeepingFiles, "write", slow_write)
    monkeypatch.setattr("hyperstyle_rt.cli.invert.print_line", interrupted)
    options = ("in", "-o", "out", "--bundle", tiny_bundle, "-n", 1, "--jobs", 1)
    assert run("invert", *options, "--report", "r.json").exit_code == 130
    reported = json.loads(Path("r.json").read_text())["inversions"]
    assert {entry["outputs"]["result"] for entry in reported} == {
        str(path) for path in Path("out").iterdir()
    }
    assert len(reported) == 2


def test_progress_shows_the_rate_and_the_time_left(tiny_bundle: Path) -> None:
    make_pictures(*(f"in/{n}.png" for n in range(8)))
    ours, its = pty.openpty()
    options = ("in", "-o", "out", "--bundle", tiny_bundle)
    process = start(*options, stdout=subprocess.DEVNULL, stderr=its)
    os.close(its)
    shown = b""
    try:
        while block := os.read(ours, 1 << 16):
            shown += block
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    assert b"/s" in shown and b"left" in shown and b"/8" in shown


def test_lines_and_summary(tiny_bundle: Path) -> None:
    make_pictures("in/b/x.png", "in/a.png")
    Path("in/c.png").write_text("no picture")
    result = run("invert", "in", "-o", "out", "--bundle", tiny_bundle, "-n", 1)
    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    assert lines[0].startswith("in/a.png -> out/a.inverted.png  (1 iteration, ")
    assert lines[1].startswith("in/b/x.png -> out/b/x.inverted.png  (1 iteration, ")
    assert lines[2].startswith("2 inverted, 1 failed of 3 in ")
    assert "in/c.png is not a picture" in sentence(result.stderr)


def test_what_is_passed_over_is_counted_and_named(tiny_bundle: Path) -> None:
    make_pictures("in/a.png")
    for name in ("b.xcf", "x/c.XCF", "notes", ".hidden.xcf"):
        Path("in", name).parent.mkdir(exist_ok=True)
        Path("in", name).write_bytes(b"")
    options = ("in", "-o", "out", "--bundle", tiny_bundle, "-n", 1, "--report", "in/r.json")
    result = run("invert", *options)
    assert result.exit_code == 0
    (note,) = result.stderr.splitlines()
    assert note == (
        "note: 3 files were passed over (.xcf 2, no suffix 1): in/b.xcf, in/notes, in/x/c.XCF"
    )
    report = json.loads(Path("in/r.json").read_text())
    assert report["passed_over"] == ["in/b.xcf", "in/notes", "in/x/c.XCF"]
    again = run("invert", *options, "--force", "--json")  # the report is none of them
    assert json.loads(again.stdout)["passed_over"] == report["passed_over"]
    assert succeed("invert", *options, "--force", "--quiet") == ""
    for number in range(20):
        Path(f"in/{number:02}.xcf").write_bytes(b"")
    note = run("invert", *options, "--force").stderr
    assert note.startswith("note: 23 files were passed over (.xcf 22, no suffix 1): in/00.xcf, ")
    assert note.endswith("in/09.xcf, and 13 more\n")


@pytest.mark.parametrize("out", ["results.v2", "results.png", "a.b/c.d", "v1.0"])
def test_the_results_of_a_folder_go_to_a_folder(out: str, tiny_bundle: Path) -> None:
    make_pictures("in/a.png")
    more = ("-o", out, "--bundle", tiny_bundle, "-n", 1)
    succeed("invert", "in", *more)
    assert list(contents(out)) == ["a.inverted.png"]
    assert len(json.loads(succeed("invert", "in", *more, "--resume", "--json"))["skipped"]) == 1


def test_a_folder_by_dots_for_several_pictures(tiny_bundle: Path) -> None:
    make_pictures("a.png", "b.png")
    succeed("invert", "a.png", "b.png", "-o", "results.v2", "--bundle", tiny_bundle, "-n", 1)
    succeed("invert", "[ac].png", "-o", "other.v2", "--bundle", tiny_bundle, "-n", 1)
    assert set(contents("results.v2")) == {"a.inverted.png", "b.inverted.png"}
    assert set(contents("other.v2")) == {"a.inverted.png"}
    Path("file.v2").write_bytes(b"mine")
    Path("in").mkdir()
    Path("a.png").rename("in/a.png")
    said = refuse("invert", "in", "-o", "file.v2", "--bundle", tiny_bundle)
    assert "file.v2 is not a directory" in said


def test_the_number_of_jobs_changes_nothing(tiny_bundle: Path) -> None:
    make_pictures(*(f"in/{n}.png" for n in range(6)))
    Path("in/3.png").write_text("no picture")
    printed = []
    for jobs in (1, 4):
        options = ("--bundle", tiny_bundle, "-n", 1, "--jobs", jobs, "--json")
        result = run("invert", "in", "-o", f"out{jobs}", *options)
        document = json.loads(result.stdout)
        printed.append([entry["input"] for entry in document["inversions"] + document["errors"]])
    assert printed[0] == printed[1] == [f"in/{n}.png" for n in (0, 1, 2, 4, 5, 3)]
    assert contents("out1") == contents("out4")


def test_a_quoted_pattern(tiny_bundle: Path) -> None:
    make_pictures("in/a.png", "in/x/b.png", "in/c.webp")
    succeed("invert", "in/**/*.png", "-o", "out", "--bundle", tiny_bundle, "-n", 1)
    assert set(contents()) == {"a.inverted.png", "b.inverted.png"}
    text = refuse("invert", "in/*.jpg", "-o", "out", "--bundle", tiny_bundle)
    assert text.startswith("nothing fits in/*.jpg")


# Reports


def test_a_report_is_what_json_prints(tiny_bundle: Path) -> None:
    make_pictures("in/a.png")
    options = ("in", "-o", "out", "--bundle", tiny_bundle, "--json", "--report", "new/r.json")
    printed = json.loads(succeed("invert", *options))
    written = json.loads(Path("new/r.json").read_text())
    assert printed.pop("seconds") >= written.pop("seconds") > 0
    assert printed == written
    assert written["format"] == "hyperstyle-rt-report"


# From Python


def test_invert_many(tiny_bundle: Path) -> None:
    make_pictures("a.png", "b.png")
    Path("bad.png").write_text("no picture")
    model = Model.load(tiny_bundle, "cpu", threads=1)
    found = dict(invert_many(model, ["a.png", "bad.png", "b.png"], 1))
    assert list(found) == ["a.png", "bad.png", "b.png"]
    assert isinstance(found["bad.png"], PictureError)
    for name in ("a.png", "b.png"):
        assert np.array_equal(found[name].codes, model.invert(name, 1).codes)


@pytest.mark.parametrize("path", ["one.png", Path("one.png")])
def test_invert_many_takes_a_list(tiny_bundle: Path, path: str | Path) -> None:
    """The letters of a name are no pictures."""
    with pytest.raises(PictureError, match=r"give a list: \['one.png'\]"):
        invert_many(Model.load(tiny_bundle, "cpu"), path)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_folder(tiny_bundle: Path) -> None:
    side, count = 1000, 40
    write_picture("0.png", np.zeros((side, side, 3), np.uint8))
    for number in range(1, count):
        shutil.copy("0.png", f"{number}.png")
    tasks = [Task(Path(f"{n}.png"), Target(Path("out"), str(n))) for n in range(count)]
    model = Model.load(tiny_bundle, "cpu", threads=1)
    settings = Settings(model.bundle.digest, "hyperstyle", "fp32", 1)
    targets = [task.target for task in tasks]
    batch = Batch(model, settings, tasks, keeping_files(settings, targets))
    used = []
    for _, outcome in batch.run():
        assert isinstance(outcome, Finished)
        used.append(resident_bytes())
    picture = 3 * side * side
    assert used[-1] - used[count // 4] < 8 * picture  # of the 30 pictures between them
