"""A small sound inversion file, and files that must be refused, each named for its trick."""

import json
import struct

import numpy as np
from safetensors.numpy import save

DIGEST = "0123456789abcdef" * 4

METADATA = {
    "format": "hyperstyle-rt-inversion",
    "version": "1",
    "bundle": "tiny",
    "bundle_digest": DIGEST,
    "iterations": "5",
}

_codes = np.linspace(-2, 2, 3 * 13, dtype=np.float32).reshape(3, 13)
_codes[:, -1] = 5
TENSORS = {
    "latents": np.linspace(-1, 1, 10 * 16, dtype=np.float32).reshape(10, 16),
    "codes": _codes,
    "transform": np.array([[0.5, 0, 10], [0, 0.5, 20], [0, 0, 1]], np.float32),
}

GOOD = save(TENSORS, METADATA)

# What the readers of these files get as their bundle's average, ready to overflow.
AVERAGE = np.full((10, 16), 1e38, np.float32)

REMOVED = object()


def tensors(**changes: object) -> bytes:
    """The sound file with tensors replaced, added or removed."""
    changed = {k: v for k, v in {**TENSORS, **changes}.items() if v is not REMOVED}
    return save(changed, METADATA)


def metadata(**changes: object) -> bytes:
    """The sound file with metadata replaced, added or removed."""
    changed = {k: v for k, v in {**METADATA, **changes}.items() if v is not REMOVED}
    return save(TENSORS, changed)


