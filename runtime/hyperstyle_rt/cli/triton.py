"""``hyperstyle-rt triton``: a model on a Triton server of this machine."""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from . import options
from .terminal import print_line

EXAMPLES = """
[bold]Examples[/bold]

hyperstyle-rt triton

hyperstyle-rt triton --bundle faces --instances 2 --threads 1

hyperstyle-rt triton --bundle engines/ffhq --backend cuda --http 9000 --grpc 9001 --metrics 9002
"""


def _port(says: str) -> Any:
    return typer.Option(min=1, max=65535, help=says, metavar="N")


@dataclass(frozen=True, kw_only=True)
class TritonRequest:
    """Everything that `triton` is asked for."""

    bundle: options.Bundle = None
    running: options.Running
    instances: Annotated[
        int, typer.Option(min=1, max=64, help="Requests of each kind at once.", metavar="N")
    ] = 1
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; there is no token.", metavar="HOST"),
    ] = "127.0.0.1"
    http: Annotated[int, _port("Port of Triton's HTTP.")] = 8000
    grpc: Annotated[int, _port("Port of its gRPC.")] = 8001
    metrics: Annotated[int, _port("Port of its metrics.")] = 8002
    quiet: options.Quiet = False


def triton(request: TritonRequest) -> None:
    """Serve inversions and edits over Triton's protocols, with the server of nvidia-pytriton.

    NAME_invert takes pictures, NAME_edit inversion files and amounts; the page
    on more than one machine, docs/scale.md, describes both. SIGTERM and Ctrl-C
    end it.
    """
    from ..model import Model
    from ..scale.triton.calls import model_name, served_models
    from ..scale.triton.pytriton_server import TritonAddress, serving

    address = TritonAddress(
        host=request.host, http=request.http, grpc=request.grpc, metrics=request.metrics
    )
    running, ended = request.running, threading.Event()
    with Model.load(request.bundle, running.backend, **running.settings()) as model:
        manifest = model.bundle.manifest
        names = ", ".join(model_name(manifest.name, what) for what in served_models(manifest))
        with serving(model, address, instances=request.instances):
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: ended.set())
            if not request.quiet:
                where = f"http://{request.host}:{request.http}"
                print_line(f"{names} on {model.backend.provider}: {where}")
            ended.wait()
