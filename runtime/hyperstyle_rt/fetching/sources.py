"""Where weights come from, as a user names it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import HyperStyleError
from ..formats.bundle import MANIFEST_NAME

HUB_PREFIX = "hf:"

_HUB = re.compile(
    r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(/(?P<file>[\w./+-]+))?"
)
_NAME = re.compile(r"[\w.+ ()-]{1,200}")


@dataclass(frozen=True)
class WebSource:
    """A file or a bundle's directory on the web.

    Attributes
    ----------
    url:
        Of the file; of a directory, with a slash at its end.
    """

    url: str

    @property
    def is_bundle(self) -> bool:
        """Whether it names a bundle's directory, or the manifest in it."""
        return self.url.endswith(("/", f"/{MANIFEST_NAME}"))

    @property
    def name(self) -> str:
        """Of the file."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2])


@dataclass(frozen=True)
class HubSource:
    """A repository of Hugging Face's hub, or a file in it.

    Attributes
    ----------
    repository:
        ``owner/name``.
    revision:
        Branch, tag or commit; None for the main branch.
    file:
        Path in the repository; None for a bundle, which the repository is.
    """

    repository: str
    revision: str | None
    file: str | None


@dataclass(frozen=True)
class LocalSource:
    """A file, or the directory of a bundle, on this machine."""

    path: Path


Source = WebSource | HubSource | LocalSource


def parse_source(text: str) -> Source:
    """Tell what a user means.

    Parameters
    ----------
    text:
        ``https://...``; ``hf:OWNER/NAME[@REVISION][/FILE]``; or a path.

    Raises
    ------
    HyperStyleError
        If it is none of these, or not over an encrypted connection.
    """
    if text.startswith(HUB_PREFIX):
        return _hub(text)
    if "://" in text:
        return _web(text)
    path = Path(text)
    if not path.exists():
        raise HyperStyleError(
            f"there is no {text} here; give a path, https://..., or {HUB_PREFIX}OWNER/NAME"
        )
    return LocalSource(path.absolute())


def _hub(text: str) -> HubSource:
    match = _HUB.fullmatch(text.removeprefix(HUB_PREFIX))
    file = match and match["file"]
    if match is None or (file and ".." in file.split("/")):
        raise HyperStyleError(
            f"{text} names no repository; write {HUB_PREFIX}OWNER/NAME, with @REVISION or /FILE "
            "after it"
        )
    return HubSource(match["repository"], match["revision"], file)


def _web(text: str) -> WebSource:
    check_address(text)
    source = WebSource(text)
    if not source.is_bundle and not is_file_name(source.name):
        raise HyperStyleError(
            f"{text} names no file; give the address of a file, or of a bundle's {MANIFEST_NAME}"
        )
    return source


def check_address(url: str) -> None:
    """Refuse addresses that nothing is fetched from.

    Raises
    ------
    HyperStyleError
        If what comes from there could be altered on its way, or it has a password in it.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise HyperStyleError(f"{url} is no address; copy it again") from None
    if parts.username is not None or parts.password is not None:
        raise HyperStyleError("an address with a password in it is not fetched; leave it out")
    local = host in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise HyperStyleError(
            f"{url} is not fetched: what comes over {parts.scheme} can be altered on its way; "
            "give an https address"
        )


def is_file_name(name: str) -> bool:
    """Whether a name can be that of a file in a folder of ours, on any system."""
    return _NAME.fullmatch(name) is not None and name.strip(". ") == name
