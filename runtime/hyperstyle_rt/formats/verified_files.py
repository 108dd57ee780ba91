"""Files of a bundle, read through one descriptor: what is verified is what is used."""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..closing import Closable
from ..errors import BundleError
from ..files import reason
from .manifest_entries import BundleFile

_HASHED_AT_ONCE = 1 << 20

# To open a pipe must not wait for a writer; O_BINARY is Windows'.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


@dataclass(frozen=True)
class VerifiedGraph:
    """A graph whose every byte has been compared with the manifest.

    Attributes
    ----------
    path:
        Path of the ONNX file, for messages and for tools that read files only.
    model:
        Content of the ONNX file.
    data:
        Name, as the graph's external tensors give it, to the content of a data file: mapped, read
        only. The mapping is closed with the last reference to it.
    """

    path: Path
    model: bytes
    data: Mapping[str, memoryview]


class BundleFileReader(Closable):
    """A regular file that is open for reading.

    Attributes
    ----------
    path:
        Its path, for messages.
    size:
        Its length in bytes when it was opened.
    """

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path = path
        self.size = size
        self._file = file

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, limit: int) -> bytes:
        """Read the whole file.

        Raises
        ------
        BundleError
            If it is larger than ``limit`` bytes or cannot be read.
        """
        if self.size <= limit:
            data = self._read(limit + 1)
            if len(data) <= limit:
                return data
        raise BundleError(
            f"{self.path} is larger than {limit} bytes, so it is not the kind of file expected"
        )

    def read_verified(self, listed: BundleFile) -> bytes:
        """Read the whole file and compare it with the manifest.

        Raises
        ------
        BundleError
            If it is altered or cannot be read.
        """
        self._check_size(listed)
        data = self._read(listed.size + 1)
        self._check(hashlib.sha256(data).hexdigest(), listed)
        return data

    def map_verified(self, listed: BundleFile) -> memoryview:
        """Map the file, read only, and compare the mapping with the manifest.

        The mapping outlives the reader. It lets go of the file when the last view of it goes.

        Raises
        ------
        BundleError
            If it is altered or cannot be read.
        """
        self._check_size(listed)
        try:
            mapped = memoryview(
                mmap.mmap(self._file.fileno(), listed.size, access=mmap.ACCESS_READ)
                if listed.size
                else b""
            )
        except (OSError, ValueError) as error:
            raise BundleError(f"cannot read {self.path}: {reason(error)}") from error
        digest = hashlib.sha256()
        for start in range(0, listed.size, _HASHED_AT_ONCE):
            digest.update(mapped[start : start + _HASHED_AT_ONCE])
        self._check(digest.hexdigest(), listed)
        return mapped

    def verify(self, listed: BundleFile) -> None:
        """Compare the file with the manifest, without holding its content.

        Raises
        ------
        BundleError
            If it is altered or cannot be read.
        """
        self._check_size(listed)
        digest = hashlib.sha256()
        while block := self._read(_HASHED_AT_ONCE):
            digest.update(block)
        self._check(digest.hexdigest(), listed)

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise BundleError(f"cannot read {self.path}: {reason(error)}") from error

    def _check_size(self, listed: BundleFile) -> None:
        if self.size != listed.size:
            raise BundleError(
                f"{self.path} has {self.size} bytes where the manifest says {listed.size}; "
                "restore the bundle or build it again"
            )

    def _check(self, digest: str, listed: BundleFile) -> None:
        if digest != listed.sha256:
            raise BundleError(
                f"{self.path} is altered, its SHA-256 is not the manifest's; "
                "restore the bundle or build it again"
            )


def opened(path: Path) -> BundleFileReader:
    """Open a regular file, or a symbolic link to one.

    Devices and pipes are refused before they are opened, and once more after that: the path may
    mean another file by then.

    Raises
    ------
    BundleError
        If there is no such file, or it is something else.
    """
    try:
        _check_regular(path, path.stat().st_mode)
        descriptor = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise BundleError(
            f"cannot open {path} ({reason(error)}); give the directory of a bundle, or restore it"
        ) from None
    file = os.fdopen(descriptor, "rb")
    try:
        status = os.fstat(descriptor)
        _check_regular(path, status.st_mode)
    except BaseException:
        file.close()
        raise
    return BundleFileReader(path, file, status.st_size)


def _check_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise BundleError(f"{path} is not a regular file; restore the bundle or build it again")
