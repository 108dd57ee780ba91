"""Pictures and tables that are not on this machine's disk: URLs, read through pyarrow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PosixPath
from typing import Any

from ..batch.streams import LARGEST, read_picture_source
from ..errors import PictureError

SCHEMES = ("s3", "gs", "gcs", "abfs", "hdfs", "file", "http", "https")
"""What URLs begin with; the last two name one picture each, for a web server lists nothing."""

_BY_HTTP = ("http", "https")


class Url(PosixPath):
    """A URL where a path is expected: it has a name, a suffix and a parent like one.

    As text it has both slashes after its scheme, of which a path would keep one.
    """

    def __str__(self) -> str:
        """Give the URL."""
        scheme, _, rest = super().__str__().partition(":/")
        return f"{scheme}://{rest}" if scheme != "file" else f"file:///{rest}"

    def __fspath__(self) -> str:
        """Give the URL, which names nothing on the disk."""
        return str(self)


def as_location(path: Path) -> Path:
    """Recognise a URL that was read as a path."""
    scheme, colon, _ = path.parts[0].partition(":") if path.parts else ("", "", "")
    return Url(*path.parts) if colon and scheme in SCHEMES else path


def filesystem_of(location: Path) -> tuple[Any, str]:
    """The pyarrow file system that a location is in, and its path there.

    Raises
    ------
    PictureError
        If there is none, or what it needs is not installed.
    """
    from pyarrow import fs

    if not isinstance(location, Url):
        return fs.LocalFileSystem(), os.path.abspath(location)  # noqa: PTH100 - keeps links
    url = str(location)
    try:
        if url.partition(":")[0] in _BY_HTTP:
            import fsspec

            return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem("http"))), url
        filesystem, path = fs.FileSystem.from_uri(url)
    except (ImportError, OSError, ValueError) as error:
        raise PictureError(f"cannot reach {url}: {_first_line(error)}") from error
    return filesystem, path


def read_location(location: Path) -> bytes:
    """Read the content of a picture's file.

    Raises
    ------
    PictureError
        If it cannot be read, or is too large.
    """
    if not isinstance(location, Url):
        return read_picture_source(location)
    filesystem, path = filesystem_of(location)
    try:
        with filesystem.open_input_stream(path) as stream:
            data: bytes = stream.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise PictureError(f"cannot read {location}: {_first_line(error)}") from error
    if len(data) > LARGEST:
        raise PictureError(f"{location} has more than {LARGEST} bytes, so it is no picture")
    return data


def files_below(location: Url, suffixes: Sequence[str]) -> list[Url]:
    """List the files below a URL that have one of the suffixes; the URL itself if it is a file.

    Raises
    ------
    PictureError
        If there are none, or it cannot be looked into.
    """
    from pyarrow import fs

    if location.parts[0].removesuffix(":") in _BY_HTTP:
        return [location]
    filesystem, path = filesystem_of(location)
    try:
        if filesystem.get_file_info(path).type == fs.FileType.File:
            return [location]
        infos = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    except (OSError, ValueError) as error:
        raise PictureError(f"cannot look into {location}: {_first_line(error)}") from error
    root = path.rstrip("/")
    below = sorted(
        info.path.removeprefix(root).lstrip("/") for info in infos if info.type == fs.FileType.File
    )
    found = [
        Url(location, name)
        for name in below
        if Path(name).suffix.lower() in suffixes
        and not any(part.startswith(".") for part in Path(name).parts)
    ]
    if not found:
        raise PictureError(f"there is nothing in {location} that ends in {', '.join(suffixes)}")
    return found


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
