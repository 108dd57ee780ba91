"""The command line, in process and as a program of its own."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import hyperstyle_rt.cli.app
import numpy as np
import pytest
from command_line import (
    altered_copy,
    files,
    refuse,
    run,
    run_program,
    run_python,
    sentence,
    succeed,
    write_face,
)
from hyperstyle_rt import Bundle, Inversion, Model
from hyperstyle_rt.cli import doctor, info, invert
from hyperstyle_rt.cli.app import app
from hyperstyle_rt.formats.methods import MAX_ITERATIONS
from hyperstyle_rt.imaging import pictures
from hyperstyle_rt.imaging.pictures import read_picture, resize_bilinear, to_picture
from typer.main import get_command

HEAVY = {"numpy", "cv2", "onnxruntime", "safetensors", "tensorrt", "torch"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every test in an empty folder, on a terminal of known width."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return tmp_path


@pytest.fixture
def face(folder: Path) -> Path:
    """``face.png`` in the folder of the test."""
    return write_face()


# Help


@pytest.mark.parametrize("name", ["invert", "info", "doctor", ""])
def test_help_shows_examples(name: str):
    text = re.sub(r"\x1b\[[0-9;]*m", "", succeed(*name.split(), "--help"))
    module = {"invert": invert, "info": info, "doctor": doctor}.get(name, hyperstyle_rt.cli.app)
    examples = [line for line in module.EXAMPLES.splitlines() if line.startswith("hyperstyle-rt")]
    assert len(examples) >= 2
    for example in examples:
        assert example in text


def test_examples_of_every_command_are_understood():
    commands = get_command(app).commands
    said = "\n".join([hyperstyle_rt.cli.app.EXAMPLES, *(each.epilog for each in commands.values())])
    examples = re.findall(r"^hyperstyle-rt (\S+)(.*)$", said, re.MULTILINE)
    assert {name for name, _ in examples} == set(commands)
    for name, rest in examples:
        commands[name].make_context(name, shlex.split(rest))  # raises if an option is unknown


def test_options_of_one_name_read_alike_and_in_one_order():
    shared = ["bundle", "backend", "precision", "threads", "force", "json_", "quiet"]
    helps: dict[str, set[str]] = {}
    for name, command in get_command(app).commands.items():
        found = {each.name: each.help for each in command.params if each.name in shared}
        assert list(found) == sorted(found, key=shared.index), name
        for option, text in found.items():
            helps.setdefault(option, set()).add(text)
    assert {option for option, texts in helps.items() if len(texts) > 1} == {"bundle"}


def test_help_fits_into_80_columns():
    """Lines of a text's further paragraphs are shown as they are, behind a space."""
    group = get_command(app)
    texts = {name: command.help for name, command in group.commands.items()} | {"": group.help}
    for name, text in texts.items():
        assert max(map(len, text.splitlines()[1:])) <= 78, name


def test_help_promises_what_there_is(face: Path, tiny_bundle: Path):
    group = get_command(app)
    helps = {
        (name, each.name): each.help
        for name, command in group.commands.items()
        for each in command.params
        if each.name in ("method", "out")
    }
    assert ".webp" in helps["edit", "out"].split("film")[0]
    for name in ("edit", "interpolate", "adapt", "check", "bench"):
        assert "gradient" not in helps[name, "method"]
    said = refuse("edit", face, "smile=1", "--bundle", tiny_bundle, "--method", "pti")
    assert "no method 'pti'" in said  # only invert has those
    assert "gradient steps" in helps["invert", "method"]
    assert "1 of `check` where a tensor is out of bounds" in group.help


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from hyperstyle_rt.cli.app import main\n"
        "sys.argv = ['hyperstyle-rt', 'invert', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    )
    process = run_python("-c", code)
    assert "hyperstyle_rt.cli.invert" in process.stderr
    assert not HEAVY & set(process.stderr.split())


def test_without_arguments_there_is_help():
    assert "Usage: hyperstyle-rt" in run().output


def test_version():
    assert succeed("--version") == f"hyperstyle-rt {hyperstyle_rt.__version__}\n"


# invert


