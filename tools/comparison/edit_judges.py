"""Who reads how far an edit has gone: the judge that learns from renders, and a user's networks.

A user's network is an ONNX file: float32 [B,3,h,w] in, RGB, in [-1,1] or normalised as ImageNet
networks ask for. Its first output, or the one that is named, is understood by its shape: [B] or
[B,1] is the value; [B,66] are HopeNet's bins of three degrees; [B,n] are n values, [B,n,2] n pairs
of scores (no, yes), of which a column is named. A folder is `model` of npm's
`@vladmandic/face-api`, whose networks read the attributes of `directions.face_attributes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from directions.face_attributes import ATTRIBUTES, FaceReader
from directions.face_networks import AGE_GENDER_FILE, EXPRESSION_FILE
from directions.factor_regressor import read_renders
from directions.find import Recipe, read_recipes
from directions.judge import train_judge
from hyperstyle_rt.backends.ort_library import load_onnxruntime, session_options
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import sha256
from hyperstyle_rt.imaging.pictures import resize_bilinear
from hyperstyle_rt.types import Array, Floats, Picture
from numpy.typing import NDArray
from picture_sets.folders import FACTORS_FILE

from .errors import ComparisonError

Pictures = NDArray[np.uint8]
Reader = Callable[[Pictures], Floats]
"""Pictures uint8 [N,h,w,3] -> how much they have of an attribute, [N]."""

DEFAULT_SIDE = 224  # of a network that takes any
IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))
BINS, BIN_DEGREES, FIRST_DEGREES = 66, 3, -99  # HopeNet's
FOUND_IN = ("input", "output", "column")


@dataclass(frozen=True)
class EditJudges:
    """Readers by the direction whose attribute they read.

    Attributes
    ----------
    readers:
        Direction to reader.
    digests:
        Direction to SHA-256 of what its reader is made of.
    problems:
        A sentence for every file that cannot be used.
    """

    readers: dict[str, Reader] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Learning:
    """What the judge of attributes learns from: renders with factors, and what directions mean.

    Attributes
    ----------
    folder, recipe:
        Of the renders, and of the directions.
    count, epochs:
        At most so many renders, and passes over them.
    """

    folder: Path
    recipe: Path
    count: int
    epochs: int


def open_edit_judges(
    directions: Sequence[str],
    learning: Learning | None,
    judges: Sequence[str],
    on_epoch: Callable[[int, float], None],
) -> EditJudges:
    """Open the readers of these directions; a user's network goes before what is learnt.

    Parameters
    ----------
    judges:
        ``DIRECTION=FILE[,input=imagenet][,output=NAME][,column=N]``, or ``DIRECTION=FOLDER`` of
        face-api, for a direction that is named as the attribute.

    Raises
    ------
    ComparisonError
        If a judge is no such text, or is of a direction that is not edited.
    HyperStyleError
        If nothing can be learnt from the renders.
    """
    found = EditJudges()
    if learning is not None:
        _learn(directions, learning, found, on_epoch)
    for text in judges:
        name, path, options = parse_judge(text, directions)
        try:
            if path.is_dir():
                found.readers[name] = face_reader(path, name)
                files = [path / file for file in (AGE_GENDER_FILE, EXPRESSION_FILE)]
            else:
                found.readers[name], files = onnx_reader(path, **options), [path]
            found.digests[name] = f"{' '.join(map(sha256, files))} {sorted(options.items())}"
        except (HyperStyleError, OSError) as error:
            found.problems.append(f"the judge of {name} is left out: {error}")
    return found


def onnx_reader(path: Path, *, input: str = "", output: str = "", column: str = "") -> Reader:
    """Read an attribute by an ONNX network; ComparisonError if the file is none that can."""
    ort = load_onnxruntime()
    try:
        session = ort.InferenceSession(
            path.read_bytes(), session_options(1), providers=["CPUExecutionProvider"]
        )
        (spec,) = session.get_inputs()
        outputs = [each.name for each in session.get_outputs()]
    except OSError as error:
        raise ComparisonError(f"cannot read {path}: {error.strerror}") from None
    except Exception as error:  # whatever ONNX Runtime makes of the file
        raise ComparisonError(f"{path} is no network of one picture: {error}") from None
    if output and output not in outputs:
        raise ComparisonError(f"{path} has no output {output!r}, only {', '.join(outputs)}")
    sides = [side if isinstance(side, int) else DEFAULT_SIDE for side in spec.shape[-2:]]
    at = int(column) if column else None

    def read(pictures: Pictures) -> Floats:
        small = np.stack([resize_bilinear(picture, (sides[0], sides[1])) for picture in pictures])
        values = [
            session.run([output or outputs[0]], {spec.name: one})[0]
            for one in _network_input(small, input == "imagenet")
        ]
        return _value(np.concatenate(values), at, path)

    read(np.zeros((1, *sides, 3), np.uint8))  # refuses what cannot be understood before any work
    return read


def face_reader(folder: Path, attribute: str) -> Reader:
    """Read an attribute by face-api's networks and the face mesh.

    Raises
    ------
    ComparisonError, EvaluationError
        If they read no such attribute, or a network's file is missing or damaged.
    """
    if attribute not in ATTRIBUTES:
        raise ComparisonError(f"face-api reads no {attribute!r}, only {', '.join(ATTRIBUTES)}")
    reader, column = FaceReader(folder), ATTRIBUTES.index(attribute)
    return lambda pictures: np.asarray(reader.read(pictures)[:, column], np.float64)


def _network_input(pictures: Pictures, imagenet: bool) -> list[Array]:
    values = pictures.astype(np.float32) / 255
    mean, deviation = IMAGENET if imagenet else (0.5, 0.5)
    planes = ((values - mean) / deviation).astype(np.float32).transpose(0, 3, 1, 2)
    return [np.ascontiguousarray(plane[None]) for plane in planes]


def _value(output: Array, column: int | None, path: Path) -> Floats:
    """One number a picture, by the shape of what a network gives."""
    shape = output.shape[1:]
    if shape in ((), (1,)):
        return np.asarray(output.reshape(-1), np.float64)
    if shape == (BINS,) and column is None:
        powers = np.exp(output - output.max(1, keepdims=True))
        degrees = np.arange(BINS) * BIN_DEGREES + FIRST_DEGREES
        return np.asarray((powers * degrees).sum(1) / powers.sum(1), np.float64)
    pairs = len(shape) == 2 and shape[1] == 2
    if column is None or not (len(shape) == 1 or pairs) or column >= shape[0]:
        raise ComparisonError(
            f"{path} gives {list(shape)} for a picture; name one of its values with column=N"
        )
    chosen = output[:, column]
    return np.asarray(chosen[:, 1] - chosen[:, 0] if pairs else chosen, np.float64)


def parse_judge(text: str, directions: Sequence[str]) -> tuple[str, Path, dict[str, str]]:
    """Read ``DIRECTION=FILE[,...]``: direction, file, options; ComparisonError if it is no such."""
    name, equals, rest = text.partition("=")
    path, *more = rest.split(",")
    options = dict(option.partition("=")[::2] for option in more)
    known = all(key in FOUND_IN and value for key, value in options.items())
    column, kind = options.get("column", "0"), options.get("input", "imagenet")
    if not equals or not path or not known or not column.isdecimal() or kind != "imagenet":
        raise ComparisonError(
            f"--judge is DIRECTION=FILE[,input=imagenet][,output=NAME][,column=N], not {text!r}"
        )
    if name not in directions:
        raise ComparisonError(
            f"--judge names {name!r}, which is not edited; name it with --edits, which has "
            f"{', '.join(directions)}"
        )
    return name, Path(path), options


def described(directions: Sequence[str], path: Path) -> dict[str, Recipe]:
    """The recipes of a file that are of these directions.

    Raises
    ------
    ComparisonError, EditError
        If there is none, or the file is no recipe.
    """
    recipes = read_recipes(path)
    known = {name: recipes[name] for name in directions if name in recipes}
    if not known:
        raise ComparisonError(
            f"{path} describes {', '.join(recipes) or 'nothing'} and none of the --edits; give the "
            "recipe of these directions"
        )
    return known


def _learn(
    directions: Sequence[str],
    learning: Learning,
    found: EditJudges,
    on_epoch: Callable[[int, float], None],
) -> None:
    known = described(directions, learning.recipe)
    renders = read_renders(learning.folder, learning.count)
    judge = train_judge(known, renders, [], learning.epochs, on_epoch)
    digest = (
        f"{sha256(learning.folder / FACTORS_FILE)} {sha256(learning.recipe)} "
        f"{len(renders.pictures)} {learning.epochs} {','.join(known)}"
    )
    for column, name in enumerate(known):
        found.readers[name] = _column_of(judge.read, column)
        found.digests[name] = digest


def _column_of(read: Callable[[Pictures], tuple[Array, Array]], column: int) -> Reader:
    return lambda pictures: np.asarray(read(pictures)[0][:, column], np.float64)


def as_batch(pictures: Sequence[Picture]) -> Pictures:
    """Pictures of one size as one array."""
    return np.stack(list(pictures))
