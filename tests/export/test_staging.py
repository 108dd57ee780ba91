"""Where a bundle is put: it appears whole or not at all, and nothing else is lost for it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from build_command import Command, snapshot
from hyperstyle_export.bundles import verification, writer
from hyperstyle_export.bundles.staging import BuildError, staged
from hyperstyle_rt.cli.program import EXIT_SIGNAL, Stopped
from hyperstyle_rt.formats.bundle import Bundle


@pytest.mark.usefixtures("without_descent")
def test_failing_rename_brings_the_old_bundle_back(
    command: Command, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(built, command.out)
    rename = Path.rename

    def rename_but_not_in_place(self: Path, target: Path) -> Path:
        if target == command.out.resolve() and self.name == "new":
            raise PermissionError(errno.EPERM, "not now")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_but_not_in_place)
    command.refuse("cannot write .*: not now", "--force")


@pytest.mark.usefixtures("without_descent")
def test_empty_directory_is_filled(command: Command) -> None:
    command.out.mkdir(parents=True)
    command.succeed()


@pytest.mark.usefixtures("without_descent")
def test_bundle_is_replaced_only_with_force(command: Command, built: Path) -> None:
    shutil.copytree(built, command.out)
    (command.out / "LICENSE").write_text("of the first")
    command.refuse("exists; name another --out, or replace it with --force", "--name", "second")
    assert command.succeed("--name", "second", "--force").manifest.name == "second"
    assert (command.out / "LICENSE").read_text() == "of the first"  # put there by hand


@pytest.mark.usefixtures("without_descent")
def test_damaged_bundle_is_replaced_with_force(command: Command, built: Path) -> None:
    shutil.copytree(built, command.out)
    (command.out / "encoder.onnx").unlink()
    manifest = json.loads((command.out / "manifest.json").read_text())
    (command.out / "manifest.json").write_text(json.dumps(manifest | {"version": 99}))
    command.succeed("--force")


STRANGERS: dict[str, Callable[[Path], object]] = {
    "photos": lambda out: (out / "holiday.jpg").write_bytes(b"of 2019"),
    "web_app": lambda out: (out / "manifest.json").write_text('{"name": "a web app"}'),
    "list": lambda out: (out / "manifest.json").write_text("[]"),
    "no_json": lambda out: (out / "manifest.json").write_text("Manifest-Version: 1.0"),
    "nested_json": lambda out: (out / "manifest.json").write_text("[" * 100_000),
    "manifest_directory": lambda out: (out / "manifest.json" / "x").mkdir(parents=True),
    "hidden_file": lambda out: (out / ".git").write_text("gitdir: elsewhere"),
}


@pytest.mark.parametrize("force", [[], ["--force"]], ids=["plain", "force"])
@pytest.mark.parametrize("case", STRANGERS)
def test_other_directories_are_never_replaced(
    case: str, force: list[str], command: Command
) -> None:
    command.out.mkdir(parents=True)
    STRANGERS[case](command.out)
    command.refuse("holds something other than a bundle; name another --out", *force)


@pytest.mark.parametrize("force", [[], ["--force"]], ids=["plain", "force"])
def test_files_are_never_replaced(force: list[str], command: Command) -> None:
    command.out.parent.mkdir()
    command.out.write_text("a file")
    command.refuse("is no directory; name another --out", *force)
    command.refuse("cannot write .*: Not a directory", *force, out=command.out / "below")


@pytest.mark.usefixtures("without_descent")
def test_a_bundle_with_other_files_is_not_replaced(command: Command, built: Path) -> None:
    shutil.copytree(built, command.out)
    (command.out / "thesis.txt").write_text("years of work")
    command.refuse("holds thesis.txt, which is not the bundle's and would be lost", "--force")


def test_what_appears_during_a_build_is_kept(tmp_path: Path, built: Path) -> None:
    empty, taken = tmp_path / "empty", tmp_path / "taken"
    empty.mkdir()
    with (
        pytest.raises(BuildError, match="holds something other than a bundle"),
        staged(empty, overwrite=False),
    ):
        (empty / "thesis.txt").write_text("years of work")
    with pytest.raises(BuildError, match="exists; name another"), staged(taken, overwrite=False):
        shutil.copytree(built, taken)
    assert (empty / "thesis.txt").read_text() == "years of work"
    Bundle.open(taken).verify()
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "taken"}


def test_a_mount_point_is_refused_before_any_work(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.out.mkdir(parents=True)
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == command.out)
    command.refuse("is a mount point.*; name a folder below it for --out")


def test_a_build_that_is_stopped_leaves_nothing_behind(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(command.directory)

    def stop(*_arguments: object, **_options: object) -> None:
        assert snapshot(command.directory) != before  # the stage is there
        raise Stopped

    monkeypatch.setattr(verification, "measure_accuracy", stop)
    result = command.run()
    assert result.exit_code == EXIT_SIGNAL
    assert "stopped by a signal" in result.stderr
    assert snapshot(command.directory) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from hyperstyle_export.bundles.staging import staged

with staged(Path(sys.argv[1]), overwrite=True) as stage:
    (stage / "manifest.json").touch()
    if sys.argv[2] == "between":
        Path.rename = lambda path, target, rename=Path.rename: (
            rename(path, target), os.kill(os.getpid(), signal.SIGKILL)
        )
    else:
        os.kill(os.getpid(), signal.SIGKILL)
"""
"""Builds that are ended by kill -9: while they work, and between the two steps of a replacement."""