def test_invert_writes_what_the_api_gives(face: Path, tiny_bundle: Path):
    line = succeed("invert", face, "--bundle", tiny_bundle, "-n", 2)
    assert line.startswith("face.png -> face.inverted.png  (2 iterations, ")
    expected = Model.load(tiny_bundle).invert(face, 2).image
    assert np.array_equal(read_picture("face.inverted.png"), expected)
    assert files() == {"face.png", "face.inverted.png"}


def test_invert_as_json(face: Path, tiny_bundle: Path):
    options = ("--bundle", tiny_bundle, "--save-inversion", "--save-steps", "--coupled", "--json")
    document = json.loads(succeed("invert", face, "-o", "results", *options))
    bundle = Bundle.open(tiny_bundle)
    iterations = bundle.manifest.method().iterations
    assert document["bundle"] == {
        "name": bundle.manifest.name,
        "directory": str(tiny_bundle),
        "digest": bundle.digest,
    }
    assert "CPUExecutionProvider" in document["provider"]
    assert document["errors"] == []
    (inversion,) = document["inversions"]
    assert inversion.pop("seconds") > 0
    size = Path("results/face.safetensors").stat().st_size
    assert inversion.pop("inversion_bytes") == size
    outputs = {
        "result": "results/face.inverted.png",
        "steps": [f"results/face.step{n}.png" for n in range(1, iterations + 1)],
        "coupled": "results/face.coupled.png",
        "inversion": "results/face.safetensors",
        "pasted": None,
        "unaligned": None,
    }
    assert inversion == {
        "input": "face.png",
        "face": None,
        "outputs": outputs,
        "effort": None,
        "iterations": iterations,
    }
    written = {outputs["result"], *outputs["steps"], outputs["coupled"], outputs["inversion"]}
    assert files() == {"face.png", *written}
    assert Inversion.load(outputs["inversion"]).iterations == iterations


