"""Running the build command in tests, and what it must not leave behind."""

from __future__ import annotations

import re
from pathlib import Path

import fakeweights
from hyperstyle_export.cli import app
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.imaging.pictures import write_picture
from typer.testing import CliRunner, Result


class Command:
    """The build command with the tiny checkpoints, in a directory of its own."""

    def __init__(self, directory: Path, checkpoints: tuple[Path, Path]) -> None:
        self.directory = directory
        self.checkpoint, self.w_encoder = checkpoints
        self.picture = directory / "picture.png"
        write_picture(self.picture, fakeweights.image_u8(1, 64, 64))
        self.out = directory / "engines" / "tiny"

    def arguments(self, *more: object, **replaced: object) -> list[str]:
        """Words of a command; an option that is None is left out."""
        options = {
            "checkpoint": self.checkpoint,
            "w_encoder": self.w_encoder,
            "out": self.out,
            "picture": self.picture,
        } | replaced
        pairs = [
            (f"--{name.replace('_', '-')}", str(value))
            for name, value in options.items()
            if value is not None
        ]
        return [word for pair in pairs for word in pair] + [str(argument) for argument in more]

    def run(self, *more: object, **replaced: object) -> Result:
        return CliRunner().invoke(app, self.arguments(*more, **replaced))

    def succeed(self, *more: object, **replaced: object) -> Bundle:
        """Build; check that the bundle opens, and is all there is."""
        result = self.run(*more, **replaced)
        assert result.exit_code == 0, result.output
        assert result.stdout == ""
        out = Path(str(replaced.get("out", self.out)))
        assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []
        bundle = Bundle.open(out)
        bundle.verify()
        return bundle

    def refuse(self, message: str, *more: object, **replaced: object) -> str:
        """Check that a build fails with one sentence and changes no file; give the sentence."""
        before = snapshot(self.directory)
        result = self.run(*more, **replaced)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        assert re.search(message, line), line
        assert snapshot(self.directory) == before
        return line


def snapshot(directory: Path) -> dict[str, bytes | None]:
    """All files below a directory and the directories that hold something."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in sorted(directory.rglob("*"))
        if not path.is_dir() or any(path.iterdir())
    }
