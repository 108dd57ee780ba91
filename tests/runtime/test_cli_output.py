"""What commands say: whole on any terminal, and never a reason for the work to fail."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from batch_folders import make_pictures
from command_line import RUNTIME, run, succeed
from hyperstyle_rt import Bundle, Model
from hyperstyle_rt.cli.app import app
from typer.main import get_command

CYRILLIC = "Иван"
NOT_TEXT = os.fsdecode(b"caf\xe9")  # a name in no encoding of today


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def program(
    *arguments: object, environment: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a command as a process; its output is captured but where `options` say otherwise."""
    command = [sys.executable, "-m", "hyperstyle_rt", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(RUNTIME)} | (environment or {})
    where: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, env=environment, timeout=120, **where)


def shell(line: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which ``"$@"`` is a command; every part of a pipe tells its status."""
    command = [sys.executable, "-m", "hyperstyle_rt", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(RUNTIME)}
    words = ["bash", "-c", f"{line}\necho ${{PIPESTATUS[0]}} >&3", "bash", *command]
    read, write = os.pipe()
    try:
        done = subprocess.run(
            ["bash", "-c", 'exec 3>&"$0"; exec "$@"', str(write), *words],
            env=environment, pass_fds=[write], capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    finally:
        os.close(write)
    with os.fdopen(read) as status:
        return subprocess.CompletedProcess(line, int(status.read()), done.stdout, done.stderr)


# Whole


@pytest.mark.parametrize("columns", ["20", "40", "300"])
def test_paths_and_digests_are_whole_on_any_terminal(
    columns: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    bundle = tmp_path / ("a long name " * 10) / "tiny"
    shutil.copytree(tiny_bundle, bundle)
    lines = succeed("info", bundle).splitlines()
    opened = Bundle.open(bundle)
    assert f"directory     {bundle}" in lines
    assert f"digest        {opened.digest}" in lines
    for name, file in opened.manifest.files.items():
        (line,) = (line for line in lines if line.startswith(f"{name} "))
        assert file.sha256 in line.split() and line.endswith("verified")
    make_pictures("face.png")
    options = ("--bundle", bundle, "-n", 1, "--save-inversion")
    line = succeed("invert", "face.png", "-o", tmp_path / "results", *options)
    assert f"face.png -> {tmp_path}/results/face.inverted.png  (" in line
    said = succeed("info", "results/face.safetensors", "--bundle", bundle)
    assert ["bundle", "digest", opened.digest] in map(str.split, said.splitlines())


@pytest.mark.parametrize("columns", ["20", "40", "300"])
def test_doctor_shows_the_bundles_path_whole(
    columns: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hyperstyle_rt.formats import bundle_lookup

    bundle = shutil.copytree(tiny_bundle, tmp_path / ("deep " * 30) / "tiny")
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(bundle_lookup, "default_bundle", lambda: bundle)
    assert f"{bundle} verified" in succeed("doctor")


@pytest.mark.parametrize("command", ["", *get_command(app).commands])
def test_examples_in_the_help_are_whole(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    group = get_command(app)
    examples = (group.commands[command] if command else group).epilog
    lines = [line.strip() for line in succeed(*command.split(), "--help").splitlines()]
    wanted = [line for line in examples.splitlines() if line.startswith("hyperstyle-rt")]
    assert len(wanted) >= 2 and set(wanted) <= set(lines)


def test_errors_are_one_line_on_a_terminal(tiny_bundle: Path, tmp_path: Path) -> None:
    ours, its = pty.openpty()
    missing = tmp_path / ("no such name " * 8)
    done = program(
        "invert", missing, "--bundle", tiny_bundle, stderr=its, environment={"COLUMNS": "40"}
    )
    os.close(its)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 2
    assert str(missing) in shown


# Encodings


@pytest.mark.parametrize("encoding", ["cp1252", "ascii:strict"])
@pytest.mark.parametrize("name", [CYRILLIC, NOT_TEXT], ids=["cyrillic", "not text"])
def test_names_that_the_output_lacks(encoding: str, name: str, tiny_bundle: Path) -> None:
    make_pictures(f"in/1 {name}.png", "in/2.png")
    Path(f"in/{name}.png").write_text("no picture")
    options = ("in", "-o", "out", "--bundle", tiny_bundle, "-n", 1, "--report", "r.json")
    done = program("invert", *options, environment={"PYTHONIOENCODING": encoding})
    assert done.returncode == 2
    first, second, _ = done.stdout.splitlines()
    unknown = "?" * len(CYRILLIC) if name == CYRILLIC else "caf?"
    assert first.startswith(f"in/1 {unknown}.png -> out/1 {unknown}.inverted.png".encode())
    assert second.startswith(b"in/2.png -> ")
    assert done.stderr.startswith(f"error: in/{unknown}.png is not a picture".encode())
    assert done.stderr.count(b"\n") == 1
    report = json.loads(Path("r.json").read_text())
    assert [entry["input"] for entry in report["inversions"]] == [f"in/1 {name}.png", "in/2.png"]
    assert [entry["input"] for entry in report["errors"]] == [f"in/{name}.png"]
    assert all(Path(entry["outputs"]["result"]).is_file() for entry in report["inversions"])


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
@pytest.mark.parametrize("command", ["info", "edit", "align"])
def test_every_command_in_every_locale(
    command: str, locale: dict[str, str], edit_bundle: Path
) -> None:
    make_pictures(f"{CYRILLIC}.png")
    arguments: dict[str, tuple[object, ...]] = {
        "info": (f"{CYRILLIC}.safetensors",),
        "edit": (f"{CYRILLIC}.safetensors", "smile=1", "--bundle", edit_bundle),
        "align": (f"{CYRILLIC}.png",),  # in which there is no face
    }
    Model.load(edit_bundle, "cpu", threads=1).invert(f"{CYRILLIC}.png", 1).save(
        f"{CYRILLIC}.safetensors"
    )
    more = ("--bundle", edit_bundle) if command == "info" else ()
    done = program(command, *arguments[command], *more, environment=locale)
    assert done.returncode == (2 if command == "align" else 0), done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stdout or command == "align"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_a_progress_bar_with_names_that_the_terminal_lacks(
    encoding: str, tiny_bundle: Path
) -> None:
    make_pictures(*(f"in/{CYRILLIC}{n}.png" for n in range(4)))
    ours, its = pty.openpty()
    options = ("in", "-o", "out", "--bundle", tiny_bundle, "-n", 1)
    environment = {"PYTHONIOENCODING": encoding, "TERM": "xterm"}
    done = program("invert", *options, stderr=its, environment=environment)
    os.close(its)
    shown = os.read(ours, 1 << 16)
    os.close(ours)
    assert done.returncode == 0
    assert b"Traceback" not in shown and b"/4" in shown
    assert len(list(Path("out").iterdir())) == 4


# Streams that fail


def work(folder: str, tiny_bundle: Path) -> tuple[object, ...]:
    """Arguments for a folder of three pictures."""
    make_pictures(*(f"{folder}/{n}.png" for n in range(3)))
    return ("invert", folder, "-o", "out", "--bundle", tiny_bundle, "-n", 1, "--report", "r.json")


def assert_all_was_written() -> None:
    assert len(json.loads(Path("r.json").read_text())["inversions"]) == 3
    assert sorted(path.name for path in Path("out").iterdir()) == [
        f"{n}.inverted.png" for n in range(3)
    ]


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["lines", "json"])
def test_a_reader_that_goes_away(more: tuple[str, ...], tiny_bundle: Path) -> None:
    for line, said in (('"$@" | head -1', 1), ('"$@" | true', 0)):
        done = shell(line, *work("in", tiny_bundle), *more, "--force")
        assert done.stdout.count("\n") == said
        assert "Traceback" not in done.stderr and "Exception" not in done.stderr
        assert_all_was_written()
    assert (done.returncode, done.stderr) == (2, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_behind_standard_output(tiny_bundle: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = program(*work("in", tiny_bundle), stdout=full)
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: cannot write to standard output: No space left on device")
    assert_all_was_written()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_behind_standard_error(tiny_bundle: Path) -> None:
    arguments = work("in", tiny_bundle)
    with Path("/dev/full").open("wb") as full:
        assert program(*arguments, stderr=full).returncode == 0  # nothing was to be said there
        assert_all_was_written()
        Path("in/bad.png").write_text("no picture")
        assert program(*arguments, "--force", stderr=full, stdout=full).returncode == 2
    assert len(json.loads(Path("r.json").read_text())["errors"]) == 1


@pytest.mark.parametrize(
    ("closed", "status"), [(">&-", 2), ("2>&-", 0), ("<&-", 0), (">&- 2>&-", 2)]
)
def test_streams_that_are_closed_from_the_start(
    closed: str, status: int, tiny_bundle: Path
) -> None:
    done = shell(f'"$@" {closed}', *work("in", tiny_bundle))
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert_all_was_written()
    for path in Path("out").iterdir():  # nothing was written into a file that got the number
        assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("doctor",), ("info",)])
def test_other_commands_survive_a_full_disk(arguments: tuple[str, ...], tiny_bundle: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = program(*arguments, stdout=full)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert done.stderr.startswith(b"error: cannot write to standard output")


# Standard error is for errors


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is set through Linux")
def test_quiet_is_quiet_on_one_of_several_processors(tiny_bundle: Path) -> None:
    """At the level of the descriptor, where C libraries write, too."""
    make_pictures("face.png")
    one = {min(os.sched_getaffinity(0))}
    done = program(
        "invert", "face.png", "--bundle", tiny_bundle, "-n", 1, "--quiet",
        preexec_fn=lambda: os.sched_setaffinity(0, one),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert Path("face.inverted.png").is_file()


def test_the_module_is_the_command(tiny_bundle: Path) -> None:
    make_pictures("face.png")
    script = shutil.which("hyperstyle-rt", path=str(Path(sys.executable).parent))
    assert script is not None
    said = []
    for command in ([script], [sys.executable, "-m", "hyperstyle_rt"]):
        for arguments in (["--version"], ["--help"], ["info", "--json"], ["invert", "no.png"]):
            environment = os.environ | {"PYTHONPATH": str(RUNTIME)}
            done = subprocess.run(
                [*command, *arguments], env=environment, capture_output=True, timeout=60
            )
            said.append((done.returncode, done.stdout, done.stderr))
    half = len(said) // 2
    assert said[:half] == said[half:]
    assert [status for status, *_ in said[:half]] == [0, 0, 0, 2]
    assert run("--version").stdout.encode() == said[0][1]