def raw(header: bytes | dict, content: bytes = b"") -> bytes:
    """A file of this header, which the library would not write."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def _with(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed[0, 0] = value
    return changed


def _renamed(old: bytes, new: bytes) -> bytes:
    """The sound file with some bytes of its header replaced by as many others."""
    assert GOOD.count(old) == 1
    assert len(old) == len(new)
    return GOOD.replace(old, new)


def _counting(count: float) -> np.ndarray:
    changed = _codes.copy()
    changed[:, -1] = count
    return changed


def _of(dtype: str, shape: list[int], size: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}


# name: (the file, what the error says)
ATTACKS = {
    # The container.
    "empty": (b"", "is not a safetensors file"),
    "pickle": (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os.", "not a safetensors"),
    "truncated": (GOOD[:-1], "is not a safetensors file"),
    "trailing_byte": (GOOD + b"\0", "is not a safetensors file"),
    "header_beyond_the_file": (struct.pack("<Q", len(GOOD)) + GOOD[8:], "not a safetensors"),
    "header_of_exabytes": (struct.pack("<Q", 2**63) + GOOD[8:], "not a safetensors"),
    "header_not_json": (raw(b"{"), "is not a safetensors file"),
    "header_a_list": (raw(b"[]"), "is not a safetensors file"),
    "header_deep": (raw(b'{"__metadata__":{},"w":' + b"[" * 50_000), "is not a safetensors file"),
    "header_not_utf_8": (raw(b'{"__metadata__":{"\xff":""}}'), "is not a safetensors file"),
    "overlap": (
        raw({"w": _of("F32", [1], 4), "codes": _of("F32", [1], 4)}, b"\0" * 4),
        "is not a safetensors file",
    ),
    "size_overflows": (raw({"w": _of("F32", [2**62, 4], 16)}, b"\0" * 16), "not a safetensors"),
    "shape_overflows": (
        raw({"w": _of("F32", [0, 2**63], 0)}),
        "holds a tensor of a type or shape that numpy does not have",
    ),
    "type_numpy_lacks": (
        raw({"w": _of("BF16", [2], 4)}, b"\0" * 4),
        "holds a tensor of a type or shape that numpy does not have",
    ),
    "metadata_of_numbers": (raw({"__metadata__": {"version": 1}}), "is not a safetensors file"),
    "metadata_twice": (
        raw(b'{"__metadata__":{"format":"x","format":"hyperstyle-rt-inversion"}}'),
        "gives the key 'format' twice",
    ),
    "tensor_twice": (
        raw(b"{%s,%s}" % ((b'"w":%s' % json.dumps(_of("F32", [1], 4)).encode(),) * 2), b"\0" * 4),
        "gives the key 'w' twice",
    ),
    # What it says it is.
    "no_metadata": (save(TENSORS), "this is not an inversion file"),
    "metadata_null": (raw(b'{"__metadata__":null}'), "this is not an inversion file"),
    "other_format": (metadata(format="pt"), "this is not an inversion file"),
    "version_absent": (metadata(version=REMOVED), "lacks the metadata entry version"),
    "version_of_tomorrow": (metadata(version="3"), "version '3' and this runtime reads version"),
    "bundle_absent": (metadata(bundle=REMOVED), "lacks the metadata entry bundle"),
    "bundle_is_a_path": (metadata(bundle="../tiny"), "does not name the bundle"),
    "bundle_of_escapes": (metadata(bundle="\x1b[2J\n"), "does not name the bundle"),
    "digest_absent": (metadata(bundle_digest=REMOVED), "lacks the metadata entry bundle_digest"),
    "digest_short": (metadata(bundle_digest=DIGEST[1:]), "does not name the bundle"),
    "digest_of_capitals": (metadata(bundle_digest=DIGEST.upper()), "does not name the bundle"),
    "count_absent": (metadata(iterations=REMOVED), "lacks the metadata entry iterations"),
    "count_of_words": (metadata(iterations="five"), "counts 'five' iterations"),
    "count_negative": (metadata(iterations="-5"), "counts '-5' iterations"),
    "count_fraction": (metadata(iterations="5.0"), "counts '5.0' iterations"),
    "count_padded": (metadata(iterations="5\n"), "counts '5\\n' iterations"),
    "count_of_other_digits": (metadata(iterations="\u0665"), "counts '\u0665' iterations"),
    "count_of_many_digits": (metadata(iterations="5" * 10_000), "counts '5555"),
    "count_of_none": (metadata(iterations="0"), "does not count 0 iterations"),
    "count_of_another": (metadata(iterations="4"), "does not count 4 iterations"),
    # The tensors.
    "no_tensors": (save({}, METADATA), "lacks the tensor codes"),
    "codes_renamed": (_renamed(b'"codes"', b'"Codes"'), "lacks the tensor codes"),
    "codes_of_doubles": (tensors(codes=_codes.astype(np.float64)), "codes must be float32"),
    "codes_of_halves": (tensors(codes=_codes.astype(np.float16)), "codes must be float32"),
    "codes_of_integers": (_renamed(b'"F32","shape":[3,13]', b'"I32","shape":[3,13]'), "codes must"),
    "codes_flat": (tensors(codes=_codes.ravel()), "codes must be float32 [?, ?]"),
    "codes_with_batch": (tensors(codes=_codes[None]), "codes must be float32 [?, ?]"),
    "codes_empty": (tensors(codes=np.zeros((0, 13), np.float32)), "codes must be float32"),
    "codes_without_columns": (tensors(codes=np.zeros((3, 0), np.float32)), "codes must be"),
    "codes_not_a_number": (tensors(codes=_with(_codes, np.nan)), "NaN or infinity in the"),
    "codes_infinite": (tensors(codes=_with(_codes, -np.inf)), "NaN or infinity in the"),
    "codes_count_a_fraction": (tensors(codes=_counting(5.5)), "does not count 5 iterations"),
    "codes_count_nearly": (tensors(codes=_counting(5.0000005)), "does not count 5 iterations"),
    "codes_count_unevenly": (
        tensors(codes=np.where(_codes == _codes[0, -1], [[5], [5], [4]], _codes).astype("f4")),
        "does not count 5 iterations",
    ),
    "latents_absent": (tensors(latents=REMOVED), "lacks the tensor latents"),
    "latents_twice": (tensors(w=np.zeros(16, np.float32)), "holds both w and latents"),
    "latents_flat": (tensors(latents=np.zeros(16, np.float32)), "latents must be float32 [?, ?]"),
    "latents_of_doubles": (tensors(latents=np.zeros((10, 16))), "latents must be float32"),
    "latents_not_a_number": (
        tensors(latents=_with(TENSORS["latents"], np.nan)),
        "NaN or infinity in the inversion's latents",
    ),
    "w_of_doubles": (tensors(latents=REMOVED, w=np.zeros(16)), "w must be float32 [16]"),
    "w_of_another_width": (
        tensors(latents=REMOVED, w=np.zeros(15, np.float32)),
        "w must be float32 [16], not float32 [15]",
    ),
    "w_too_large_for_the_average": (
        tensors(latents=REMOVED, w=np.full(16, np.finfo(np.float32).max)),
        "NaN or infinity in the inversion's latents",
    ),
    "w_of_rows": (
        tensors(latents=REMOVED, w=np.zeros((1, 16), np.float32)),
        "w must be float32 [16]",
    ),
    "w_infinite": (
        tensors(latents=REMOVED, w=np.full(16, np.inf, np.float32)),
        "NaN or infinity in the inversion's w;",
    ),
    "transform_of_two_rows": (
        tensors(transform=np.eye(3, dtype=np.float32)[:2]),
        "transform must be float32 [3, 3]",
    ),
    "transform_not_a_number": (
        tensors(transform=_with(TENSORS["transform"], np.nan)),
        "NaN or infinity in the inversion's transform",
    ),
}
