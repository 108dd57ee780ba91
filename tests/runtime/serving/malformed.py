"""Requests that a service must refuse, each named for its trick."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hyperstyle_rt.imaging.pictures import encode_picture

GOOD = (Path(__file__).parents[3] / "examples" / "portrait_0.png").read_bytes()
SIDE = 1100  # of a picture with more pixels than the service of these tests takes


@dataclass(frozen=True)
class Attack:
    """A request, and how it is to be refused.

    Attributes
    ----------
    says:
        What the sentence of the answer has in it; None where the answer is not the service's own.
    path, method, content, headers, files, data:
        Of the request, as httpx has them; ``{id}`` is an inversion that is there.
    """

    status: int
    says: str | None = ""
    path: str = "/v1/inversions"
    method: str = "POST"
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    files: Any = None
    data: Mapping[str, str] | None = None


def picture(content: bytes, says: str = "", status: int = 422, **form: str) -> Attack:
    """An upload of a file, under a name that leads elsewhere."""
    return Attack(status, says, files={"picture": ("../../../tmp/x.png", content)}, data=form)


def good(says: str, **form: str) -> Attack:
    """A picture that is none of the problem."""
    return picture(GOOD, says, **form)


def edit(body: Any, says: str = "", status: int = 422) -> Attack:
    """The body of an edit: JSON, or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    return Attack(status, says, "/v1/inversions/{id}/edits", content=content, headers=headers)


def body(content: bytes, kind: str, status: int, says: str = "") -> Attack:
    """An inversion with a body that httpx has not made."""
    return Attack(status, says, content=content, headers={"content-type": kind})


def file(content: bytes, says: str = "") -> Attack:
    """An upload of an inversion file."""
    return Attack(422, says, "/v1/inversion-files", files={"file": ("../x", content)})


def get(path: str, status: int = 404) -> Attack:
    """A path that is not there."""
    return Attack(status, None, path, "GET")


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    sealed = kind + data
    return struct.pack(">I", len(data)) + sealed + struct.pack(">I", zlib.crc32(sealed))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG that claims a size, whatever follows."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header, of any claimed length."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def multipart(*parts: tuple[str, bytes], boundary: str = "x", end: bool = True) -> bytes:
    """The body of a form, by hand: (headers, content)."""
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode()
        + content
        + b"\r\n"
        for head, content in parts
    )
    return body + (f"--{boundary}--\r\n".encode() if end else b"")


def _zip() -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1 << 20))
    return memory.getvalue()


_JPEG = encode_picture(Path("x.jpg"), np.zeros((64, 64, 3), np.uint8))
_WEBP = encode_picture(Path("x.webp"), np.zeros((64, 64, 3), np.uint8))
_LARGE = encode_picture(Path("x.png"), np.zeros((SIDE, SIDE, 3), np.uint8))
_FORM = "multipart/form-data; boundary=x"
_IN_FILE = 'name="picture"; filename="x"'
_TIFF_LOOP = b"II*\x00\x08\x00\x00\x00" + struct.pack("<HHHII", 1, 256, 4, 1, 64) + b"\x08\0\0\0"
_ENTRY = {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 4]}

