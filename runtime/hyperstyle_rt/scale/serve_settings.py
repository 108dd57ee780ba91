"""What a Ray Serve config file says of the service: its ``args``, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_args, get_type_hints

from ..errors import HyperStyleError


@dataclass(frozen=True, kw_only=True)
class ServeArguments:
    """Everything that the service on Ray Serve is set up with.

    Attributes
    ----------
    bundle:
        Name or directory, the same on every machine; None for the embedded default.
    backend, precision:
        As for :meth:`Model.load`.
    threads:
        CPU threads of each worker, which are reserved for it.
    gpus:
        Of each worker; 0.5 lets two share one.
    workers, least_workers:
        At most and at least so many replicas.
    waiting, seconds:
        Jobs in the queue, and seconds that one may take.
    keep, store:
        Inversions that are kept, and a directory that keeps them beyond the front.
    host, allow_remote:
        The host of the file's ``http_options``; whether other machines may reach it, which needs a
        token in ``HYPERSTYLE_RT_TOKEN``.
    """

    bundle: str | None = None
    backend: str = "auto"
    precision: str = "fp32"
    threads: int = 1
    gpus: float = 0.0
    workers: int = 1
    least_workers: int = 1
    waiting: int = 32
    seconds: float = 600.0
    keep: int = 200
    store: str | None = None
    host: str = "127.0.0.1"
    allow_remote: bool = False

    @classmethod
    def parse(cls, arguments: Mapping[str, Any]) -> ServeArguments:
        """Check the ``args`` of a file.

        Raises
        ------
        HyperStyleError
            If one is unknown, of another type, or out of range.
        """
        hints = get_type_hints(cls)
        known = {each.name for each in fields(cls) if each.default is not MISSING}
        for name, value in arguments.items():
            if name not in known:
                raise HyperStyleError(
                    f"args of the service have no {name!r}, only {', '.join(sorted(known))}"
                )
            kinds = get_args(hints[name]) or (hints[name],)
            fits = isinstance(value, kinds) or (float in kinds and isinstance(value, int))
            if not fits or (isinstance(value, bool) and bool not in kinds):
                wanted = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
                raise HyperStyleError(
                    f"args of the service have {name}: {value!r}, which is to be {wanted}"
                )
        parsed = cls(**arguments)
        for name in ("threads", "workers", "least_workers", "waiting", "seconds", "keep"):
            if getattr(parsed, name) < 1:
                raise HyperStyleError(f"args of the service have a {name} below 1; give at least 1")
        if parsed.least_workers > parsed.workers or parsed.gpus < 0:
            raise HyperStyleError(
                "args of the service have more least_workers than workers, or gpus below 0"
            )
        return parsed
