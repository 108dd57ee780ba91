"""Fetch weights that a user names: verified, pinned, kept where bundles are found by name."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import BundleError, HyperStyleError
from ..files import make_directory, sha256
from ..formats.bundle import (
    BESIDE,
    MANIFEST_NAME,
    MAX_MANIFEST_SIZE,
    PLANS_DIRECTORY,
    Bundle,
)
from ..formats.bundle_lookup import fetched_bundles
from ..formats.manifest import Manifest
from ..formats.manifest_entries import BundleFile
from ..user_cache import user_cache
from . import hub
from .alone import alone
from .lock import Lock, Pinned
from .sources import HubSource, LocalSource, Source, WebSource, parse_source
from .transfer import AsksForLogin, NotThere, OnBytes, download, link_or_copy

MAX_FILE = 1 << 35
MAX_TEXT = 1 << 22

Agrees = Callable[[str | None], bool]
"""Whether the user agrees to a licence, given what the source says of it."""


@dataclass(frozen=True)
class Options:
    """How something is fetched.

    Attributes
    ----------
    agrees:
        Asked once for each source.
    on_file:
        Called with a file's name before it is fetched; gives what is told of its bytes.
    digest:
        SHA-256 that a single file must have; None for whatever it has the first time.
    offline:
        Whether only what is here already counts.
    renew:
        Whether other content than the first time is taken.
    on_wait:
        Called if another fetch of the same is running, before it is waited for.
    """

    agrees: Agrees
    on_file: Callable[[str], OnBytes]
    digest: str | None = None
    offline: bool = False
    renew: bool = False
    on_wait: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Fetched:
    """What was fetched.

    Attributes
    ----------
    path:
        Of the file, or of the bundle's directory.
    name:
        Of the bundle; None for a file.
    pinned:
        What the lock file has of it.
    """

    path: Path
    name: str | None
    pinned: Pinned


class Supply(Protocol):
    """Gives the files of one source."""

    license: str | None
    revision: str | None

    def file(self, name: str, path: Path, limit: int, on_bytes: OnBytes) -> None:
        """Bring one to a path; raises :class:`NotThere` if the source has none of this name."""


def fetch(text: str, lock: Lock, options: Options) -> Fetched:
    """Fetch what a user names, unless it is here already.

    Parameters
    ----------
    text:
        See :func:`~.sources.parse_source`.

    Raises
    ------
    HyperStyleError
        If it cannot be fetched, the user does not agree to the licence, or it is not what it was
        when it was pinned.
    BundleError
        If it is a bundle, and damaged or of another version.
    """
    source = parse_source(text)
    if isinstance(source, LocalSource):
        text = str(source.path)
    if options.digest is not None and _is_bundle(source):
        raise HyperStyleError(
            f"{text} is a bundle, whose files have the digests of its manifest; leave out "
            "--sha256, which is that of a single file"
        )
    with alone(f"fetch {text}", options.on_wait):
        lock.renew()  # what was waited for is here now
        return _here(source, text, lock, options) or _brought(source, text, lock, options)


def _brought(source: Source, text: str, lock: Lock, options: Options) -> Fetched:
    """Bring what is not here, and pin it."""
    if options.offline and not isinstance(source, LocalSource):
        raise HyperStyleError(
            f"{text} is not here or damaged, and nothing is fetched offline; fetch it once with a "
            "connection"
        )
    pinned = lock.pinned.get(text)
    supply = _supply(source)
    fetched = (
        _bundle(source, supply, pinned, options)
        if _is_bundle(source)
        else _file(text, source, supply, pinned, options)
    )
    lock.pin(text, fetched.pinned)
    return fetched


def _is_bundle(source: Source) -> bool:
    if isinstance(source, WebSource):
        return source.is_bundle
    if isinstance(source, HubSource):
        return source.file is None
    return source.path.is_dir()


def _supply(source: Source) -> Supply:
    if isinstance(source, WebSource):
        return _Web(source)
    if isinstance(source, HubSource):
        return hub.Hub(source)
    return _Local(source.path)


def _here(source: Source, text: str, lock: Lock, options: Options) -> Fetched | None:
    """What was fetched before, if it is still whole."""
    pinned = lock.pinned.get(text)
    if pinned is None or options.renew:
        return None
    if _is_bundle(source):
        return _bundle_here(pinned)
    name = _name(source)
    if set(pinned.files) != {name}:
        raise HyperStyleError(
            f"the lock file {lock.path} has not the one file {name} of {text}; restore it, or pin "
            "what is there now with --renew"
        )
    digest = pinned.files[name]
    if options.digest not in (None, digest):
        raise HyperStyleError(
            f"{text} is pinned with the SHA-256 {digest}, not {options.digest}; correct --sha256, "
            "or take what is there now with --renew"
        )
    path = source.path if isinstance(source, LocalSource) else _place(text, name)
    return Fetched(path, None, pinned) if _is_whole(path, digest) else None


def _bundle_here(pinned: Pinned) -> Fetched | None:
    for directory in fetched_bundles().glob("[!.]*"):  # hidden: what was being replaced
        if _is_whole(directory / MANIFEST_NAME, pinned.files.get(MANIFEST_NAME)):
            bundle = Bundle.open(directory)
            with suppress(BundleError):  # a damaged one is brought again
                bundle.verify()
                return Fetched(directory, directory.name, pinned)
    return None


def _is_whole(path: Path, digest: str | None) -> bool:
    return path.is_file() and sha256(path) == digest


def _name(source: Source) -> str:
    """Of a single file."""
    if isinstance(source, WebSource):
        return source.name
    return source.path.name if isinstance(source, LocalSource) else Path(source.file or "").name


def _place(text: str, name: str) -> Path:
    return user_cache() / "files" / hashlib.sha256(text.encode()).hexdigest()[:16] / name


def _file(
    text: str, source: Source, supply: Supply, pinned: Pinned | None, options: Options
) -> Fetched:
    """One file: a checkpoint."""
    name = _name(source)
    path = source.path if isinstance(source, LocalSource) else _place(text, name)
    _agree(pinned, supply, options)
    if not isinstance(source, LocalSource):
        supply.file(name, path, MAX_FILE, options.on_file(name))
    digest = sha256(path)
    wanted = options.digest or (None if pinned is None or options.renew else pinned.files.get(name))
    if wanted is not None and digest != wanted:
        if not isinstance(source, LocalSource):
            path.unlink()
        raise HyperStyleError(
            f"{text} has the SHA-256 {digest}, not {wanted}: it is damaged or another file; "
            "fetch it again, or take it as it is with --renew"
        )
    return Fetched(path, None, Pinned({name: digest}, supply.license, supply.revision))


def _bundle(source: Source, supply: Supply, pinned: Pinned | None, options: Options) -> Fetched:
    """A bundle: its manifest, then every file that it lists, each as the manifest has it."""
    incoming = user_cache() / "incoming"
    manifest_path = (
        incoming / hashlib.sha256(repr(source).encode()).hexdigest()[:16] / MANIFEST_NAME
    )
    folder = manifest_path.parent
    supply.file(MANIFEST_NAME, manifest_path, MAX_MANIFEST_SIZE, options.on_file(MANIFEST_NAME))
    digest = sha256(manifest_path)
    if pinned is not None and not options.renew and pinned.files.get(MANIFEST_NAME) != digest:
        raise HyperStyleError(
            f"the bundle has changed since it was pinned (its manifest's SHA-256 is {digest}); "
            "take it as it is now with --renew"
        )
    manifest = Manifest.parse(manifest_path.read_bytes())
    supply.license = supply.license or manifest.license
    _agree(pinned, supply, options)
    target = fetched_bundles() / manifest.name
    there = target / MANIFEST_NAME
    if there.is_file() and not options.renew and sha256(there) != digest:
        raise HyperStyleError(
            f"another bundle {manifest.name!r} was fetched before; replace it with --renew"
        )
    files = _files(manifest)
    for name, file in files.items():
        path = folder / name
        if _is_whole(path, file.sha256):
            continue
        if _is_whole(target / name, file.sha256):
            link_or_copy(target / name, path)
        else:
            supply.file(name, path, file.size, options.on_file(name))
    _fetch_beside(supply, folder, options)
    _remove_others(folder, {MANIFEST_NAME, *files, *BESIDE})
    Bundle.open(folder).verify()
    _put_in_place(folder, target)
    digests = {name: file.sha256 for name, file in files.items()}
    pinned = Pinned({MANIFEST_NAME: digest, **digests}, supply.license, supply.revision)
    return Fetched(target, manifest.name, pinned)


def _files(manifest: Manifest) -> dict[str, BundleFile]:
    """Every file that a manifest lists, by its path in the bundle as all systems write it."""
    plans = {
        f"{PLANS_DIRECTORY}/{key}/{name}": file
        for key, table in manifest.plans.items()
        for name, file in table.items()
    }
    return {**manifest.files, **plans}


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove what earlier tries have left of files that the bundle has no longer."""
    for path in sorted(folder.rglob("*")):
        if path.relative_to(folder).as_posix() not in names and not path.is_dir():
            path.unlink()


