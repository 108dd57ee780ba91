"""How a service is set up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from ..errors import HyperStyleError
from ..formats.manifest import BASE_PRECISION

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What each worker opens.

    Attributes
    ----------
    bundle:
        Directory of the bundle, absolute.
    adapted:
        Name to directory of the adapted bundles that inversions may be rendered with.
    backend, precision, threads, device:
        As for `Model.load`.
    """

    bundle: Path
    adapted: Mapping[str, Path] = field(default_factory=dict)
    backend: str = "auto"
    precision: str = BASE_PRECISION
    threads: int | None = None
    device: int | None = None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a service refuses.

    Attributes
    ----------
    body_bytes:
        Of a request.
    pixels:
        Of a picture; known from its header, before it is decoded.
    body_seconds:
        In which the whole body must have come.
    work_seconds:
        Of one inversion or rendering; its worker is stopped after that.
    waiting:
        Jobs in the queue.
    frames:
        Of a film.
    """

    body_bytes: int = 32 * MIB
    pixels: int = 50_000_000
    body_seconds: float = 30.0
    work_seconds: float = 600.0
    waiting: int = 32
    frames: int = 240


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How long inversions are kept.

    Attributes
    ----------
    most:
        How many; the oldest goes first.
    seconds:
        After which one is forgotten that nobody has asked for.
    directory:
        Where they are kept beyond the process; None for in memory only.
    """

    most: int = 200
    seconds: float = 3600.0
    directory: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may use a service.

    Attributes
    ----------
    host, port:
        Where it listens; port 0 for any that is free.
    token:
        What every request but those for the page and ``/health`` must bear; None for no token.
    origins:
        Web sites, beside its own page, whose scripts may use it (CORS).
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    origins: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """Everything that a service is set up with."""

    model: ModelSettings
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)
    keeping: Keeping = field(default_factory=Keeping)
    workers: int = 1


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's own, which no other can reach."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_access(access: Access, allow_remote: bool) -> None:
    """Refuse to listen to the world unless that was asked for, and guarded.

    Raises
    ------
    HyperStyleError
        If a public address lacks ``--allow-remote`` or a token, or the token is too short or cannot
        be sent.
    """
    if access.token is not None and len(access.token) < 16:
        raise HyperStyleError(
            "the token has fewer than 16 characters and could be guessed; make one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    if access.token is not None and not _fits_a_header(access.token):
        raise HyperStyleError(
            "the token has characters other than printable ASCII, or spaces around it, which a "
            "header cannot carry; make one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    if access.is_local:
        return
    if not allow_remote:
        raise HyperStyleError(
            f"other machines could reach {access.host}; add --allow-remote and a token, or listen "
            "on 127.0.0.1"
        )
    if access.token is None:
        raise HyperStyleError(
            "a service that other machines can reach needs a token; put one into the variable "
            "HYPERSTYLE_RT_TOKEN"
        )


def _fits_a_header(token: str) -> bool:
    return token.isascii() and token.isprintable() and token == token.strip()
