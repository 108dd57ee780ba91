"""Inversion files: what one inversion found, in safetensors.

``docs/formats.md`` is the specification. A file is tied to a space, the identity of a generator,
and not to a bundle: whatever renders that space renders the file, if it knows all that the file
says it ``needs``. To read a file takes no bundle.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InversionError
from ..files import read_regular, write_atomically
from . import strict_json
from .fields import is_plain_name, is_sha256, shown
from .tensors import TensorFile, parse, serialize

FORMAT = "hyperstyle-rt-inversion"
VERSION = "3"
NEEDS = ("codes", "channel_offsets", "noise", "weights", "features")
"""What a file may need of its reader, beside latents."""

HALVES = {"channel_offsets": 1, "noise": 1, "weights": 1, "features": 3}
"""What is stored in float16, and its number of axes."""

COMPUTED = ("backend", "provider", "precision")
"""What a file says of how it was computed."""

MAX_FILE_SIZE = 1 << 27
"""Bytes; an official model's file has 38 thousand, with channel offsets 5.2 million, with noise 5.6
million, with free weights 60 million."""

MAX_LATENTS = 4096
MAX_METADATA = 1 << 16
"""Characters of one entry of the metadata."""

_COUNT = re.compile(r"0|[1-9][0-9]{0,5}")


@dataclass(frozen=True, eq=False, kw_only=True)
class InversionData:
    """What an inversion file holds.

    Attributes
    ----------
    latents:
        float32 [L,W], finite.
    codes:
        float32 [M,K+1], finite; None for the generator's own kernels, as zero codes give them. The
        last column counts the codes that were summed up.
    iterations:
        How often the phase of the method ran that iterates, 0 to 999999.
    space:
        Identity of the generator, :attr:`Manifest.space`.
    code_space:
        Identity of what expands the codes, :attr:`CodeLayout.space`; None without codes.
    bundle_name, bundle_digest:
        Provenance: name of the bundle it was made with and :attr:`Bundle.digest`.
    method:
        Provenance: name of the method.
    settings:
        Provenance: what the caller set beside the method, a JSON object.
    computed:
        Provenance: at least ``backend``, ``provider`` and ``precision`` of the computation, texts.
    transform:
        float32 [3,3], from pixels (x, y, 1) of the photo to pixels of the aligned crop, or None.
    picture:
        SHA-256 of the picture's file, or None where that is not known.
    channel_offsets:
        float16 [P], finite: offsets of the tuned layers, one layer after the other, each [O,I] and
        added to what the codes give; None for none.
    noise:
        float16 [N], finite: noise maps of all layers that have some, one after the other, in place
        of the stored ones; None for these.
    weights:
        float16 [Q], finite: what is added to all synthesis weights, in the order of the manifest's
        :class:`ParametricInputs`, over what codes and channel offsets give; None for nothing.
    features:
        float16 [C,h,w], finite: what is added to the feature map of the manifest's
        :class:`ParametricInputs`; None for nothing.

    Raises
    ------
    InversionError
        On construction, if one of this does not hold.
    """

    latents: NDArray[np.float32]
    codes: NDArray[np.float32] | None
    iterations: int
    space: str
    code_space: str | None
    bundle_name: str
    bundle_digest: str
    method: str
    settings: Mapping[str, Any]
    computed: Mapping[str, str]
    transform: NDArray[np.float32] | None = None
    picture: str | None = None
    channel_offsets: NDArray[np.float16] | None = None
    noise: NDArray[np.float16] | None = None
    weights: NDArray[np.float16] | None = None
    features: NDArray[np.float16] | None = None

    def __post_init__(self) -> None:
        _check_floats("latents", self.latents, (None, None))
        if len(self.latents) > MAX_LATENTS:
            raise _wrong(f"has {len(self.latents)} rows of latents, more than {MAX_LATENTS}")
        if self.codes is not None:
            _check_floats("codes", self.codes, (None, None))
        for name, axes in HALVES.items():
            if getattr(self, name) is not None:
                _check_floats(name, getattr(self, name), (None,) * axes, np.float16)
        if self.transform is not None:
            _check_floats("transform", self.transform, (3, 3))
        if _COUNT.fullmatch(str(self.iterations)) is None:
            raise InversionError(f"an inversion cannot have {self.iterations} iterations")
        self._check_identities()
        _check_object("settings", self.settings)
        _check_object("computed", self.computed)
        if not all(isinstance(self.computed.get(key), str) for key in COMPUTED):
            raise _wrong(f"does not say all of {', '.join(COMPUTED)} as texts in its computed")

    def _check_identities(self) -> None:
        for name in ("space", "bundle_digest"):
            if not is_sha256(getattr(self, name)):
                raise _wrong(f"has no SHA-256 as its {name}")
        if not is_plain_name(self.bundle_name):
            raise _wrong("does not name the bundle it was made with")
        if not is_plain_name(self.method):
            raise _wrong("does not name the method it was made with")
        if (self.code_space is None) != (self.codes is None):
            raise _wrong("must have both codes and their code_space, or neither")
        for name in ("code_space", "picture"):
            value = getattr(self, name)
            if value is not None and not is_sha256(value):
                raise _wrong(f"has no SHA-256 as its {name}")

    @property
    def needs(self) -> tuple[str, ...]:
        """What a reader must know to render it, among :data:`NEEDS`."""
        return tuple(name for name in NEEDS if getattr(self, name) is not None)


def write_inversion(path: str | Path, data: InversionData) -> None:
    """Write an inversion file, atomically; an existing one is replaced.

    Raises
    ------
    InversionError
        If the file cannot be written.
    """
    write_atomically(Path(path), serialize_inversion(data), InversionError)


def serialize_inversion(data: InversionData) -> bytes:
    """Make the content of an inversion file, without loss: the same data gives the same bytes."""
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "space": data.space,
        "needs": _json(data.needs),
        "num_latents": str(len(data.latents)),
        "bundle": data.bundle_name,
        "bundle_digest": data.bundle_digest,
        "method": data.method,
        "settings": _json(data.settings),
        "iterations": str(data.iterations),
        "computed": _json(data.computed),
    }
    metadata |= {} if data.code_space is None else {"code_space": data.code_space}
    metadata |= {} if data.picture is None else {"picture": data.picture}
    is_w = _has_equal_rows(data.latents)
    tensors: dict[str, NDArray[Any]] = {"w": data.latents[0]} if is_w else {"latents": data.latents}
    for name in (*NEEDS, "transform"):
        if getattr(data, name) is not None:
            tensors[name] = getattr(data, name)
    return serialize(tensors, metadata)


def read_inversion(path: str | Path) -> InversionData:
    """Read an inversion file.

    Raises
    ------
    InversionError
        If the file cannot be read, is damaged, or needs what this version does not know.
    """
    path = Path(path)
    content = read_regular(path, MAX_FILE_SIZE, InversionError)
    try:
        return parse_inversion(content)
    except InversionError as error:
        raise InversionError(f"{path}: {error}") from None


def parse_inversion(content: bytes) -> InversionData:
    """Read the content of an inversion file; raises as :func:`read_inversion`."""
    try:
        file = parse(content)
    except ValueError as error:
        raise InversionError(f"the file {error}; invert the picture again") from None
    metadata = file.metadata
    if metadata.get("format") != FORMAT:
        raise InversionError("this is not an inversion file; give one that `invert` wrote")
    version = _entry(metadata, "version")
    if version != VERSION:
        raise InversionError(
            f"the file has format version {version[:20]!r} and this runtime reads version "
            f"{VERSION}; update hyperstyle-rt or invert the picture again"
        )
    needs = _needs(metadata)
    for name in NEEDS:
        if (name in file.tensors) != (name in needs):
            raise _damaged(f"does not agree in needs and tensors about {name}")
    return InversionData(
        latents=_latents(file, _count(metadata, "num_latents")),
        codes=file.tensors.get("codes"),
        iterations=_count(metadata, "iterations"),
        space=_entry(metadata, "space"),
        code_space=_entry(metadata, "code_space") if "codes" in needs else None,
        bundle_name=_entry(metadata, "bundle"),
        bundle_digest=_entry(metadata, "bundle_digest"),
        method=_entry(metadata, "method"),
        settings=_object(metadata, "settings"),
        computed=_object(metadata, "computed"),
        transform=file.tensors.get("transform"),
        picture=metadata.get("picture"),
        **{name: file.tensors.get(name) for name in HALVES},
    )


def _has_equal_rows(latents: NDArray[np.float32]) -> bool:
    """Whether all rows are the same, bit by bit: a latent of W."""
    bits = np.ascontiguousarray(latents).view(np.uint32)
    return bool((bits == bits[0]).all())


def _latents(file: TensorFile, rows: int) -> NDArray[Any]:
    """Latents [L,W], as stored or repeated from one row."""
    if ("w" in file.tensors) == ("latents" in file.tensors):
        raise _damaged("must hold either w or latents")
    if "latents" in file.tensors:
        latents = file.tensors["latents"]
        if latents.shape[:1] != (rows,):
            raise _damaged(f"does not hold the {rows} rows of latents that it counts")
        return latents
    w = file.tensors["w"]
    _check_floats("w", w, (None,))
    if not 0 < rows <= MAX_LATENTS or rows * w.nbytes > MAX_FILE_SIZE:
        raise _damaged(f"counts {rows} rows of latents")
    return np.tile(w, (rows, 1))


def _needs(metadata: Mapping[str, str]) -> list[str]:
    needs = _parsed(metadata, "needs")
    if not isinstance(needs, list) or not all(isinstance(name, str) for name in needs):
        raise _damaged("has needs that are no list of texts")
    for name in needs:
        if name not in NEEDS:
            raise InversionError(
                f"the file needs {shown(name)}, which this version of hyperstyle-rt does not know; "
                "update hyperstyle-rt"
            )
    if len(set(needs)) < len(needs):
        raise _damaged("lists a need twice")
    return needs


def _object(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    value = _parsed(metadata, key)
    if not isinstance(value, dict):
        raise _damaged(f"has {key} that are no JSON object")
    return value


def _parsed(metadata: Mapping[str, str], key: str) -> object:
    text = _entry(metadata, key)
    if len(text) > MAX_METADATA:
        raise _damaged(f"has {key} of more than {MAX_METADATA} characters")
    try:
        return strict_json.parse(text.encode())
    except ValueError as error:
        raise _damaged(f"has {key} that {error}") from None


def _count(metadata: Mapping[str, str], key: str) -> int:
    text = _entry(metadata, key)
    if _COUNT.fullmatch(text) is None:
        raise _damaged(f"has {shown(text)} as its {key}, not a number from 0 to 999999")
    return int(text)


def _entry(metadata: Mapping[str, str], key: str) -> str:
    if key not in metadata:
        raise _damaged(f"lacks the metadata entry {key}")
    return metadata[key]


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _wrong(problem: str) -> InversionError:
    return InversionError(f"the inversion {problem}; invert the picture again")


def _damaged(problem: str) -> InversionError:
    return InversionError(f"the file is damaged, it {problem}; invert the picture again")


def _check_object(name: str, value: object) -> None:
    """Refuse what cannot be stored as a JSON object."""
    try:
        text = _json(value)
    except (TypeError, ValueError):
        raise _wrong(f"has {name} that JSON cannot hold") from None
    if not isinstance(value, Mapping) or len(text) > MAX_METADATA:
        raise _wrong(f"has {name} that are no object of at most {MAX_METADATA} characters")


def _check_floats(
    name: str,
    array: NDArray[Any],
    shape: tuple[int | None, ...],
    dtype: type[np.floating[Any]] = np.float32,
) -> None:
    """Refuse all but finite floats of this type and shape; None stands for a length from 1 up."""
    fits = array.ndim == len(shape) and all(
        have == want or (want is None and have > 0)
        for have, want in zip(array.shape, shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        lengths = ", ".join(str(n or "?") for n in shape)
        raise InversionError(
            f"the inversion's {name} must be {np.dtype(dtype)} [{lengths}], not "
            f"{array.dtype} {list(array.shape)}; invert the picture again"
        )
    if not np.isfinite(array).all():
        raise InversionError(f"NaN or infinity in the inversion's {name}; invert the picture again")
