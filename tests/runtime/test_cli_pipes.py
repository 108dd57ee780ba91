"""Pipes in the place of files, for all commands that read or write pictures and inversions."""

from __future__ import annotations

import errno
import json
import os
import pty
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import RUNTIME, refuse, run, sentence, succeed, write_face
from hyperstyle_rt import Inversion, Model
from hyperstyle_rt.cli.app import app
from hyperstyle_rt.imaging.pictures import read_picture
from typer.testing import CliRunner


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def bash(line: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which ``hs`` is the command."""
    command = f'hs() {{ "{sys.executable}" -m hyperstyle_rt "$@"; }}; {line}'
    environment = os.environ | {"PYTHONPATH": str(RUNTIME)}
    return subprocess.run(["bash", "-c", command], env=environment, capture_output=True, timeout=60)


def decoded(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def names() -> set[str]:
    return {path.name for path in Path().iterdir()}


@pytest.fixture
def expected(tiny_bundle: Path) -> np.ndarray:
    """What inverting ``face.png``, which is there, gives."""
    return Model.load(tiny_bundle, "cpu", threads=1).invert(write_face(), 1).image


@pytest.mark.parametrize(
    "line",
    [
        "cat face.png | hs invert - --out - {more} > g.png",
        "cat face.png | hs invert /dev/stdin --out /dev/stdout {more} > g.png",
        "hs invert <(cat face.png) --out >(cat > g.png) {more}; wait; sleep 0.2",
        "mkfifo pipe; cat face.png > pipe & hs invert pipe --out - {more} > g.png",
    ],
    ids=["dash", "dev", "process substitution", "fifo"],
)
def test_a_picture_goes_through_pipes(line: str, tiny_bundle: Path, expected: np.ndarray) -> None:
    done = bash(line.format(more=f"-n 1 --bundle {tiny_bundle}"))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert np.array_equal(read_picture("g.png"), expected)
    assert names() - {"pipe"} == {"face.png", "g.png"}


def test_a_pipe_has_a_name_for_its_results(tiny_bundle: Path, expected: np.ndarray) -> None:
    picture = Path("face.png").read_bytes()
    arguments = ["invert", "-", "--bundle", str(tiny_bundle), "-n", "1", "--json"]
    result = CliRunner().invoke(app, [*arguments, "--save-inversion"], input=picture)
    assert result.exit_code == 0, result.output
    (entry,) = json.loads(result.stdout)["inversions"]
    assert (entry["input"], entry["outputs"]["result"]) == ("-", "stdin.inverted.png")
    assert np.array_equal(read_picture("stdin.inverted.png"), expected)
    assert Inversion.load("stdin.safetensors").iterations == 1


def test_a_report_beside_a_pipe(tiny_bundle: Path, expected: np.ndarray) -> None:
    more = ("--bundle", tiny_bundle, "-n", 1, "--report", "r.json")
    result = run("invert", "face.png", "-o", "-", *more)
    assert np.array_equal(decoded(result.stdout_bytes), expected)
    (entry,) = json.loads(Path("r.json").read_text())["inversions"]
    assert entry["outputs"]["result"] == "-"


def test_inversions_and_pictures_are_told_apart_by_what_they_hold(edit_bundle: Path) -> None:
    model = Model.load(edit_bundle, "cpu", threads=1)
    model.invert(write_face(), 2).save("face.safetensors")
    expected = model.edit(Inversion.load("face.safetensors"), {"smile": 2.0}).image
    more = ["--bundle", str(edit_bundle)]
    for name in ("face.safetensors", "face.png"):
        result = CliRunner().invoke(
            app, ["edit", "-", "smile=2", "-o", "-", *more], input=Path(name).read_bytes()
        )
        assert (result.exit_code, result.stderr) == (0, "")
        if name == "face.png":
            expected = model.edit(model.invert(name), {"smile": 2.0}).image
        assert np.array_equal(decoded(result.stdout_bytes), expected)
    data = Path("face.safetensors").read_bytes()
    said = CliRunner().invoke(app, ["info", "-", *more, "--json"], input=data)
    assert json.loads(said.stdout)["file"] == "-"
    assert json.loads(said.stdout)["iterations"] == 2
    morph = ["interpolate", "-", "face.png", "--frames", "2", "-o", "-", *more]
    result = CliRunner().invoke(app, morph, input=data)
    assert result.stdout_bytes.startswith(b"\x89PNG")
    assert names() == {"face.png", "face.safetensors"}


def test_a_face_is_cut_out_of_a_piped_photo(tmp_path: Path) -> None:
    from face_pictures import in_a_photo, known_faces
    from hyperstyle_rt.imaging.pictures import write_picture
    from hyperstyle_rt.photos.portraits import find_portraits

    first, *_ = known_faces()
    scene = in_a_photo(first, (300, 400), np.array([200.0, 150.0]), 240, 5).picture
    write_picture("party.png", scene)
    command = ["align", "-", "--size", "64", "--out", "-"]
    result = CliRunner().invoke(app, command, input=Path("party.png").read_bytes())
    (wanted,) = find_portraits(scene, 64, "largest")
    assert (result.exit_code, result.stderr) == (0, "")
    assert np.array_equal(decoded(result.stdout_bytes), wanted.crop)


@pytest.mark.parametrize(
    ("command", "data", "says"),
    [
        (["invert", "-"], b"", "standard input is empty"),
        (["invert", "-"], b"no picture", "standard input is not a picture"),
        (["edit", "-", "smile=1"], b"no picture", "standard input is not a picture"),
        (["edit", "-", "smile=1"], b"12345678{\"no tensors", "standard input"),
        (["align", "-"], b"no picture", "standard input is not a picture"),
        (["info", "-"], b"no inversion", "standard input"),
    ],
)  # fmt: skip
def test_what_comes_may_be_wrong(
    command: list[str], data: bytes, says: str, tiny_bundle: Path
) -> None:
    more = [] if command[0] == "align" else ["--bundle", str(tiny_bundle)]
    result = CliRunner().invoke(app, [*command, *more], input=data)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert says in result.stderr
    assert names() == set()


def test_a_full_temporary_folder_is_one_sentence(
    edit_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **_named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    data, more = write_face().read_bytes(), ["--bundle", str(edit_bundle)]
    says = "cannot write a temporary file, which pipes need: No space left on device; set TMPDIR"
    for place, name in ((Path, "write_bytes"), (tempfile, "mkdtemp")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, fail)
            result = CliRunner().invoke(app, ["edit", "-", "smile=1", *more], input=data)
            assert result.exit_code == 2
            assert says in sentence(result.stderr)
    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    assert says in refuse("invert", "face.png", "-o", "-", *more)


def test_a_terminal_is_no_pipe(tiny_bundle: Path) -> None:
    """Nobody types a picture: waiting for one would look like work."""
    ours, its = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(RUNTIME)}
    command = [sys.executable, "-m", "hyperstyle_rt", "invert", "-", "--bundle", str(tiny_bundle)]
    done = subprocess.run(command, env=environment, stdin=its, capture_output=True, timeout=60)
    os.close(its)
    os.close(ours)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: standard input is no pipe")


@pytest.mark.parametrize("more", [["--json"], ["--save-steps"], ["other.png"], ["--face", "all"]])
def test_only_one_result_goes_to_standard_output(more: list[str], tiny_bundle: Path) -> None:
    write_face()
    Path("other.png").write_bytes(Path("face.png").read_bytes())
    said = refuse("invert", "face.png", "-o", "-", "--bundle", tiny_bundle, *more)
    assert "--out -" in said


@pytest.mark.parametrize(
    "command",
    [
        ["align", "face.png", "other.png"],
        ["align", "*.png"],
        ["edit", "face.png", "other.png", "smile=1"],
        ["edit", ".", "smile=1"],
        ["edit", "face.png", "smile=1", "--resume"],
    ],
    ids=" ".join,
)
def test_several_results_do_not_go_into_a_folder_called_a_dash(command: list[str]) -> None:
    write_face()
    Path("other.png").write_bytes(Path("face.png").read_bytes())
    assert "--out - takes the one result of one picture" in refuse(*command, "--out", "-")
    assert names() == {"face.png", "other.png"}


def test_a_reader_that_is_gone_is_one_sentence(tiny_bundle: Path) -> None:
    write_face()
    done = bash(f"set -o pipefail; hs invert face.png -o - -n 1 --bundle {tiny_bundle} | true")
    assert done.returncode == 2
    assert done.stderr == b"error: cannot write standard output: Broken pipe\n"


def test_a_file_may_be_called_a_dash(tiny_bundle: Path, expected: np.ndarray) -> None:
    Path("face.png").rename("-")
    succeed("invert", Path("-").absolute(), "-o", "x.png", "--bundle", tiny_bundle, "-n", 1)
    assert np.array_equal(read_picture("x.png"), expected)