def test_what_is_too_long_for_the_format_is_coupled_in_rows(
    face: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the work is no time to refuse it."""
    monkeypatch.setattr(pictures, "_WEBP_MAX_SIDE", 3 * 32 + 2 * 2)
    succeed("invert", face, "--bundle", tiny_bundle, "-n", 3, "--coupled", "-o", "face.webp")
    assert read_picture("face.coupled.webp").shape == (2 * 32 + 2, 2 * 32 + 2, 3)


def test_steps_and_coupled_show_every_iteration(face: Path, tiny_bundle: Path):
    succeed("invert", face, "--bundle", tiny_bundle, "-n", 3, "--save-steps", "--coupled")
    frames: list[Any] = []
    Model.load(tiny_bundle).invert(
        face, 3, on_iteration=lambda _n, image, _codes: frames.append(to_picture(image))
    )
    for number, frame in enumerate(frames, 1):
        assert np.array_equal(read_picture(f"face.step{number}.png"), frame)
    assert np.array_equal(read_picture("face.inverted.png"), frames[-1])
    height, width = frames[0].shape[:2]
    coupled = read_picture("face.coupled.png")
    shown = [resize_bilinear(read_picture(face), (height, width)), *frames]
    gap = (coupled.shape[1] - 4 * width) // 3
    for place, picture in enumerate(shown):
        left = place * (width + gap)
        assert np.array_equal(coupled[:, left : left + width], picture)


def test_until_ends_early_and_lists_only_what_was_written(face: Path, tiny_bundle: Path):
    options = ("--bundle", tiny_bundle, "-n", 5, "--until", 1e9, "--save-steps", "--json")
    (inversion,) = json.loads(succeed("invert", face, *options))["inversions"]
    assert inversion["iterations"] == 2
    assert inversion["outputs"]["steps"] == ["face.step1.png", "face.step2.png"]
    assert files() == {"face.png", "face.inverted.png", "face.step1.png", "face.step2.png"}


def test_no_iterations_leave_the_encoders_picture(face: Path, tiny_bundle: Path):
    succeed("invert", face, "--bundle", tiny_bundle, "-n", 0, "--save-steps", "--coupled")
    assert files() == {"face.png", "face.inverted.png", "face.coupled.png"}
    width = read_picture("face.inverted.png").shape[1]
    assert 2 * width < read_picture("face.coupled.png").shape[1] < 3 * width


def test_suffix_of_the_result_is_the_format_of_all(face: Path, tiny_bundle: Path):
    options = ("--bundle", tiny_bundle, "-n", 1, "--save-steps", "--coupled")
    succeed("invert", face, "-o", "new/x.JPG", *options)
    assert files() == {"face.png", "new/x.JPG", "new/x.step1.JPG", "new/x.coupled.JPG"}
    assert Path("new/x.JPG").read_bytes().startswith(b"\xff\xd8\xff")


def test_several_pictures_go_to_a_directory(face: Path, tiny_bundle: Path):
    shutil.copy(face, "last.png")
    Path("results.png").mkdir()
    succeed("invert", face, "last.png", "--bundle", tiny_bundle, "-o", "results.png", "--coupled")
    names = {"face.inverted.png", "face.coupled.png", "last.inverted.png", "last.coupled.png"}
    assert files() == {"face.png", "last.png"} | {f"results.png/{name}" for name in names}
    iterations = Bundle.open(tiny_bundle).manifest.method().iterations
    width = read_picture("results.png/face.inverted.png").shape[1]
    assert read_picture("results.png/face.coupled.png").shape[1] > (1 + iterations) * width


def test_backend_and_threads_reach_the_api(
    face: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    calls = []
    load = Model.load

    def record(*arguments: Any, **options: Any) -> Model:
        calls.append((arguments, options))
        return load(*arguments, **options)

    monkeypatch.setattr(Model, "load", record)
    succeed("invert", face, "--bundle", tiny_bundle, "--backend", "cpu", "--threads", 1)
    how = {"threads": 1, "precision": "fp32", "device": None}
    assert calls == [((str(tiny_bundle), "cpu"), how)]


def test_quiet_prints_nothing(face: Path, tiny_bundle: Path):
    assert succeed("invert", face, "--bundle", tiny_bundle, "--quiet") == ""
    assert Path("face.inverted.png").exists()


def test_a_bad_picture_does_not_stop_the_others(face: Path, tiny_bundle: Path):
    Path("bad.png").write_text("no picture")
    shutil.copy(face, "last.png")
    result = run("invert", "bad.png", face, "last.png", "--bundle", tiny_bundle, "--json")
    assert result.exit_code == 2
    text = sentence(result.stderr)
    assert text.startswith("bad.png is not a picture")
    document = json.loads(result.stdout)
    assert document["errors"] == [{"input": "bad.png", "error": text}]
    assert [done["input"] for done in document["inversions"]] == ["face.png", "last.png"]
    pictures = {"bad.png", "face.png", "last.png"}
    assert files() == pictures | {"face.inverted.png", "last.inverted.png"}


def test_an_unreadable_picture_does_not_stop_the_others(
    face: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    """Root may read everything, so that neither the file's mode nor its opening tells."""
    shutil.copy(face, "last.png")
    opened = Path.open

    def open_if_readable(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == face:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(face) or mode != os.R_OK)
    monkeypatch.setattr(Path, "open", open_if_readable)
    result = run("invert", face, "last.png", "--bundle", tiny_bundle, "-n", 1)
    assert (result.exit_code, "last.png -> last.inverted.png" in result.stdout) == (2, True)
    assert sentence(result.stderr) == "cannot read face.png: Permission denied"


def test_where_a_file_cannot_be_written_there_is_no_result(face: Path, tiny_bundle: Path):
    shutil.copy(face, "last.png")
    Path("face.safetensors").mkdir()
    options = ("--bundle", tiny_bundle, "--save-inversion", "--force")
    result = run("invert", face, "last.png", *options)
    assert result.exit_code == 2
    assert "cannot write face.safetensors" in sentence(result.stderr)
    assert files() == {"face.png", "last.png", "last.inverted.png", "last.safetensors"}


@pytest.mark.parametrize(
    "target",
    ["face.inverted.png", "face.step2.png", "face.coupled.png", "face.safetensors"],
)
def test_existing_files_are_refused_before_any_work(
    target: str, face: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    def work(*_: object) -> None:
        raise AssertionError("this is work")

    monkeypatch.setattr(Model, "invert", work)
    Path(target).write_text("mine")
    options = ("--bundle", tiny_bundle, "-n", 2, "--save-steps", "--coupled", "--save-inversion")
    text = refuse("invert", "missing.png", face, *options)
    assert text.startswith(f"{target} exists; ")
    assert "--force" in text
    assert Path(target).read_text() == "mine"


def test_force_replaces_existing_files(face: Path, tiny_bundle: Path):
    Path("face.inverted.png").write_text("old")
    succeed("invert", face, "--bundle", tiny_bundle, "--force")
    assert read_picture("face.inverted.png").shape[2] == 3


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["other"], "other/c.png and other/c.png.png would both be written to c.png.inverted.png"),
        (["face.png", "-o", "face.png"], "face.png is one of the pictures"),
        (["face.png", "other/face.jpg", "-o", "x.png"], "one file for 2 pictures"),
        (["face.png", "-o", "x.tiff"], "must end in one of .png, .jpg, .jpeg, .webp"),
        (["face.png", "-o", "face.png/below"], "is not a directory"),
        (["missing.png"], "cannot read missing.png"),
        (["two\nlines.png"], "cannot read two?lines.png"),
        (["x"], "there is no picture in x; "),
        (["*.webp"], "nothing fits *.webp"),
        (["face.png", "--backend", "abacus"], "'abacus'; choose one of auto, cpu"),
    ],
)
def test_invert_refuses(arguments: list[str], part: str, face: Path, tiny_bundle: Path):
    for folder in ("other", "x"):
        Path(folder).mkdir()
    for name in ("c.jpg", "c.png", "c.png.png"):
        Path("other", name).write_bytes(b"")
    before = files()
    assert part in refuse("invert", *arguments, "--bundle", tiny_bundle, "--force")
    assert files() == before


