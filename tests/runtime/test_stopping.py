"""Runs that are stopped: what they leave, what they report, and what the next run removes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from batch_folders import make_pictures
from command_line import RUNTIME, succeed
from hyperstyle_rt import Model
from hyperstyle_rt.cli.program import stopping_signals
from hyperstyle_rt.imaging.films import FILM_SUFFIXES
from hyperstyle_rt.temporaries import remove_leftovers, replacing, replacing_folder
from hyperstyle_rt.video.names import WRITABLE_FILMS

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
ENDLESS = "smile=-3:3:90000"  # a film that is not finished before the signal comes


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def start(*arguments: object, ignoring: tuple[int, ...] = ()) -> subprocess.Popen[str]:
    def dispositions() -> None:
        for number in SIGNALS:  # shells ignore SIGINT for what runs in the background
            signal.signal(number, signal.SIG_IGN if number in ignoring else signal.SIG_DFL)

    command = [sys.executable, "-m", "hyperstyle_rt", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(RUNTIME), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=dispositions,
    )


def wait_until(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not there():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def temporaries(folder: str = ".") -> list[Path]:
    return [path for path in Path(folder).iterdir() if path.name.startswith(".")]


def is_written_to() -> bool:
    """Whether there is a temporary file and, since it is written to, its lock."""
    return any(path.stat().st_size for path in temporaries())


@pytest.fixture
def face(edit_bundle: Path) -> str:
    """An inversion file to make films of."""
    make_pictures("face.png")
    Model.load(edit_bundle, "cpu", threads=1).invert("face.png", 1).save("face.safetensors")
    Path("face.png").unlink()
    return "face.safetensors"


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_batch_that_is_stopped_reports(number: signal.Signals, tiny_bundle: Path) -> None:
    make_pictures(*(f"in/{n:03}.png" for n in range(40)))
    options = ("in", "-o", "out", "--bundle", tiny_bundle, "-n", 2, "--report", "r.json")
    process = start("invert", *options)
    wait_until(lambda: len(list(Path().glob("out/*.png"))) > 4, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == SIGNALS[number]
    assert err.startswith("error: ") and err.count("\n") == 1
    report = json.loads(Path("r.json").read_text())
    assert report["pictures"] == 40
    assert 1 < len(report["inversions"]) < 40
    assert temporaries("out") == temporaries() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
@pytest.mark.parametrize("out", ["film.mp4", "film.gif"])
def test_a_film_that_is_stopped_leaves_nothing(
    number: signal.Signals, out: str, face: str, edit_bundle: Path
) -> None:
    process = start("edit", face, ENDLESS, "--bundle", edit_bundle, "-o", out)
    wait_until(lambda: bool(temporaries()), process)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == SIGNALS[number]
    assert [path.name for path in Path().iterdir()] == [face]


def test_a_signal_that_is_ignored_stays_so(tiny_bundle: Path) -> None:
    """As under nohup."""
    make_pictures(*(f"in/{n}.png" for n in range(8)))
    options = ("in", "-o", "out", "--bundle", tiny_bundle, "-n", 1)
    process = start("invert", *options, ignoring=(signal.SIGHUP,))
    wait_until(Path("out").exists, process)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 0
    assert len(list(Path("out").iterdir())) == 8


FIRST_OF_SEVERAL = """
import signal, sys
from hyperstyle_rt.cli.program import Stopped, stopping_signals

signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
for each in signals:
    signal.signal(each, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
number = signal.Signals[sys.argv[1]]
try:
    with stopping_signals() as came:
        try:
            signal.raise_signal(number)
        finally:
            for each in signals:
                signal.raise_signal(each)
except KeyboardInterrupt as error:
    assert isinstance(error, Stopped) == (number != signal.SIGINT)
for each in signals:
    signal.raise_signal(each)
print([each.name for each in came])
"""


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_signals_after_the_first_are_ignored(number: signal.Signals) -> None:
    """Until the process ends, so that nothing breaks off its cleaning up."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_OF_SEVERAL, number.name],
        env=os.environ | {"PYTHONPATH": str(RUNTIME)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"['{number.name}']\n", "")


def test_signals_are_python_s_again_where_none_came() -> None:
    """Whatever the tests were started with: under nohup SIGHUP is ignored, and would stay so."""
    found = {each: signal.getsignal(each) for each in SIGNALS}
    usual = {
        each: signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL
        for each in SIGNALS
    }
    try:
        for each, handler in usual.items():
            signal.signal(each, handler)
        with stopping_signals():
            assert all(signal.getsignal(each) != handler for each, handler in usual.items())
        assert {each: signal.getsignal(each) for each in SIGNALS} == usual
    finally:
        for each, handler in found.items():
            signal.signal(each, handler)


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_the_next_run_removes_what_a_killed_one_left(
    suffix: str, face: str, edit_bundle: Path
) -> None:
    process = start("edit", face, ENDLESS, "--bundle", edit_bundle, "-o", f"film.{suffix}")
    wait_until(is_written_to, process)
    (left,) = temporaries()
    assert left.suffix == f".{suffix}"
    remove_leftovers(Path())  # which another run would do
    assert left.exists()
    process.kill()
    process.communicate()
    assert left.exists()
    succeed("edit", face, "smile=1", "--bundle", edit_bundle, "-q", "-o", "x.png")
    assert sorted(path.name for path in Path().iterdir()) == [face, "x.png"]


def test_a_leftover_is_locked_until_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its creator could lock what another run is about to remove."""
    fcntl = pytest.importorskip("fcntl")
    unlink, tried = Path.unlink, []

    def unlink_watched(path: Path) -> None:
        with path.open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        tried.append(path)
        unlink(path)

    monkeypatch.setattr(Path, "unlink", unlink_watched)
    left = Path(f".{'0a' * 16}.hsrt.part")
    left.touch()
    remove_leftovers(Path())
    assert tried == [left] and not left.exists()


@pytest.mark.parametrize("suffix", sorted({*WRITABLE_FILMS, *FILM_SUFFIXES, ".MOV"}))
def test_what_is_left_of_a_film_is_removed_whatever_its_kind(suffix: str) -> None:
    with replacing(Path(f"film{suffix}"), suffix) as temporary:
        remove_leftovers(Path())
        assert temporary.exists()
    temporary.touch()  # as if killed: nobody holds its lock
    remove_leftovers(Path())
    assert [path.name for path in Path().iterdir()] == [f"film{suffix}"]


def test_leftovers_without_a_lock_go_by_their_age(tiny_bundle: Path) -> None:
    make_pictures("a.png")
    names = [f".{'0a' * 16}.{suffix}" for suffix in ("part", "mp4", "gif", "webm", "webp")]
    others = [".0a.mp4", f".{'0a' * 16}.txt", f"{'0a' * 16}.mp4", f".{'0A' * 16}x.gif"]
    Path("out").mkdir()
    for name in (*names, *others):
        Path("out", name).write_bytes(b"")
    remove_leftovers(Path("out"))
    assert all(Path("out", name).exists() for name in names)
    for name in (*names, *others):
        os.utime(Path("out", name), (0, 0))
    succeed("invert", "a.png", "-o", "out", "--bundle", tiny_bundle, "-n", 1, "-q")
    assert {path.name for path in Path("out").iterdir()} == {*others, "a.inverted.png"}
    remove_leftovers(Path("missing"))


def test_a_file_taken_for_a_leftover_before_it_is_locked_is_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fcntl = pytest.importorskip("fcntl")
    lock, first = fcntl.flock, []

    def flock(file: int, how: int) -> None:
        if not first:  # another process is faster
            first.extend(temporaries())
            first[0].unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with replacing(Path("x.txt")) as temporary:
        assert temporary not in first
        temporary.write_text("whole")
    assert [path.name for path in Path().iterdir()] == ["x.txt"]
    assert Path("x.txt").read_text() == "whole"


@pytest.mark.parametrize("makes", [replacing, replacing_folder], ids=lambda made: made.__name__)
def test_a_signal_between_creation_and_lock_leaves_nothing(
    makes: Callable[[Path], AbstractContextManager[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def stopped(file: int, how: int) -> None:
        assert temporaries()
        raise KeyboardInterrupt

    monkeypatch.setattr(fcntl, "flock", stopped)
    with pytest.raises(KeyboardInterrupt), makes(Path("x")):
        pass
    assert not list(Path().iterdir())
