"""Inversion files: what one inversion found, in safetensors.

The offset codes are small; the latents, L rows of W floats, would be the larger half of the file.
But a W-encoder gives every row the same style vector and adds the average latent, which the bundle
carries, so the L rows are known from one: the file then stores that one, ``w`` [W]. It is searched
for, not handed down from the encoder, and used only if it gives back every bit of the latents.
Other latents (edited ones, w+) are stored whole.

A refined inversion may have free offsets, one per pair of channels: two bytes each, 145 KB for the
64 px default and 5.2 MB for an official 1024 model. Its file has version 2, so that a reader that
knows none does not show another face.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InversionError
from ..files import read_regular, write_atomically
from .fields import is_plain_name, is_sha256
from .tensors import TensorFile, parse, serialize

if TYPE_CHECKING:
    from .bundle import Bundle

FORMAT = "hyperstyle-rt-inversion"
VERSION = "1"
CHANNELS_VERSION = "2"  # of a file with channels
MAX_FILE_SIZE = 1 << 24  # bytes; an official model's file has 38 thousand, refined 5.2 million

_COUNT = re.compile(r"0|[1-9][0-9]{0,5}")
_LARGEST_FLOAT32 = 0x7F7FFFFF  # its bits

LatentAverageOf = Callable[[str, str], NDArray[np.float32] | None]
"""Called with a bundle's name and digest; gives its average, float32 [L,W], None if not at hand."""


@dataclass(frozen=True, eq=False)
class InversionData:
    """What an inversion file holds.

    Attributes
    ----------
    latents:
        float32 [L,W], finite.
    codes:
        float32 [M,K+1], finite; the last column holds ``iterations`` in every row.
    iterations:
        How many times the hypernetwork ran, 0 to 999999.
    bundle_name, bundle_digest:
        The bundle the inversion was made with: its name and :attr:`Bundle.digest`.
    transform:
        float32 [3,3], from pixels (x, y, 1) of the photo to pixels of the aligned crop, or None.
    picture:
        SHA-256 of the picture's file, or None where that is not known.
    channels:
        float16 [P], finite: free offsets of the tuned layers, one after the other, each [O,I] and
        added to what the codes give; None for none.

    Raises
    ------
    InversionError
        On construction, if one of this does not hold.
    """

    latents: NDArray[np.float32]
    codes: NDArray[np.float32]
    iterations: int
    bundle_name: str
    bundle_digest: str
    transform: NDArray[np.float32] | None = None
    picture: str | None = None
    channels: NDArray[np.float16] | None = None

    def __post_init__(self) -> None:
        _check_floats("latents", self.latents, (None, None))
        _check_floats("codes", self.codes, (None, None))
        if self.channels is not None:
            _check_floats("channels", self.channels, (None,), np.float16)
        if self.transform is not None:
            _check_floats("transform", self.transform, (3, 3))
        _check_bundle_named(self.bundle_name, self.bundle_digest)
        if self.picture is not None and not is_sha256(self.picture):
            raise InversionError("the inversion's picture is no SHA-256; invert the picture again")
        if _COUNT.fullmatch(str(self.iterations)) is None:
            raise InversionError(f"an inversion cannot have {self.iterations} iterations")
        if not (self.codes[:, -1] == self.iterations).all():
            raise InversionError(
                f"the last column of the inversion's codes does not count {self.iterations} "
                "iterations, so the codes are damaged; invert the picture again"
            )