def _fetch_beside(supply: Supply, folder: Path, options: Options) -> None:
    """Texts that a bundle may lack; stores that list no files ask for a login where there is none.

    What an earlier try has left of these is no part of this bundle.
    """
    for name in BESIDE:
        (folder / name).unlink(missing_ok=True)
        try:
            supply.file(name, folder / name, MAX_TEXT, options.on_file(name))
        except (NotThere, AsksForLogin):
            continue


def _put_in_place(folder: Path, target: Path) -> None:
    make_directory(target.parent, HyperStyleError)
    old = target.with_name(f".{target.name}.old")
    try:
        with alone(f"bundle {target}"):  # another source may have a bundle of this name
            shutil.rmtree(old, ignore_errors=True)
            if target.exists():
                target.rename(old)
            folder.rename(target)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise BundleError(f"cannot put the bundle into {target}: {error.strerror}") from None


def _agree(pinned: Pinned | None, supply: Supply, options: Options) -> None:
    """Ask for the licence, unless the user has agreed to this one before."""
    if pinned is not None and pinned.license == supply.license:
        return
    if not options.agrees(supply.license):
        raise HyperStyleError("nothing was fetched: the licence was not agreed to")


class _Web:
    """A file, or the files below a directory, of a web server."""

    def __init__(self, source: WebSource) -> None:
        self.license: str | None = None
        self.revision: str | None = None
        self._source = source

    def file(self, name: str, path: Path, limit: int, on_bytes: OnBytes) -> None:
        url = self._source.url
        if self._source.is_bundle:
            url = url.rpartition("/")[0] + "/" + name
        download(url, path, limit, on_bytes)


class _Local:
    """A bundle's directory on this machine."""

    def __init__(self, directory: Path) -> None:
        self.license: str | None = None
        self.revision: str | None = None
        self._directory = directory

    def file(self, name: str, path: Path, limit: int, on_bytes: OnBytes) -> None:
        source = self._directory / name
        if not source.is_file():
            raise NotThere(f"there is no {source}")
        make_directory(path.parent, HyperStyleError)
        try:
            shutil.copyfile(source, path)
        except OSError as error:
            raise HyperStyleError(f"cannot copy {source}: {error.strerror}") from None