def kill(out: Path, when: str) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, out, when], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert [path for path in out.parent.iterdir() if path.name.startswith(".")]


def test_what_killed_builds_leave_is_removed_by_the_next(tmp_path: Path) -> None:
    kill(tmp_path / "killed", "while it works")
    with staged(tmp_path / "live", overwrite=False) as live:
        (live / "of_live").touch()
        with staged(tmp_path / "next", overwrite=False) as stage:
            (stage / "of_next").touch()
        assert (live / "of_live").exists()  # its process lives
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {
        *("live", "live/of_live", "next", "next/of_next")
    }


def test_a_bundle_whose_replacement_was_killed_comes_back(tmp_path: Path, built: Path) -> None:
    shutil.copytree(built, tmp_path / "bundle")
    kill(tmp_path / "bundle", "between")
    assert not (tmp_path / "bundle").exists()
    with staged(tmp_path / "next", overwrite=False):
        Bundle.open(tmp_path / "bundle").verify()
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "next"}


def test_a_signal_between_both_steps_brings_the_old_bundle_back(
    tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(built, tmp_path / "bundle")
    rename = Path.rename

    def stop(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise Stopped
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(Stopped), staged(tmp_path / "bundle", overwrite=True):
        pass
    Bundle.open(tmp_path / "bundle").verify()
    assert {path.name for path in tmp_path.iterdir()} == {"bundle"}


@pytest.mark.usefixtures("without_descent")
def test_link_to_a_bundle_stays_a_link(command: Command, built: Path) -> None:
    shutil.copytree(built, command.out)
    link = command.directory / "current"
    link.symlink_to(command.out)
    command.succeed("--name", "second", "--force", out=link)
    assert link.is_symlink()
    assert Bundle.open(command.out).manifest.name == "second"


def test_staging_follows_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real")
    with staged(link, overwrite=False) as stage:
        (stage / "file").touch()
    assert link.is_symlink()
    assert (tmp_path / "real" / "file").exists()


def test_a_full_disk_leaves_a_bundle_as_it_was(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is added and the manifest that lists it are on the disk before either counts."""
    path = shutil.copytree(built, tmp_path / "bundle")
    writer.add_file(Bundle.open(path), "notes.bin", b"first")
    before = snapshot(tmp_path)

    def fail(*_arguments: object) -> None:
        raise BuildError("cannot write notes.bin: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_atomically", fail)
        with pytest.raises(BuildError, match="No space left"):
            writer.add_file(Bundle.open(path), "notes.bin", b"second")
    assert snapshot(tmp_path) == before
    writer.add_file(Bundle.open(path), "notes.bin", b"second")
    assert (path / "notes.bin").read_bytes() == b"second"
    Bundle.open(path).verify()