def write_inversion(
    path: str | Path, data: InversionData, latent_average: NDArray[np.float32] | None = None
) -> None:
    """Write an inversion file, atomically.

    Parameters
    ----------
    path:
        The file to write; an existing one is replaced.
    data:
        What to store; it is stored without loss.
    latent_average:
        float32 [L,W], :meth:`Bundle.latent_average`; with None, latents are stored whole.

    Raises
    ------
    InversionError
        If the file cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "version": VERSION if data.channels is None else CHANNELS_VERSION,
        "bundle": data.bundle_name,
        "bundle_digest": data.bundle_digest,
        "iterations": str(data.iterations),
    }
    metadata |= {} if data.picture is None else {"picture": data.picture}
    style = None if latent_average is None else shared_style(data.latents, latent_average)
    tensors: dict[str, NDArray[Any]] = {"codes": data.codes}
    tensors |= {"latents": data.latents} if style is None else {"w": style}
    tensors |= {} if data.transform is None else {"transform": data.transform}
    tensors |= {} if data.channels is None else {"channels": data.channels}
    write_atomically(Path(path), serialize(tensors, metadata), InversionError)


def read_inversion(
    path: str | Path, latent_average_of: LatentAverageOf | None = None
) -> InversionData:
    """Read an inversion file.

    Parameters
    ----------
    path:
        The file.
    latent_average_of:
        Where to find a bundle's latent average; with None, only files that store their latents
        whole can be read.

    Raises
    ------
    InversionError
        If the file cannot be read, is damaged, or needs an average that is not found.
    """
    path = Path(path)
    content = read_regular(path, MAX_FILE_SIZE, InversionError)
    try:
        file = parse(content)
    except ValueError as error:
        raise InversionError(f"{path} {error}; invert the picture again") from None
    try:
        return _interpret(file, latent_average_of)
    except InversionError as error:
        raise InversionError(f"{path}: {error}") from None


def check_belongs(data: InversionData, bundle: Bundle) -> None:
    """Refuse an inversion that was made with another bundle.

    Raises
    ------
    InversionError
        If the digests of the bundles or the shapes differ; the text names both bundles.
    """
    manifest = bundle.manifest
    if data.bundle_digest != bundle.digest:
        raise InversionError(
            f"the inversion was made with bundle {data.bundle_name!r} "
            f"({data.bundle_digest[:12]}) and does not belong to bundle {manifest.name!r} "
            f"({bundle.digest[:12]}); name its own bundle, or invert the picture with this one"
        )
    pairs = sum(layer.shape[0] * layer.shape[1] for layer in manifest.tuned_layers)
    shapes: tuple[tuple[str, NDArray[Any] | None, tuple[int, ...]], ...] = (
        ("codes", data.codes, (len(manifest.tuned_layers), manifest.code_width + 1)),
        ("latents", data.latents, (manifest.num_latents, manifest.style_width)),
        ("channels", data.channels, (pairs,)),
    )
    for name, array, shape in shapes:
        if array is not None and array.shape != shape:
            raise InversionError(
                f"the inversion of bundle {data.bundle_name!r} has {name} of shape "
                f"{list(array.shape)} where bundle {manifest.name!r} has {list(shape)}, so it is "
                "damaged; invert the picture again"
            )


def shared_style(
    latents: NDArray[np.float32], latent_average: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """Find the style vector that all rows of the latents share.

    Rounded addition is monotone, so fl(w + a) >= l holds from some smallest w up: found per row by
    bisection over the float32 numbers in their order. If any w solves all rows, it is not below the
    largest of these; and then the largest one solves all rows, too.

    Parameters
    ----------
    latents, latent_average:
        float32 [L,W].

    Returns
    -------
    float32 [W] such that ``w + latent_average`` is ``latents``, bit by bit; None if there is none.
    """
    if latents.shape != latent_average.shape:
        return None
    low = np.full(latents.shape, -_LARGEST_FLOAT32, np.int64)
    high = np.full(latents.shape, _LARGEST_FLOAT32, np.int64)
    with np.errstate(over="ignore"):
        while (low < high).any():
            middle = (low + high) // 2
            enough = _from_rank(middle) + latent_average >= latents
            high = np.where(enough, middle, high)
            low = np.where(enough, low, middle + 1)
        style = _from_rank(low.max(axis=0))
        found = style + latent_average
    return style if found.tobytes() == latents.tobytes() else None


def _from_rank(rank: NDArray[np.int64]) -> NDArray[np.float32]:
    """Give the float32 number that stands ``rank`` places above 0 (below, where it is negative)."""
    bits = np.where(rank < 0, -rank + (1 << 31), rank)
    return bits.astype(np.uint32).view(np.float32)


def _interpret(file: TensorFile, latent_average_of: LatentAverageOf | None) -> InversionData:
    metadata = file.metadata
    if metadata.get("format") != FORMAT:
        raise InversionError("this is not an inversion file; give one that `invert` wrote")
    version = _entry(metadata, "version")
    if version not in (VERSION, CHANNELS_VERSION):
        raise InversionError(
            f"the file has format version {version[:20]!r} and this runtime reads versions "
            f"{VERSION} and {CHANNELS_VERSION}; update hyperstyle-rt or invert the picture again"
        )
    iterations = _entry(metadata, "iterations")
    if _COUNT.fullmatch(iterations) is None:
        raise _damaged(f"counts {iterations[:20]!r} iterations")
    bundle, digest = _entry(metadata, "bundle"), _entry(metadata, "bundle_digest")
    _check_bundle_named(bundle, digest)  # before anybody looks the bundle up by it
    codes = _tensor(file, "codes")
    if "w" in file.tensors:
        average = latent_average_of and latent_average_of(bundle, digest)
        if average is None:
            raise InversionError(
                f"the inversion was made with bundle {bundle!r} ({digest[:12]}), which is not at "
                "hand; name it with --bundle or open it first, or invert the picture again"
            )
        latents = _latents(file, average)
    else:
        latents = _tensor(file, "latents")
    return InversionData(
        latents=latents,
        codes=codes,
        iterations=int(iterations),
        bundle_name=bundle,
        bundle_digest=digest,
        transform=file.tensors.get("transform"),
        picture=metadata.get("picture"),
        channels=_tensor(file, "channels") if version == CHANNELS_VERSION else None,
    )


def _latents(file: TensorFile, average: NDArray[np.float32]) -> NDArray[np.float32]:
    if "latents" in file.tensors:
        raise _damaged("holds both w and latents")
    style = file.tensors["w"]
    _check_floats("w", style, (average.shape[1],))
    with np.errstate(over="ignore"):  # an infinity is refused with a sentence
        return style + average


def _tensor(file: TensorFile, name: str) -> NDArray[Any]:
    if name not in file.tensors:
        raise _damaged(f"lacks the tensor {name}")
    return file.tensors[name]


def _entry(metadata: Mapping[str, str], key: str) -> str:
    if key not in metadata:
        raise _damaged(f"lacks the metadata entry {key}")
    return metadata[key]


def _damaged(problem: str) -> InversionError:
    return InversionError(f"the file is damaged, it {problem}; invert the picture again")


def _check_bundle_named(name: str, digest: str) -> None:
    if not is_plain_name(name) or not is_sha256(digest):
        raise InversionError(
            "the inversion does not name the bundle it was made with; invert the picture again"
        )


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
