"""``hyperstyle-rt serve``: the HTTP service and its page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BackendError, HyperStyleError
from . import options
from .terminal import error_console, print_line

if TYPE_CHECKING:
    from ..serving.settings import ServiceSettings

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt serve

hyperstyle-rt serve --bundle faces --workers 2 --store inversions

hyperstyle-rt serve --bundle engines/ffhq --adapted engines/toon --backend cuda

hyperstyle-rt serve --static site --also portraits

HYPERSTYLE_RT_TOKEN=... hyperstyle-rt serve --host 0.0.0.0 --allow-remote

curl -F picture=@face.png http://127.0.0.1:8000/v1/inversions
"""

TOKEN = "HYPERSTYLE_RT_TOKEN"

_ACCESS, _LIMITS, _KEEPING = "Access", "Limits", "What is kept"
_STATIC = "A page without a server"


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may use it."""

    host: Annotated[
        str,
        typer.Option(help="Address to listen on.", metavar="HOST", rich_help_panel=_ACCESS),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        typer.Option(
            "--port",
            "-p",
            min=0,
            max=65535,
            help="0 for any that is free.",
            metavar="N",
            rich_help_panel=_ACCESS,
        ),
    ] = 8000
    allow_remote: Annotated[
        bool,
        options.flag(
            "--allow-remote",
            says=f"Let other machines in; the variable {TOKEN} must hold a token.",
            panel=_ACCESS,
        ),
    ] = False
    origin: Annotated[
        list[str] | None,
        typer.Option(
            "--origin",
            help="Another web site whose scripts may use it, e.g. https://example.org. Can be "
            "repeated.",
            metavar="URL",
            show_default=False,
            rich_help_panel=_ACCESS,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused."""

    max_mebibytes: Annotated[
        int,
        typer.Option(min=1, max=512, help="Of a request.", metavar="MIB", rich_help_panel=_LIMITS),
    ] = 32
    max_megapixels: Annotated[
        int,
        typer.Option(min=1, max=250, help="Of a picture.", metavar="N", rich_help_panel=_LIMITS),
    ] = 50
    max_seconds: Annotated[
        float,
        typer.Option(
            min=1, help="Of an inversion or rendering.", metavar="S", rich_help_panel=_LIMITS
        ),
    ] = 600.0
    max_waiting: Annotated[
        int,
        typer.Option(min=1, help="In the queue.", metavar="N", rich_help_panel=_LIMITS),
    ] = 32


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """What is kept."""

    store: Annotated[
        Path | None,
        typer.Option(
            help="Directory that keeps inversions beyond the process. Default: in memory only.",
            metavar="DIR",
            show_default=False,
            rich_help_panel=_KEEPING,
        ),
    ] = None
    keep: Annotated[
        int,
        typer.Option(min=1, help="Inversions at most.", metavar="N", rich_help_panel=_KEEPING),
    ] = 200
    keep_minutes: Annotated[
        float,
        typer.Option(
            min=1,
            help="After which one is forgotten that nobody asks for.",
            metavar="N",
            rich_help_panel=_KEEPING,
        ),
    ] = 60.0


@dataclass(frozen=True, kw_only=True)
class StaticPage:
    """The page as a folder, where browsers compute."""

    directory: Annotated[
        Path | None,
        typer.Option(
            "--static",
            help="Write the page into this folder, which any web server can hand out, and end: "
            "visitors' browsers invert and edit, and no picture leaves them.",
            metavar="DIR",
            show_default=False,
            rich_help_panel=_STATIC,
        ),
    ] = None
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also",
            help="Another bundle that the folder offers. Can be repeated.",
            metavar="BUNDLE",
            show_default=False,
            rich_help_panel=_STATIC,
        ),
    ] = None
    onnxruntime_web: Annotated[
        Path | None,
        typer.Option(
            "--onnxruntime-web",
            help="Folder of the npm package onnxruntime-web. Default: in node_modules here, or "
            "in a folder above.",
            metavar="DIR",
            show_default=False,
            rich_help_panel=_STATIC,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ServeRequest:
    """Everything that `serve` is asked for."""

    bundle: options.Bundle = None
    adapted: Annotated[
        list[str] | None,
        typer.Option(
            help="An adapted bundle that renders its inversions, too. Can be repeated.",
            metavar="BUNDLE",
            show_default=False,
        ),
    ] = None
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            "-w",
            min=1,
            max=64,
            help="Processes that work at once; each opens the bundle and has a share of the "
            "threads. With two or more, edits do not wait for gradient steps.",
            metavar="N",
        ),
    ] = 1
    running: options.Running
    access: Access
    limits: Limits
    keeping: Keeping
    static: StaticPage
    quiet: options.Quiet = False


