"""The record in a result."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hyperstyle_rt.batch.records import Record, is_result, read_record, with_record
from hyperstyle_rt.imaging.pictures import read_picture
from pictures import encode, photo, png_chunk
from PIL import Image

RECORD = Record(
    picture="0123456789abcdef" * 4,
    settings={"iterations": 5, "until": 1e-3, "align": "auto", "steps": True, "face": "größte"},
    computed={"backend": "cpu", "provider": "ONNX Runtime", "precision": "fp32"},
    iterations=3,
    face=1,
    faces=2,
    beside=(".face1.step1.png", ".face1.safetensors", ".pasted.png"),
)
PLAIN = encode(photo(), "PNG")
HEADER = 33


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.png"


def with_document(document: object) -> bytes:
    content = b"hyperstyle-rt\0" + json.dumps(document).encode()
    return PLAIN[:HEADER] + png_chunk(b"tEXt", content) + PLAIN[HEADER:]


def test_a_record_comes_back(path: Path) -> None:
    path.write_bytes(with_record(PLAIN, RECORD))
    assert read_record(path) == RECORD
    assert is_result(path)


def test_a_record_is_text_of_a_whole_png(path: Path) -> None:
    path.write_bytes(with_record(PLAIN, RECORD))
    image = Image.open(path)
    assert json.loads(image.text["hyperstyle-rt"]) == RECORD.to_json()
    assert np.array_equal(np.asarray(image), photo())
    assert np.array_equal(read_picture(path), photo())


def test_other_files_have_none(path: Path) -> None:
    assert read_record(path) is None and not is_result(path)
    for content in (b"", b"\x89PNG", PLAIN, encode(photo(), "JPEG"), with_text(b"Comment\0x")):
        path.write_bytes(content)
        assert read_record(path) is None
        assert not is_result(path)


def with_text(content: bytes) -> bytes:
    return PLAIN[:HEADER] + png_chunk(b"tEXt", content) + PLAIN[HEADER:]


def test_a_pipe_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    assert read_record(path) is None and not is_result(path)


GOOD = RECORD.to_json()
ALTERED: dict[str, Any] = {
    "other format": GOOD | {"format": "x"},
    "later version": GOOD | {"version": 2},
    "unknown field": GOOD | {"more": 1},
    "missing field": {key: value for key, value in GOOD.items() if key != "beside"},
    "no digest": GOOD | {"picture": "0123"},
    "path in a name": GOOD | {"beside": ["/../../x.png"]},
    "number for a name": GOOD | {"beside": [1]},
    "text for a list": GOOD | {"beside": ".x"},
    "text for a number": GOOD | {"faces": "2"},
    "list for settings": GOOD | {"settings": []},
    "list for computed": GOOD | {"computed": []},
    "no object": [GOOD],
}


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_record_is_none_but_marks_a_result(name: str, path: Path) -> None:
    path.write_bytes(with_document(GOOD))
    assert read_record(path) == RECORD
    path.write_bytes(with_document(ALTERED[name]))
    assert read_record(path) is None
    assert is_result(path)


def test_a_damaged_file_has_no_record(path: Path) -> None:
    whole = with_record(PLAIN, RECORD)
    twice = json.dumps(GOOD)[:-1] + ', "version": 1}'
    flipped = bytearray(whole)
    flipped[HEADER + 40] ^= 1
    for content in (
        whole[:-1],  # IEND is cut
        whole[: HEADER + 100],
        bytes(len(whole)),  # what a file system may leave after a power cut
        bytes(flipped),
        with_text(b"hyperstyle-rt\0" + twice.encode()),
        with_text(b"hyperstyle-rt\0{"),
    ):
        path.write_bytes(content)
        assert read_record(path) is None
    path.write_bytes(with_record(PLAIN, replace(RECORD, face=0, faces=0)))
    assert read_record(path) == replace(RECORD, face=0, faces=0)
