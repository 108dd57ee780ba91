"""The lock file: what was fetched from where, and its digests, so that it is the same next time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import HyperStyleError
from ..files import make_directory, read_regular, write_atomically
from ..formats import strict_json
from ..formats.fields import is_sha256
from .alone import alone

FORMAT = "hyperstyle-rt-lock"
VERSION = "1"
MAX_SIZE = 1 << 22


@dataclass(frozen=True)
class Pinned:
    """What was fetched from a source.

    Attributes
    ----------
    files:
        Name to SHA-256, 64 lower-case hexadecimal digits.
    license:
        What the source says of its licence; None where it says nothing.
    revision:
        Commit of a repository; None for other sources.
    """

    files: Mapping[str, str]
    license: str | None = None
    revision: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Make the entry of the file."""
        entry: dict[str, Any] = {"files": dict(sorted(self.files.items()))}
        entry |= {} if self.license is None else {"license": self.license}
        return entry | ({} if self.revision is None else {"revision": self.revision})


@dataclass
class Lock:
    """A lock file.

    Attributes
    ----------
    path:
        Need not exist.
    pinned:
        By the source as the user names it. That it is here says that its licence was agreed to.
    """

    path: Path
    pinned: dict[str, Pinned] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Lock:
        """Read a lock file; one that does not exist pins nothing.

        Raises
        ------
        HyperStyleError
            If it is damaged.
        """
        if not path.exists():
            return cls(path)
        try:
            document = strict_json.parse(read_regular(path, MAX_SIZE, HyperStyleError))
            if not isinstance(document, dict) or document.get("format") != FORMAT:
                raise ValueError("is no lock file")
            if document.get("version") != VERSION:
                raise ValueError(f"is of version {document.get('version')!r}, not {VERSION}")
            entries = document.get("sources")
            if not isinstance(entries, dict):
                raise ValueError("has no sources")
            return cls(path, {source: _pinned(entry) for source, entry in entries.items()})
        except ValueError as error:
            raise HyperStyleError(
                f"the lock file {path} {error}; restore it, or delete it to pin everything anew"
            ) from None

    def pin(self, source: str, pinned: Pinned) -> None:
        """Note what was fetched, beside what others have noted meanwhile, and write the file.

        Raises
        ------
        HyperStyleError
            If it cannot be written, or was damaged meanwhile.
        """
        with alone(f"lock file {self.path.resolve()}"):
            self.renew()
            self.pinned[source] = pinned
            document = {
                "format": FORMAT,
                "version": VERSION,
                "sources": {name: each.to_json() for name, each in sorted(self.pinned.items())},
            }
            make_directory(self.path.parent, HyperStyleError)
            text = json.dumps(document, indent=2)
            write_atomically(self.path, f"{text}\n".encode("ascii"), HyperStyleError)

    def renew(self) -> None:
        """Take what the file has by now; raises as :meth:`read`."""
        self.pinned = self.read(self.path).pinned


def _pinned(entry: object) -> Pinned:
    if not isinstance(entry, dict) or not isinstance(entry.get("files"), dict):
        raise ValueError("has an entry without files")
    files = entry["files"]
    for name, digest in files.items():
        if not set(name.split("/")).isdisjoint(("", ".", "..")):
            raise ValueError(f"names a file {name!r}, which none of a source can be")
        if not isinstance(digest, str) or not is_sha256(digest):
            raise ValueError(f"has no digest for {name}")
    for name in ("license", "revision"):
        if not isinstance(entry.get(name), str | None):
            raise ValueError(f"has a {name} that is no text")
    return Pinned(files, entry.get("license"), entry.get("revision"))