def serve(request: ServeRequest) -> None:
    """Invert and edit in a browser, or over HTTP: a page and an API.

    The page is at http://127.0.0.1:8000, the API's description at /openapi.json.
    Nothing that is sent leaves this machine, and no picture is logged. SIGTERM
    and Ctrl-C let what is at work end, for some seconds.
    """
    _check_together(request)
    if request.static.directory is not None:
        _write_static(request.static.directory, request)
        return
    missing = [name for name in ("fastapi", "uvicorn", "multipart") if find_spec(name) is None]
    if missing:
        raise BackendError(
            f"the service needs {missing[0]}, which is not installed; install "
            "'hyperstyle-rt[serve]'"
        )
    settings = settings_of(request)
    from ..serving.run import run
    from ..serving.service import Service

    with error_console().status("opening the bundle"):
        service = Service(settings)
        service.pool.start()

    def announce(url: str) -> None:
        if not request.quiet:
            computed = service.pool.computed
            print_line(
                f"{service.bundle.manifest.name} on {computed['provider']} "
                f"{computed['precision']}: {url}"
            )

    run(service, announce)


def _check_together(request: ServeRequest) -> None:
    """Refuse options of the service where a page without one is written, and the other way round.

    Raises
    ------
    HyperStyleError
        Names the first of them.
    """
    if request.static.directory is None:
        for option in _given(request.static):
            raise HyperStyleError(f"{option} goes with --static; add --static DIR")
        return
    of_service = {"--adapted": request.adapted, "--workers": request.workers > 1}
    given = [option for option, value in of_service.items() if value]
    for group in (request.running, request.access, request.limits, request.keeping):
        given += _given(group)
    for option in given:
        raise HyperStyleError(
            f"{option} is the service's, and --static writes a page without one; leave one out"
        )


def _given(group: Any) -> Iterator[str]:
    """The options of a group that have another value than without them."""
    for each in fields(group):
        if getattr(group, each.name) not in (each.default, []):
            yield f"--{each.name.replace('_', '-')}"


def _write_static(directory: Path, request: ServeRequest) -> None:
    """Write the page as a folder."""
    from ..formats.bundle import Bundle
    from ..formats.bundle_lookup import find_bundle
    from ..serving.static_page import write_static_page

    names = [request.bundle, *(request.static.also or ())]
    bundles = [Bundle.open(find_bundle(name)) for name in names]
    with error_console().status("writing the page"):
        write_static_page(directory, bundles, request.static.onnxruntime_web)
    if not request.quiet:
        print_line(f"{directory}: python -m http.server --directory {directory}")


def settings_of(request: ServeRequest) -> ServiceSettings:
    """The settings of the service.

    Raises
    ------
    HyperStyleError
        If a bundle is not there, or the address needs what is not given.
    """
    from ..backends.processors import useful_threads
    from ..formats.bundle import Bundle
    from ..formats.bundle_lookup import find_bundle
    from ..serving import settings

    access = settings.Access(
        host=request.access.host,
        port=request.access.port,
        token=os.environ.get(TOKEN) or None,
        origins=tuple(origin.rstrip("/") for origin in request.access.origin or ()),
    )
    settings.check_access(access, request.access.allow_remote)
    adapted = {}
    for named in request.adapted or ():
        opened = Bundle.open(find_bundle(named))
        if opened.manifest.base is None:
            raise HyperStyleError(
                f"{named} is no adapted bundle; name one that `build_engines.py --adapt` has made"
            )
        adapted[opened.manifest.name] = opened.directory
    running, limits, keeping = request.running, request.limits, request.keeping
    return settings.ServiceSettings(
        model=settings.ModelSettings(
            bundle=Bundle.open(find_bundle(request.bundle)).directory,
            adapted=adapted,
            backend=running.backend,
            precision=running.precision,
            threads=max(1, useful_threads(running.threads) // request.workers),
            device=running.device,
        ),
        access=access,
        limits=settings.Limits(
            body_bytes=limits.max_mebibytes * settings.MIB,
            pixels=limits.max_megapixels * 1_000_000,
            work_seconds=limits.max_seconds,
            waiting=limits.max_waiting,
        ),
        keeping=settings.Keeping(
            most=keeping.keep, seconds=60 * keeping.keep_minutes, directory=keeping.store
        ),
        workers=request.workers,
    )
