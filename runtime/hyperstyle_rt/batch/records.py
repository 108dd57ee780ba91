"""The record that every result carries: which picture it was made of, and how.

It is a text chunk of the PNG itself, the first after the header. So there is no second file that
could disagree: a result appears under its name whole and with its record, or not at all, at
whatever instant a run is killed; it can be moved and renamed; and two runs can share a folder.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..formats import strict_json
from ..formats.fields import is_sha256

KEYWORD = b"hyperstyle-rt\0"
REPORT_FORMAT = "hyperstyle-rt-report"

_MAX_SIZE = 1 << 16
_HEADER = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"
_HEADER_SIZE = 33  # signature and IHDR chunk
_END = b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"
_ENDING = re.compile(r"\.[A-Za-z0-9_.]{1,60}")  # never a path


@dataclass(frozen=True)
class Record:
    """What a result tells about itself.

    Attributes
    ----------
    picture:
        SHA-256 of the picture's file.
    settings:
        All that decides what is written, as :meth:`Settings.to_json` gives it.
    computed:
        What computed it: ``backend``, ``provider`` and ``precision``.
    iterations:
        How many were done.
    face, faces:
        Which face of the photo this is, from 1, and of how many; 0 and 0 where the results are not
        named by faces.
    beside:
        What was written before the result, each by what follows the stem: ``.step1.png``.
    """

    picture: str
    settings: Mapping[str, Any]
    computed: Mapping[str, Any]
    iterations: int
    face: int
    faces: int
    beside: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Make the document in the PNG."""
        return {
            "format": "hyperstyle-rt-result",
            "version": 1,
            "picture": self.picture,
            "settings": dict(self.settings),
            "computed": dict(self.computed),
            "iterations": self.iterations,
            "face": self.face,
            "faces": self.faces,
            "beside": list(self.beside),
        }


def with_record(png: bytes, record: Record) -> bytes:
    """Put a record into an encoded PNG."""
    document = json.dumps(record.to_json(), separators=(",", ":"), allow_nan=False)
    chunk = b"tEXt" + KEYWORD + document.encode("ascii")
    sealed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:_HEADER_SIZE] + sealed + png[_HEADER_SIZE:]


def read_record(path: Path) -> Record | None:
    """Read the record of a result.

    Returns
    -------
    None if there is no such file, if it is not whole, or if it has no record of this version: then
    it is no result to rely on.
    """
    try:
        if not path.is_file():  # opening a pipe would block
            return None
        with path.open("rb") as file:
            document = _read_document(file.read(_MAX_SIZE))
            file.seek(-len(_END), 2)
            return _interpret(document) if file.read() == _END else None
    except (OSError, ValueError):  # ValueError: a NUL in the path, or the document is no JSON
        return None


def is_result(path: Path) -> bool:
    """Whether a file carries a record, of whatever version and state."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(_HEADER_SIZE + 8 + len(KEYWORD))
    except (OSError, ValueError):
        return False
    return head.startswith(_HEADER) and head.endswith(b"tEXt" + KEYWORD)


def is_report(path: Path) -> bool:
    """Whether there is a report of whatever version in this file.

    It is not read as strictly as a record: names of files in it need not be Unicode.
    """
    try:
        document = json.loads(path.read_bytes()) if _may_be_report(path) else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("format") == REPORT_FORMAT


def _may_be_report(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return REPORT_FORMAT.encode() in file.read(_HEADER_SIZE + 64)


def _read_document(head: bytes) -> object:
    """Parse what the first chunk after the header holds; None if that is no record."""
    start = _HEADER_SIZE + 8
    stop = start + int.from_bytes(head[start - 8 : start - 4], "big")
    kind, content, checksum = head[start - 4 : start], head[start:stop], head[stop : stop + 4]
    sealed = checksum == struct.pack(">I", zlib.crc32(kind + content))
    if not sealed or kind != b"tEXt" or not content.startswith(KEYWORD):
        return None
    return strict_json.parse(content.removeprefix(KEYWORD))


def _interpret(document: object) -> Record | None:
    """Check a document field by field; None if :meth:`Record.to_json` does not make such."""
    match document:
        case {
            "format": "hyperstyle-rt-result",
            "version": 1,
            "picture": str(picture),
            "settings": dict(settings),
            "computed": dict(computed),
            "iterations": int(iterations),
            "face": int(face),
            "faces": int(faces),
            "beside": [*beside],
            **others,
        } if not others and is_sha256(picture) and all(map(_is_ending, beside)):
            return Record(picture, settings, computed, iterations, face, faces, tuple(beside))
    return None


def _is_ending(value: object) -> bool:
    return isinstance(value, str) and _ENDING.fullmatch(value) is not None
