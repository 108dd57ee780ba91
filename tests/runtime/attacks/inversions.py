"""A small sound inversion file, and files that must be refused, each named for its trick."""

import json
import struct

import numpy as np
from safetensors.numpy import save

from . import manifests

DIGEST = "0123456789abcdef" * 4

METADATA = {
    "format": "hyperstyle-rt-inversion",
    "version": "3",
    "space": manifests.SPACE,
    "needs": '["codes"]',
    "code_space": manifests.CODE_SPACE,
    "num_latents": "10",
    "bundle": "tiny",
    "bundle_digest": DIGEST,
    "method": "hyperstyle",
    "settings": '{"iterations":5}',
    "iterations": "5",
    "computed": '{"backend":"cpu","precision":"fp32","provider":"a test"}',
}

_codes = np.linspace(-2, 2, 3 * 13, dtype=np.float32).reshape(3, 13)
_codes[:, -1] = 5
TENSORS = {
    "latents": np.linspace(-1, 1, 10 * 16, dtype=np.float32).reshape(10, 16),
    "codes": _codes,
    "transform": np.array([[0.5, 0, 10], [0, 0.5, 20], [0, 0, 1]], np.float32),
}

GOOD = save(TENSORS, METADATA)

REMOVED = object()


def tensors(changed_metadata: dict[str, object] | None = None, **changes: object) -> bytes:
    """The sound file with tensors, and metadata, replaced, added or removed."""
    changed = {k: v for k, v in {**TENSORS, **changes}.items() if v is not REMOVED}
    entries = {**METADATA, **(changed_metadata or {})}
    return save(changed, {k: v for k, v in entries.items() if v is not REMOVED})


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
    "version_of_tomorrow": (metadata(version="4"), "version '4' and this runtime reads version 3"),
    "version_of_yesterday": (metadata(version="1"), "version '1' and this runtime reads version 3"),
    "space_absent": (metadata(space=REMOVED), "lacks the metadata entry space"),
    "space_short": (metadata(space=DIGEST[1:]), "has no SHA-256 as its space"),
    "needs_absent": (metadata(needs=REMOVED), "lacks the metadata entry needs"),
    "needs_no_json": (metadata(needs="codes"), "has needs that is not JSON"),
    "needs_an_object": (metadata(needs="{}"), "has needs that are no list of texts"),
    "needs_of_numbers": (metadata(needs="[1]"), "has needs that are no list of texts"),
    "needs_deep": (metadata(needs="[" * 60_000), "has needs that is nested too deeply"),
    "needs_long": (metadata(needs=" " * 70_000), "has needs of more than 65536 characters"),
    "needs_twice": (metadata(needs='["codes","codes"]'), "lists a need twice"),
    "needs_what_is_to_come": (
        metadata(needs='["codes","textures"]'),
        "needs 'textures', which this version of hyperstyle-rt does not know; update",
    ),
    "needs_escapes": (metadata(needs='["\\u001b[2J"]'), "needs '\\x1b[2J', which this version"),
    "needs_without_tensor": (
        metadata(needs='["codes","channel_offsets"]'),
        "does not agree in needs and tensors about channel_offsets",
    ),
    "weights_without_need": (
        tensors({"needs": '["codes"]'}, weights=np.zeros(4, "f2")),
        "does not agree in needs and tensors about weights",
    ),
    "tensor_without_need": (
        metadata(needs="[]"),
        "does not agree in needs and tensors about codes",
    ),
    "code_space_absent": (metadata(code_space=REMOVED), "lacks the metadata entry code_space"),
    "code_space_of_capitals": (metadata(code_space=DIGEST.upper()), "SHA-256 as its code_space"),
    "method_absent": (metadata(method=REMOVED), "lacks the metadata entry method"),
    "method_is_a_path": (metadata(method="../psp"), "does not name the method"),
    "settings_absent": (metadata(settings=REMOVED), "lacks the metadata entry settings"),
    "settings_a_list": (metadata(settings="[]"), "has settings that are no JSON object"),
    "settings_twice": (metadata(settings='{"a":1,"a":2}'), "settings that gives the key 'a' twice"),
    "settings_not_a_number": (metadata(settings='{"until":NaN}'), "has settings that holds NaN"),
    "computed_absent": (metadata(computed=REMOVED), "lacks the metadata entry computed"),
    "computed_by_nobody": (metadata(computed="{}"), "say all of backend, provider, precision"),
    "computed_in_numbers": (
        metadata(computed='{"backend":1,"precision":2,"provider":3}'),
        "say all of backend, provider, precision",
    ),
    "rows_absent": (metadata(num_latents=REMOVED), "lacks the metadata entry num_latents"),
    "rows_of_words": (metadata(num_latents="ten"), "has 'ten' as its num_latents"),
    "rows_of_another_count": (metadata(num_latents="11"), "does not hold the 11 rows of latents"),
    "rows_beyond_memory": (
        tensors({"num_latents": "999999"}, latents=REMOVED, w=np.zeros(16, np.float32)),
        "counts 999999 rows of latents",
    ),
    "rows_that_fill_memory": (
        tensors({"num_latents": "4096"}, latents=REMOVED, w=np.zeros(65536, np.float32)),
        "counts 4096 rows of latents",
    ),
    "rows_of_none": (
        tensors({"num_latents": "0"}, latents=REMOVED, w=np.zeros(16, np.float32)),
        "counts 0 rows of latents",
    ),
    "picture_of_a_name": (metadata(picture="x.png"), "has no SHA-256 as its picture"),
    "bundle_absent": (metadata(bundle=REMOVED), "lacks the metadata entry bundle"),
    "bundle_is_a_path": (metadata(bundle="../tiny"), "does not name the bundle"),
    "bundle_of_escapes": (metadata(bundle="\x1b[2J\n"), "does not name the bundle"),
    "digest_absent": (metadata(bundle_digest=REMOVED), "lacks the metadata entry bundle_digest"),
    "digest_short": (metadata(bundle_digest=DIGEST[1:]), "SHA-256 as its bundle_digest"),
    "digest_of_capitals": (metadata(bundle_digest=DIGEST.upper()), "as its bundle_digest"),
    "count_absent": (metadata(iterations=REMOVED), "lacks the metadata entry iterations"),
    "count_of_words": (metadata(iterations="five"), "has 'five' as its iterations"),
    "count_negative": (metadata(iterations="-5"), "has '-5' as its iterations"),
    "count_fraction": (metadata(iterations="5.0"), "has '5.0' as its iterations"),
    "count_padded": (metadata(iterations="5\n"), "has '5\\n' as its iterations"),
    "count_of_other_digits": (metadata(iterations="\u0665"), "has '\u0665' as its iterations"),
    "count_of_many_digits": (metadata(iterations="5" * 10_000), "has '5555"),
    # The tensors.
    "no_tensors": (save({}, METADATA), "needs and tensors about codes"),
    "codes_renamed": (_renamed(b'"codes":', b'"Codes":'), "needs and tensors about codes"),
    "codes_of_doubles": (tensors(codes=_codes.astype(np.float64)), "codes must be float32"),
    "codes_of_halves": (tensors(codes=_codes.astype(np.float16)), "codes must be float32"),
    "codes_of_integers": (_renamed(b'"F32","shape":[3,13]', b'"I32","shape":[3,13]'), "codes must"),
    "codes_flat": (tensors(codes=_codes.ravel()), "codes must be float32 [?, ?]"),
    "codes_with_batch": (tensors(codes=_codes[None]), "codes must be float32 [?, ?]"),
    "codes_empty": (tensors(codes=np.zeros((0, 13), np.float32)), "codes must be float32"),
    "codes_without_columns": (tensors(codes=np.zeros((3, 0), np.float32)), "codes must be"),
    "codes_not_a_number": (tensors(codes=_with(_codes, np.nan)), "NaN or infinity in the"),
    "codes_infinite": (tensors(codes=_with(_codes, -np.inf)), "NaN or infinity in the"),
    "latents_absent": (tensors(latents=REMOVED), "must hold either w or latents"),
    "latents_twice": (tensors(w=np.zeros(16, np.float32)), "must hold either w or latents"),
    "latents_flat": (tensors(latents=np.zeros(10, np.float32)), "latents must be float32 [?, ?]"),
    "latents_of_doubles": (tensors(latents=np.zeros((10, 16))), "latents must be float32"),
    "latents_not_a_number": (
        tensors(latents=_with(TENSORS["latents"], np.nan)),
        "NaN or infinity in the inversion's latents",
    ),
    "w_of_doubles": (tensors(latents=REMOVED, w=np.zeros(16)), "w must be float32 [?]"),
    "w_empty": (tensors(latents=REMOVED, w=np.zeros(0, np.float32)), "w must be float32 [?]"),
    "w_of_rows": (
        tensors(latents=REMOVED, w=np.zeros((1, 16), np.float32)),
        "w must be float32 [?]",
    ),
    "w_infinite": (
        tensors(latents=REMOVED, w=np.full(16, np.inf, np.float32)),
        "NaN or infinity in the inversion's w;",
    ),
    "channel_offsets_of_floats": (
        tensors({"needs": '["codes","channel_offsets"]'}, channel_offsets=np.zeros(4, np.float32)),
        "channel_offsets must be float16 [?]",
    ),
    "channel_offsets_of_rows": (
        tensors({"needs": '["channel_offsets","codes"]'}, channel_offsets=np.zeros((2, 2), "f2")),
        "channel_offsets must be float16 [?]",
    ),
    "channel_offsets_infinite": (
        tensors({"needs": '["codes","channel_offsets"]'}, channel_offsets=np.full(4, np.inf, "f2")),
        "NaN or infinity in the inversion's channel_offsets",
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
