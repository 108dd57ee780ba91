"""``hyperstyle-rt fetch``: bundles and checkpoints that a user names."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import HyperStyleError
from . import options
from .terminal import print_done, print_note, progress_bar

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt fetch https://example.org/engines/ffhq/manifest.json

hyperstyle-rt fetch hf:someone/hyperstyle-ffhq

hyperstyle-rt fetch hf:someone/checkpoints/hyperstyle_ffhq.pt --lock weights.lock

hyperstyle-rt fetch https://example.org/w_encoder.pt --sha256 3f1c...

hyperstyle-rt fetch downloads/engines-ffhq
"""

OFFLINE = "HYPERSTYLE_RT_OFFLINE"


def fetch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="An https address of a checkpoint, or of a bundle's manifest.json; "
            "hf:OWNER/NAME, @REVISION or /FILE after it where you want one; or a path.",
            show_default=False,
        ),
    ],
    lock: Annotated[
        Path | None,
        typer.Option(
            help="Lock file that pins what comes by its SHA-256; to be committed with a project. "
            "Default: one in the cache.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    digest: Annotated[
        str | None,
        typer.Option("--sha256", help="That a single file must have.", metavar="HEX"),
    ] = None,
    accept_licence: Annotated[
        bool, options.flag("--accept-licence", says="Agree to its licence without being asked.")
    ] = False,
    renew: Annotated[
        bool, options.flag("--renew", says="Take it even if it has changed since it was pinned.")
    ] = False,
    offline: Annotated[
        bool,
        options.flag("--offline", says=f"Only what is here already; also {OFFLINE}=1."),
    ] = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Fetch a bundle or a checkpoint that you name; nothing else is ever downloaded.

    A transfer that broke off goes on the next time. Everything is pinned by its
    SHA-256 in a lock file: the same command gives the same bytes, or says that
    they have changed. A bundle is then found by its name, --bundle NAME; a
    checkpoint's path is printed. The cache is in HYPERSTYLE_RT_CACHE.
    """
    from ..fetching.fetch import Options
    from ..fetching.fetch import fetch as fetch_source
    from ..fetching.lock import Lock
    from ..fetching.transfer import OnBytes
    from ..user_cache import user_cache

    if digest is not None and (len(digest) != 64 or set(digest.lower()) - set("0123456789abcdef")):
        raise HyperStyleError("--sha256 must be 64 hexadecimal digits")
    opened = Lock.read(lock or user_cache() / "weights.lock")
    with progress_bar(quiet or json_) as progress:

        def agrees(licence: str | None) -> bool:
            progress.stop()
            return accept_licence or _asked(source, licence)

        def on_wait() -> None:
            if not quiet:
                print_note(f"another fetch of {source} is running; it is waited for")

        def on_file(name: str) -> OnBytes:
            bar = progress.add_task(name, total=None, rate="")

            def on_bytes(here: int, total: int | None) -> None:
                progress.update(bar, completed=here, total=total)

            return on_bytes

        wanted = Options(
            agrees,
            on_file,
            None if digest is None else digest.lower(),
            offline or os.environ.get(OFFLINE, "") not in ("", "0"),
            renew,
            on_wait,
        )
        fetched = fetch_source(source, opened, wanted)
    document = {
        "source": source,
        "path": str(fetched.path),
        "bundle": fetched.name,
        "license": fetched.pinned.license,
        "files": dict(fetched.pinned.files),
        "lock": str(opened.path),
    }
    use = f"  (--bundle {fetched.name})" if fetched.name is not None else ""
    print_done(document, f"{source} -> {fetched.path}{use}", json_, quiet)


def _asked(source: str, licence: str | None) -> bool:
    """Print the licence and ask."""
    says = f"is under the licence: {licence}" if licence else "names no licence of its own"
    print_note(f"{source} {says}; docs/weights.md lists those of the official files")
    if not (sys.stdin is not None and sys.stdin.isatty()):
        raise HyperStyleError(
            "nobody can be asked whether the licence is agreed to; read it, then add "
            "--accept-licence"
        )
    return typer.confirm("Do you agree to it?", err=True)
