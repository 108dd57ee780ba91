"""Protocol buffers as ONNX files are written in: fields read and written, without a schema.

The runtime has no onnx. What it changes in a graph are whole fields (inputs, initializers); all
others are copied byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
_FIXED = {FIXED64: 8, FIXED32: 4}
_LONGEST_VARINT = 10  # bytes


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Attributes
    ----------
    number:
        Of the field, in the message's schema.
    value:
        An integer of a varint, else the content.
    raw:
        The whole field as it is written, with its number.
    """

    number: int
    value: int | bytes
    raw: bytes

    @property
    def content(self) -> bytes:
        """The content of a text or a message; ValueError for a number."""
        if isinstance(self.value, int):
            raise ValueError(f"field {self.number} is a number")
        return self.value

    @property
    def text(self) -> str:
        """The content as text."""
        return self.content.decode("utf-8")


def fields(message: bytes) -> Iterator[Field]:
    """Read the fields of a message in their order; ValueError if it is damaged."""
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        kind = key & 7
        value: int | bytes
        if kind == VARINT:
            value, at = _varint(message, at)
        else:
            if kind == BYTES:
                length, at = _varint(message, at)
            elif kind in _FIXED:
                length = _FIXED[kind]
            else:
                raise ValueError(f"unknown wire type {kind}")
            if at + length > len(message):
                raise ValueError("a field is longer than its message")
            value = message[at : at + length]
            at += length
        yield Field(key >> 3, value, message[start:at])


def varints(field: Field) -> tuple[int, ...]:
    """The integers of a repeated field: of one that is written alone, or of many, packed."""
    if isinstance(field.value, int):
        return (field.value,)
    found, at = [], 0
    while at < len(field.value):
        value, at = _varint(field.value, at)
        found.append(value)
    return tuple(found)


def number(field: int, value: int) -> bytes:
    """A field that is an integer, 0 or more."""
    return _write_varint(field << 3 | VARINT) + _write_varint(value)


def content(field: int, value: bytes | str) -> bytes:
    """A field that is a text or a message."""
    data = value.encode("utf-8") if isinstance(value, str) else value
    return _write_varint(field << 3 | BYTES) + _write_varint(len(data)) + data


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST_VARINT):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at
    raise ValueError("a number has no end")


def _write_varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