ATTACKS: dict[str, Attack] = {
    # Files that are no pictures, or not whole.
    "an empty file": picture(b"", "empty"),
    "a text": picture(b"hello", "not a picture"),
    "a page": picture(b"<!doctype html><script>alert(1)</script>", "web page"),
    "a drawing that loads a file": picture(
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    ),
    "a program": picture(b"\x7fELF" + bytes(60), "not a picture"),
    "a PDF": picture(b"%PDF-1.7\n1 0 obj", "PDF"),
    "an archive": picture(_zip(), "not a picture"),
    "a pickle": picture(b"\x80\x04cos\nsystem\n(S'true'\ntR.", "not a picture"),
    "a PNG cut short": picture(GOOD[: len(GOOD) // 2], "cut short"),
    "a PNG of its header alone": picture(GOOD[:33], "cut short"),
    "a JPEG cut short": picture(_JPEG[: len(_JPEG) // 2]),
    "a WebP cut short": picture(_WEBP[: len(_WEBP) // 2]),
    "a PNG whose checksum is wrong": picture(GOOD[:40] + b"\x00" + GOOD[41:]),
    "a PNG whose pixels are noise": picture(png(64, 64, chunk(b"IDAT", b"noise" * 9))),
    "a PNG without pixels": picture(png(64, 64)),
    "an animation": picture(
        png(
            64,
            64,
            chunk(b"acTL", struct.pack(">II", 2, 0)),
            chunk(b"IDAT", zlib.compress(bytes(64 * 193))),
        )
    ),
    # Bombs: small files of many pixels.
    "a picture with too many pixels": picture(_LARGE, f"{SIDE} x {SIDE} pixels"),
    "a PNG that claims four gigapixels": picture(png(65535, 65535, chunk(b"IDAT", b"x"))),
    "a PNG of no size": picture(png(0, 64, chunk(b"IDAT", b"x"))),
    "a PNG of one endless row": picture(
        png(30_000, 40, chunk(b"IDAT", zlib.compress(bytes(1 << 20)))), "30000 x 40 pixels"
    ),
    "a GIF that claims much": picture(b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + bytes(6) + b";"),
    "a BMP that claims much": picture(
        b"BM" + struct.pack("<IHHIIiiHH", 54, 0, 0, 54, 40, 60000, -60000, 1, 24) + bytes(24)
    ),
    "a PPM that claims much": picture(b"P6 99999 99999 255\n"),
    "a PPM of a negative size": picture(b"P6 -1 -1 255\n"),
    "a WebP that claims much": picture(
        b"RIFF\x1e\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00" + bytes(4) + b"\xff" * 6 + bytes(8)
    ),
    "a TIFF whose directories go round": picture(_TIFF_LOOP),
    "a TIFF whose directory is elsewhere": picture(b"MM\x00*\xff\xff\xff\xff"),
    # Files that are two things.
    "a GIF that is a script": picture(b"GIF89a/*\x01\x00\x01\x00*/=1;alert(1)//"),
    "a PNG's signature before a page": picture(b"\x89PNG\r\n\x1a\n<html><script>"),
    "an archive behind a JPEG's head": picture(_JPEG[:20] + _zip()),
    "a HEIC of nothing": picture(struct.pack(">I", 24) + b"ftypheic" + bytes(12)),
    # Form fields.
    "no such method": good("no method 'nope'", method="nope"),
    "a path as method": good("method", method="../../etc/passwd"),
    "a method with a NUL": good("method", method="hyper\0style"),
    "a method of ten thousand letters": good("method", method="a" * 10_000),
    "a path as preset": good("then", then="../refine"),
    "too many iterations": good("iterations", iterations="101"),
    "a thousand digits of iterations": good("iterations", iterations="9" * 1000),
    "iterations in words": good("iterations", iterations="five"),
    "not a number of steps": good("steps", then="refine", steps="nan"),
    "negative steps": good("steps", then="refine", steps="-1"),
    "an alignment there is not": good("align", align="<script>"),
    "a negative face": good("face", face="-1"),
    "a face of no photo": good("face", align="always", face="9999"),
    "a picture without a name": body(
        multipart(('name="picture"', GOOD[:100])), _FORM, 422, "picture"
    ),
    "a form without a picture": body(multipart(('name="method"', b"x")), _FORM, 422, "picture"),
    "a form without its end": body(multipart((_IN_FILE, GOOD), end=False), _FORM, 422),
    "a form of nothing": body(b"", _FORM, 422),
    "a form without a boundary": body(b"x", "multipart/form-data", 400),
    "a form with another boundary": body(multipart((_IN_FILE, GOOD), boundary="y"), _FORM, 400),
    "a form of two thousand fields": body(
        multipart(*[(f'name="f{n}"', b"") for n in range(2000)]), _FORM, 400, "fields"
    ),
    "a form of two thousand files": body(
        multipart(*[(f'name="f{n}"; filename="f"', b"") for n in range(2000)]), _FORM, 400, "files"
    ),
    "JSON in the place of a form": body(b'{"picture": 1}', "application/json", 422, "picture"),
    "a body of no kind": body(GOOD, "application/octet-stream", 422, "picture"),
    # Inversion files.
    "an inversion file of text": file(b"hello"),
    "an inversion file whose header is endless": file(safetensors(b"{}", length=1 << 62)),
    "an inversion file whose header is cut": file(safetensors(b'{"latents":')),
    "an inversion file whose tensors are vast": file(
        safetensors(json.dumps({"latents": _ENTRY}).encode(), bytes(4))
    ),
    "an inversion file that nests": file(safetensors(b"[" * 50_000 + b"]" * 50_000)),
    "a picture as inversion file": file(GOOD),
    # Bodies of edits.
    "no JSON": edit(b"{", "JSON"),
    "JSON of another encoding": edit(b'{"amounts": {"sm\xefle": 1}}', status=400),
    "JSON that nests": edit(b"[" * 200_000, status=400),
    "JSON that nests as an object": edit(
        b'{"amounts":' * 50_000 + b"1" + b"}" * 50_000, status=400
    ),
    "a list": edit([]),
    "a field there is not": edit({"amounts": {}, "__proto__": {}}, "__proto__"),
    "an amount beyond all": edit({"amounts": {"smile": 1e9}}, "smile"),
    "an infinite amount": edit(b'{"amounts": {"smile": Infinity}}', "smile"),
    "an amount that overflows": edit(b'{"amounts": {"smile": 1e999}}', "smile"),
    "a path as direction": edit({"amounts": {"../../x": 1}}, "amounts"),
    "a direction there is not": edit({"amounts": {"smle": 1}}, "no direction 'smle'"),
    "a hundred directions": edit({"amounts": {f"d{n}": 1 for n in range(100)}}, "32"),
    "a picture of a gigapixel": edit({"size": 1 << 30}, "size"),
    "an endless film": edit({"sweep": {"direction": "smile", "frames": 10**9}}, "frames"),
    "a film of a negative length": edit({"sweep": {"direction": "smile", "frames": -5}}, "frames"),
    "a film of more frames than integers": edit(
        {"sweep": {"direction": "smile", "frames": 1 << 80}}, "frames"
    ),
    "a film that is too fast": edit({"sweep": {"direction": "smile"}, "rate": 1e9}, "rate"),
    "a film of a program": edit({"sweep": {"direction": "smile"}, "film": "exe"}, "film"),
    # Paths.
    "a file of the system": get("/../../../../etc/passwd"),
    "a file of the system, escaped": get("/%2e%2e/%2e%2e/%2e%2e/etc/passwd"),
    "a file of the system, escaped twice": get("/%252e%252e/etc/passwd"),
    "a NUL in a path": get("/app.js%00.png"),
    "the service's own code": get("/../http.py"),
    "an inversion by a path": get("/v1/inversions/..%2f..%2fetc%2fpasswd/file"),
    "an inversion that is not there": get("/v1/inversions/" + "A" * 22),
    "an inversion by a guess": get("/v1/inversions/%2a", 422),
    "a method of HTTP that nothing has": Attack(405, None, method="PUT"),
    "another site's script": Attack(403, "evil", headers={"origin": "http://evil.example"}),
    "an origin that is no URL": Attack(403, "http://[", headers={"origin": "http://["}),
    "a name that is none": Attack(403, "[", headers={"host": "["}),
    "another site's name": Attack(403, "evil", headers={"host": "evil.example"}),
}
