"""``python -m hyperstyle_rt.scale.triton``: a model on a Triton server of this machine."""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass
from typing import Annotated

import typer

from ...cli import options
from ...cli.option_groups import command
from ...cli.program import Command
from ...cli.terminal import print_error, print_line
from ...errors import HyperStyleError

EXAMPLES = """
[bold]Examples[/bold]

python -m hyperstyle_rt.scale.triton --bundle faces

python -m hyperstyle_rt.scale.triton --bundle engines/ffhq --backend cuda --instances 2
"""


@dataclass(frozen=True, kw_only=True)
class TritonRequest:
    """Everything that the command is asked for."""

    bundle: options.Bundle = None
    running: options.Running
    instances: Annotated[
        int,
        typer.Option(min=1, max=64, help="Requests of each kind at once.", metavar="N"),
    ] = 1
    host: Annotated[str, typer.Option(help="Address to listen on.", metavar="HOST")] = "127.0.0.1"
    http: Annotated[int, typer.Option(min=1, max=65535, help="Port.", metavar="N")] = 8000
    grpc: Annotated[int, typer.Option(min=1, max=65535, help="Port.", metavar="N")] = 8001
    metrics: Annotated[int, typer.Option(min=1, max=65535, help="Port.", metavar="N")] = 8002


def serve(request: TritonRequest) -> None:
    """Serve NAME_invert and NAME_edit over Triton's HTTP and gRPC, until SIGTERM or Ctrl-C."""
    from ...model import Model
    from .calls import served_models
    from .pytriton_server import TritonAddress, serving

    address = TritonAddress(
        host=request.host, http=request.http, grpc=request.grpc, metrics=request.metrics
    )
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        running = request.running
        with (
            Model.load(request.bundle, running.backend, **running.settings()) as model,
            serving(model, address, instances=request.instances),
        ):
            name = model.bundle.manifest.name
            models = ", ".join(f"{name}_{what}" for what in served_models(model.bundle.manifest))
            print_line(
                f"{models} on {model.backend.provider}: http://{request.host}:{request.http}"
            )
            ended.wait()
    except HyperStyleError as error:
        print_error(str(error))
        raise typer.Exit(2) from None


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
app.command(cls=Command, epilog=EXAMPLES)(command(TritonRequest, serve))

if __name__ == "__main__":
    app()
