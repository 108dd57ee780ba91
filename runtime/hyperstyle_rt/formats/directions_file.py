"""Directions files: named changes of a face, ``directions.safetensors`` of a bundle.

``docs/formats.md`` is the specification. Three kinds, as the literature has them (docs/spec.md,
section 6): linear ones in W or W+ (InterFaceGAN), principal components of W with a target
(GANSpace), and changes of the styles after the modulation layers (StyleSpace, StyleCLIP's global
directions). What they do to a face is in ``editing.directions``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..errors import EditError
from ..types import Array
from . import strict_json
from .bundle import Bundle
from .fields import PLAIN_NAME, is_plain_name, shown
from .manifest import Manifest
from .tensors import TensorFile, parse, serialize

DIRECTIONS_NAME = "directions.safetensors"
FORMAT = "hyperstyle-rt-directions"
VERSION = "1"
MAX_FILE_SIZE = 1 << 28

_ENTRY = "direction."  # of the metadata, before a direction's name


@dataclass(frozen=True, eq=False)
class LinearDirection:
    """A vector that is added to latents.

    Attributes
    ----------
    vector:
        float32 [W], the same for all rows, or [L,W].
    rows:
        (start, stop): the rows of the latents that it is added to.
    scale:
        What the vector is multiplied by for one step.
    unit:
        What one step is, for people.
    """

    kind: ClassVar[str] = "linear"

    vector: Array
    rows: tuple[int, int]
    scale: float = 1.0
    unit: str = "one step"


@dataclass(frozen=True, eq=False)
class ComponentDirection:
    """A principal component of W that is brought to a target coordinate.

    An amount of 1 gives the target of the first row, as in GANSpace's published edits; 0.5 goes
    half of the way from where the face is.

    Attributes
    ----------
    component, mean:
        float32 [W].
    deviation:
        Standard deviation along the component: the unit of the coordinate.
    target:
        The coordinate.
    rows:
        (start, stop): the rows of the latents that are changed.
    unit:
        What one step is, for people.
    """

    kind: ClassVar[str] = "component"

    component: Array
    mean: Array
    deviation: float
    target: float
    rows: tuple[int, int]
    unit: str = "the whole way to the target"


@dataclass(frozen=True, eq=False)
class StyleDirection:
    """A vector that is added to the styles of all layers.

    Attributes
    ----------
    offsets:
        float32 [S], in the order of the manifest's ``optional_inputs.styles``.
    scale, unit:
        As of :class:`LinearDirection`.
    """

    kind: ClassVar[str] = "styles"

    offsets: Array
    scale: float = 1.0
    unit: str = "one step"


Direction = LinearDirection | ComponentDirection | StyleDirection


def bundle_directions(bundle: Bundle) -> dict[str, Direction]:
    """Read the directions of a bundle, by name; none if it carries no file of them.

    Raises
    ------
    BundleError
        If the file is missing or altered.
    EditError
        If the file is damaged or does not fit the bundle.
    """
    if DIRECTIONS_NAME not in bundle.manifest.files:
        return {}
    data = bundle.read_file(DIRECTIONS_NAME, MAX_FILE_SIZE)
    try:
        return parse_directions(data, bundle.manifest)
    except EditError as error:
        raise EditError(f"{bundle.directory / DIRECTIONS_NAME}: {error}") from None


def parse_directions(data: bytes, manifest: Manifest) -> dict[str, Direction]:
    """Read the content of a directions file.

    Raises
    ------
    EditError
        If it is damaged, of another version, or does not fit the bundle's shapes.
    """
    try:
        file = parse(data)
    except ValueError as error:
        raise EditError(f"the file {error}; convert the directions again") from None
    if file.metadata.get("format") != FORMAT or file.metadata.get("version") != VERSION:
        raise EditError(
            f"this is no directions file of version {VERSION}; convert the directions again with "
            "python -m directions.convert, or update hyperstyle-rt"
        )
    names = [key[len(_ENTRY) :] for key in file.metadata if key.startswith(_ENTRY)]
    return {name: _Entry(file, name, manifest).read() for name in sorted(names)}


def serialize_directions(directions: Mapping[str, Direction]) -> bytes:
    """Make the content of a directions file; the inverse of :func:`parse_directions`.

    Raises
    ------
    EditError
        If a name is not a plain one, or a number not finite.
    """
    tensors: dict[str, Array] = {}
    metadata = {"format": FORMAT, "version": VERSION}
    for name, direction in directions.items():
        if not is_plain_name(name):
            raise EditError(f"a direction cannot be named {shown(name)}; give {PLAIN_NAME}")
        facts: dict[str, Any] = {"kind": direction.kind, "unit": direction.unit}
        if isinstance(direction, LinearDirection):
            tensors[f"{name}.vector"] = direction.vector
            facts |= {"rows": list(direction.rows), "scale": direction.scale}
        elif isinstance(direction, ComponentDirection):
            tensors |= {f"{name}.component": direction.component, f"{name}.mean": direction.mean}
            facts |= {"rows": list(direction.rows), "target": direction.target}
            facts |= {"deviation": direction.deviation}
        else:
            tensors[f"{name}.offsets"] = direction.offsets
            facts |= {"scale": direction.scale}
        try:
            metadata[_ENTRY + name] = json.dumps(facts, sort_keys=True, allow_nan=False)
        except ValueError:
            raise EditError(f"the direction {name} needs finite numbers; give others") from None
    return serialize(tensors, metadata)


class _Entry:
    """One direction of a file that may hold anything."""

    def __init__(self, file: TensorFile, name: str, manifest: Manifest) -> None:
        self._file, self._name, self._manifest = file, name, manifest
        try:
            facts = strict_json.parse(file.metadata[_ENTRY + name].encode())
        except ValueError as error:
            raise self._wrong(str(error)) from None
        if not isinstance(facts, dict) or not is_plain_name(name):
            raise self._wrong("is not described by an object under a plain name")
        self._facts = facts

    def read(self) -> Direction:
        kind, unit = self._facts.get("kind"), self._facts.get("unit")
        if not isinstance(unit, str):
            raise self._wrong("has no unit")
        rows, width = self._manifest.num_latents, self._manifest.latent_width
        if kind == LinearDirection.kind:
            vector = self._tensor("vector", (width,), (rows, width))
            return LinearDirection(vector, self._rows(), self._number("scale"), unit)
        if kind == ComponentDirection.kind:
            component, mean = (self._tensor(part, (width,)) for part in ("component", "mean"))
            deviation = self._number("deviation")
            if deviation <= 0:
                raise self._wrong("has a deviation that is not positive")
            target = self._number("target")
            return ComponentDirection(component, mean, deviation, target, self._rows(), unit)
        if kind == StyleDirection.kind:
            inputs = self._manifest.optional_inputs
            if inputs is None:
                raise self._wrong(
                    "changes styles, which this bundle's generator cannot be fed: build it again"
                )
            offsets = self._tensor("offsets", (inputs.style_channels,))
            return StyleDirection(offsets, self._number("scale"), unit)
        raise self._wrong(f"is of the unknown kind {shown(kind)}")

    def _tensor(self, part: str, *shapes: tuple[int, ...]) -> Array:
        tensor = self._file.tensors.get(f"{self._name}.{part}")
        if tensor is None or tensor.dtype != np.float32 or tensor.shape not in shapes:
            wanted = " or ".join(str(list(shape)) for shape in shapes)
            raise self._wrong(f"needs the float32 tensor {part} of shape {wanted}")
        if not np.isfinite(tensor).all():
            raise self._wrong(f"has NaN or infinity in its {part}")
        return tensor

    def _number(self, key: str) -> float:
        value = self._facts.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._wrong(f"has no number {key}")
        return float(value)

    def _rows(self) -> tuple[int, int]:
        rows, last = self._facts.get("rows"), self._manifest.num_latents
        if not (isinstance(rows, list) and len(rows) == 2 and all(type(r) is int for r in rows)):
            raise self._wrong("has no rows, a pair of integers")
        start, stop = rows
        if not 0 <= start < stop <= last:
            raise self._wrong(f"must change rows within the {last} of the latents, not {rows}")
        return start, stop

    def _wrong(self, problem: str) -> EditError:
        return EditError(
            f"the direction {shown(self._name)} {problem}; convert the directions again"
        )
