"""TIFF structures: the directories of TIFF files and of EXIF blocks."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

ORIENTATION = 0x0112
# Of a TIFF file's tags those that say something of the picture and not of the file.
_DESCRIPTIVE = {270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33_432}
_EXIF_DIRECTORY, _GPS_DIRECTORY, _INTEROPERABILITY = 34_665, 34_853, 40_965
_CLASSIC_KINDS = range(1, 13)  # not those of BigTIFF
_NUMBERS = (3, 4)  # kinds that Pillow takes for an orientation: 16 or 32 bits
_MARK = b"Exif\x00\x00"
_KINDS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # of whole numbers without sign
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}  # of BigTIFF


@dataclass(frozen=True)
class Entry:
    """An entry of a directory.

    Attributes
    ----------
    tag, kind, count : int
        As stored: what it says, the type of its values, and how many there are.
    at : int
        Where its values begin in the data.
    """

    tag: int
    kind: int
    count: int
    at: int

    @property
    def stop(self) -> int:
        """Where its values end."""
        return self.at + self.count * _SIZES.get(self.kind, 1)


@dataclass(frozen=True)
class Tiff:
    """A TIFF structure of either byte order, of TIFF or of BigTIFF.

    Attributes
    ----------
    data : bytes
        All of it.
    order : str
        ``<`` or ``>``.
    big : bool
        Whether its offsets have 64 bits.
    """

    data: bytes
    order: str
    big: bool

    @property
    def first(self) -> int:
        """Where the first directory is."""
        at, code = (8, "Q") if self.big else (4, "I")
        return int(struct.unpack_from(self.order + code, self.data, at)[0])

    def entries(self, directory: int) -> Iterator[Entry]:
        """Yield the entries of a directory; struct.error where one lies behind the end."""
        count_code, each, place = ("Q", 20, 12) if self.big else ("H", 12, 8)
        (count,) = struct.unpack_from(self.order + count_code, self.data, directory)
        start = directory + struct.calcsize(count_code)
        for at in range(start, start + count * each, each):
            code = "HHQ" if self.big else "HHI"
            tag, kind, values = struct.unpack_from(self.order + code, self.data, at)
            inside = values * _SIZES.get(kind, 1) <= each - place
            code = "Q" if self.big else "I"
            far = struct.unpack_from(self.order + code, self.data, at + place)[0]
            yield Entry(tag, kind, values, at + place if inside else far)

    def next_directory(self, directory: int) -> int:
        """Where the directory says where the next one is."""
        count_code, each = ("Q", 20) if self.big else ("H", 12)
        (count,) = struct.unpack_from(self.order + count_code, self.data, directory)
        return directory + struct.calcsize(count_code) + int(count) * each

    def numbers(self, entry: Entry) -> tuple[int, ...]:
        """The values of an entry; () if they are not whole numbers without sign."""
        code = _KINDS.get(entry.kind)
        if code is None:
            return ()
        if entry.stop > len(self.data):
            raise struct.error("behind the end")
        return struct.unpack_from(f"{self.order}{entry.count}{code}", self.data, entry.at)

    def content(self, entry: Entry) -> bytes:
        """The bytes of an entry's values."""
        if entry.stop > len(self.data):
            raise struct.error("behind the end")
        return self.data[entry.at : entry.stop]

    def with_number(self, entry: Entry, value: int) -> bytes:
        """The data with another first value of an entry."""
        changed = bytearray(self.data)
        struct.pack_into(self.order + _KINDS[entry.kind], changed, entry.at, value)
        return bytes(changed)


def open_tiff(data: bytes) -> Tiff | None:
    """Recognise a TIFF structure by its first bytes."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return None
    (version,) = struct.unpack_from(order + "H", data, 2)
    return Tiff(data, order, version == 43) if version in (42, 43) else None


def block(data: bytes) -> bytes:
    """EXIF data without the marks before it, of which some writers set several."""
    while data.startswith(_MARK):
        data = data[len(_MARK) :]
    return data


def orientation(data: bytes) -> int | None:
    """The orientation tag of an EXIF block as it stands; None if it has none or is malformed."""
    found = _orientation_entry(data)
    if found is None:
        return None
    return found[0].numbers(found[1])[0]


def for_upright_pixels(data: bytes) -> bytes:
    """An EXIF block whose orientation is 1, and whose thumbnail is no longer pointed at."""
    found = _orientation_entry(data)
    if found is not None:
        data = found[0].with_number(found[1], 1)
    tiff = open_tiff(data)
    try:
        if tiff is not None and not tiff.big:
            changed = bytearray(data)
            struct.pack_into("I", changed, tiff.next_directory(tiff.first), 0)
            data = bytes(changed)
    except struct.error:  # malformed: kept as it was
        pass
    return data


def from_tiff(tiff: Tiff) -> bytes | None:
    """Make an EXIF block of what a TIFF file says beside its pixels; None if that is nothing.

    Description, camera, dates, author, copyright and resolution of the first directory, and the
    directories of EXIF and GPS. The orientation is 1.
    """
    entries = {entry.tag: entry for entry in tiff.entries(tiff.first)}
    first = [_stored(tiff, entries[tag]) for tag in sorted(_DESCRIPTIVE & entries.keys())]
    below = {
        tag: [
            _stored(tiff, entry)
            for entry in tiff.entries(tiff.numbers(entries[tag])[0])
            if entry.kind in _CLASSIC_KINDS and entry.tag != _INTEROPERABILITY
        ]
        for tag in (_EXIF_DIRECTORY, _GPS_DIRECTORY)
        if tag in entries
    }
    if not first and not below:
        return None
    upright = (ORIENTATION, 3, 1, struct.pack(tiff.order + "H", 1))
    at = 8
    pointers = {tag: 0 for tag in below}
    for _ in range(2):  # the second time with the places that the first has found
        links = [(tag, 4, 1, struct.pack(tiff.order + "I", to)) for tag, to in pointers.items()]
        block_ = _directory(tiff.order, sorted([*first, upright, *links]), at)
        for tag, stored in below.items():
            pointers[tag] = at + len(block_)
            block_ += _directory(tiff.order, stored, pointers[tag])
    mark = b"II" if tiff.order == "<" else b"MM"
    return mark + struct.pack(tiff.order + "HI", 42, at) + block_


def _stored(tiff: Tiff, entry: Entry) -> tuple[int, int, int, bytes]:
    return entry.tag, entry.kind, entry.count, tiff.content(entry)


def _directory(order: str, stored: list[tuple[int, int, int, bytes]], at: int) -> bytes:
    """A directory that lies at `at`, and behind it the values that it has no room for."""
    head, values = struct.pack(order + "H", len(stored)), b""
    behind = at + 2 + 12 * len(stored) + 4
    for tag, kind, count, content in stored:
        place = content.ljust(4, b"\x00")
        if len(content) > 4:
            place = struct.pack(order + "I", behind + len(values))
            values += content + bytes(len(content) % 2)
        head += struct.pack(order + "HHI", tag, kind, count) + place
    return head + bytes(4) + values


def _orientation_entry(data: bytes) -> tuple[Tiff, Entry] | None:
    tiff = open_tiff(data)
    if tiff is None:
        return None
    try:
        for entry in tiff.entries(tiff.first):
            if entry.tag == ORIENTATION and entry.kind in _NUMBERS and entry.count == 1:
                return tiff, entry
    except struct.error:
        pass
    return None