def test_invert_with_an_altered_bundle(face: Path, tiny_bundle: Path):
    bundle = altered_copy(tiny_bundle)
    before = files()
    assert "encoder.onnx is altered" in refuse("invert", face, "--bundle", bundle)
    assert files() == before


def test_invert_with_an_unknown_bundle(face: Path):
    assert "there is no bundle 'nowhere'" in refuse("invert", face, "--bundle", "nowhere")
    assert files() == {"face.png"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["invert", ""], "an argument"),
        (["invert", "--force", ""], "an argument"),
        (["invert", "pictures", ""], "an argument"),
        (["invert", "face.png", "--mask", ""], "--mask"),
        (["invert", "face.png", "-o", ""], "-o"),
        (["edit", "face.png", "smile=1", "--method="], "--method"),
        (["align", "face.png", "--out", ""], "--out"),
        (["info", "--bundle", ""], "--bundle"),
    ],
)
def test_empty_texts_are_refused(arguments: list[str], named: str, face: Path):
    assert refuse(*arguments) == f"{named} is empty; give it a value, or leave it out"
    assert files() == {"face.png"}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--iterations", MAX_ITERATIONS + 1),
        ("--until", "nan"),
        ("--until", "inf"),
        ("--threads", 0),
    ],
)
def test_numbers_out_of_range_are_errors_of_usage(
    option: str, value: object, face: Path, tiny_bundle: Path
):
    result = run("invert", face, "--bundle", tiny_bundle, option, value)
    assert result.exit_code == 2
    assert option in result.stderr
    assert files() == {"face.png"}


def test_a_deleted_current_folder_is_one_sentence(
    face: Path, tiny_bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for picture in ("a.png", folder / face):
        said = refuse("invert", picture, "--bundle", tiny_bundle)
        assert said == "the current folder has been deleted; change into another"
    succeed("invert", folder / face, "--bundle", tiny_bundle, "-o", folder / "x.png", "-n", 1)
    monkeypatch.chdir(folder)


def test_interruption(face: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object, **_named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Model, "invert", interrupt)
    result = run("invert", face, "--bundle", tiny_bundle)
    assert (result.exit_code, result.output) == (130, "error: interrupted\n")
    assert files() == {"face.png"}


def test_a_bug_keeps_its_traceback(face: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **_named: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Model, "invert", fail)
    assert isinstance(run("invert", face, "--bundle", tiny_bundle).exception, ZeroDivisionError)


# As a program of its own


def test_program_inverts(face: Path, tiny_bundle: Path):
    process = run_program("invert", face, "--bundle", tiny_bundle)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("face.png -> face.inverted.png")
    assert Path("face.inverted.png").exists()


def test_program_fails_with_one_sentence(face: Path, tiny_bundle: Path):
    process = run_program("invert", "missing.png", "--bundle", tiny_bundle)
    assert (process.returncode, process.stdout) == (2, "")
    assert "cannot read missing.png" in sentence(process.stderr)
    assert files() == {"face.png"}
