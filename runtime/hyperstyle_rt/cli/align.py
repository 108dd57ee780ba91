"""``hyperstyle-rt align``: photos to the aligned crops that the networks know."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..batch.streams import is_pipe_out, read_picture_source, spoken, write_pipe
from ..errors import PictureError
from ..temporaries import remove_leftovers
from . import options
from .outputs import check_distinct, is_directory_for, numbered, refuse_existing
from .pipes import refuse_json_to_pipe
from .terminal import (
    exit_with_errors,
    print_json,
    print_line,
    print_passed_over,
    printable,
    progress_bar,
)

if TYPE_CHECKING:
    from ..batch.sources import Found
    from ..photos.portraits import Portrait

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt align photo.jpg

hyperstyle-rt align photo.jpg --out face.png --size 256

hyperstyle-rt align party.jpg --face all --out faces

hyperstyle-rt align photos --out faces --json
"""

ENDING = ".aligned.png"
LARGEST_SIDE = 4096


@dataclass(frozen=True)
class Aligned:
    """A crop that was written.

    Attributes
    ----------
    photo, crop:
        The files.
    portrait:
        What was found.
    """

    photo: Path
    crop: Path
    portrait: Portrait

    def to_json(self) -> dict[str, Any]:
        """Make the entry in the document of ``--json``."""
        portrait = self.portrait
        return {
            "input": str(self.photo),
            "output": str(self.crop),
            "score": round(portrait.score, 4),
            "box": portrait.box.round(2).tolist(),
            "landmarks": portrait.landmarks.round(2).tolist(),
            "transform": portrait.transform.tolist(),
        }


def align(
    photos: options.Pictures,
    out: options.ResultsOut = Path(),
    face: options.Face = "largest",
    size: Annotated[
        int, typer.Option(min=16, max=LARGEST_SIDE, help="Side of the crops.", metavar="N")
    ] = 1024,
    force: options.Force = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Cut faces out of photos, aligned as the networks were trained.

    Writes NAME.aligned.png. A photo without a face does not stop the others: its
    error is printed at the end, and the exit status is 2. `invert` does all this
    by itself.
    """
    from ..batch.sources import find_sources
    from ..photos.portraits import ALL, LARGEST

    options.check_face(face, LARGEST, ALL)
    found = find_sources(photos)
    refuse_json_to_pipe(out, json_)
    sources, plan = found.sources, _plan(found, out, face, force)
    for folder in {crop.parent for crop in plan}:
        remove_leftovers(folder)
    done: list[Aligned] = []
    errors: dict[Path, str] = {}
    with progress_bar(quiet) as progress:
        bar = progress.add_task("", total=len(sources))
        for source, crop in zip(sources, plan, strict=True):
            progress.update(bar, description=printable(source.path.name))
            try:
                aligned = _align_one(source.path, crop, face, size, force)
            except PictureError as error:
                errors[source.path] = str(error)
            else:
                done += aligned
                if not json_ and not quiet and not is_pipe_out(out):
                    for each in aligned:
                        print_line(f"{each.photo} -> {each.crop}")
            progress.advance(bar)
    if json_:
        print_json(
            {
                "crops": [each.to_json() for each in done],
                "passed_over": [str(path) for path in found.passed_over],
                "errors": [{"input": str(path), "error": text} for path, text in errors.items()],
            }
        )
    if not quiet:
        print_passed_over(found.passed_over)
    exit_with_errors(errors.values())


def _plan(found: Found, out: Path, face: str, force: bool) -> list[Path]:
    """Name the crop of every photo, and refuse what may not be replaced.

    Of several faces each gets its number into the name; how many there are is not known yet.
    """
    from ..photos.portraits import ALL

    if is_pipe_out(out) and len(found.sources) == 1:
        return [out]
    crops = [out]
    if is_directory_for(out, found):
        crops = [out / f"{source.name}{ENDING}" for source in found.sources]
    first = [numbered(crop, int(face == ALL), ENDING) for crop in crops]
    check_distinct([(s.path, [crop]) for s, crop in zip(found.sources, first, strict=True)])
    if not force:
        refuse_existing(first)
    return crops


def _align_one(photo: Path, crop: Path, face: str, size: int, force: bool) -> list[Aligned]:
    """Align a photo and write its crops."""
    from ..files import make_directory
    from ..imaging.pictures import decode_picture, encode_picture, write_picture
    from ..photos.portraits import ALL, find_portraits

    picture = decode_picture(read_picture_source(photo), Path(spoken(photo)))
    try:
        portraits = find_portraits(picture, size, face)
    except PictureError as error:
        raise PictureError(f"{spoken(photo)}: {error}") from error
    if is_pipe_out(crop):
        if len(portraits) > 1:
            raise PictureError(f"--out {crop} takes one face; give a directory for all")
        write_pipe(crop, encode_picture(Path("crop.png"), portraits[0].crop))
        return [Aligned(photo, crop, portraits[0])]
    first = int(face == ALL)
    crops = [numbered(crop, first + n, ENDING) for n in range(len(portraits))]
    for path in crops:
        if os.path.realpath(path) == os.path.realpath(photo):
            raise PictureError(f"{path} is the photo itself; give another --out")
        if not force:
            refuse_existing([path], PictureError)
    make_directory(crop.parent, PictureError)
    for path, portrait in zip(crops, portraits, strict=True):
        write_picture(path, portrait.crop)
    return [Aligned(photo, *each) for each in zip(crops, portraits, strict=True)]
