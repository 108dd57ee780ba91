"""A Triton server in this process's company, by NVIDIA's pytriton: `invert` and `edit` of a model.

For a machine without Triton's container: ``pip install 'hyperstyle-rt[cpu,triton]'`` brings a
server that speaks Triton's HTTP and gRPC and passes requests to Python. The graphs run here, on
whatever backend the model was opened on.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from ...errors import BackendError
from ...model import Model
from ...operations import Operations
from .calls import BYTES, TensorOfModel, call, model_name, served_models

STARTS = 3
"""Attempts to start a server."""


@dataclass(frozen=True, kw_only=True)
class TritonAddress:
    """Where a server listens.

    Attributes
    ----------
    host:
        pytriton's own default is every address of the machine, and there is no token: this one's
        is the machine itself.
    """

    host: str = "127.0.0.1"
    http: int = 8000
    grpc: int = 8001
    metrics: int = 8002


@contextmanager
def serving(model: Model, address: TritonAddress, *, instances: int = 1) -> Iterator[Any]:
    """A server for the time of the block; it answers when the block begins.

    Parameters
    ----------
    instances:
        Requests of each kind that are worked on at once, each in a session of its own.

    Raises
    ------
    BackendError
        If pytriton is not installed, or the server does not start.
    """
    if find_spec("pytriton") is None:
        raise BackendError(
            "this needs nvidia-pytriton, which is not installed; install "
            "'hyperstyle-rt[cpu,triton]' for Python 3.10 to 3.12 on Linux"
        )
    server = _started(model, address, instances)
    try:
        yield server
    finally:
        server.stop()


def _started(model: Model, address: TritonAddress, instances: int) -> Any:
    """A server that answers.

    Its processes wait for one another for a second at most, which a busy machine may not grant: it
    is tried again, then.
    """
    from pytriton.client.exceptions import PyTritonClientError
    from pytriton.exceptions import PyTritonError

    problem: Exception | None = None
    for _ in range(STARTS):
        server = _bound(model, address, instances)
        try:
            with _libpython_found():
                server.run()
            return server
        except (PyTritonError, PyTritonClientError, TimeoutError) as error:
            problem = error
            server.stop()
    assert problem is not None
    raise BackendError(
        f"the Triton server does not start ({_last_line(problem)}); is a port of {address.http}, "
        f"{address.grpc}, {address.metrics} taken, and can libpython be found (LD_LIBRARY_PATH)?"
    ) from problem


def _bound(model: Model, address: TritonAddress, instances: int) -> Any:
    """A server with our models, not yet started."""
    from pytriton.model_config import ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig

    def described(tensors: Sequence[TensorOfModel]) -> list[Any]:
        return [
            Tensor(
                name=each.name,
                shape=each.shape,
                dtype=bytes if each.dtype == BYTES else each.dtype.type,
                optional=each.optional,
            )
            for each in tensors
        ]

    config = TritonConfig(
        http_address=address.host,
        http_port=address.http,
        grpc_address=address.host,
        grpc_port=address.grpc,
        metrics_address=address.host,
        metrics_port=address.metrics,
    )
    server, manifest = Triton(config=config), model.bundle.manifest
    for what, served in served_models(manifest).items():
        server.bind(
            model_name(manifest.name, what),
            [partial(_answer, what, model.session()) for _ in range(instances)],
            inputs=described(served.inputs),
            outputs=described(served.outputs),
            config=ModelConfig(batching=False),
            strict=True,
        )
    return server


@contextmanager
def _libpython_found() -> Iterator[None]:
    """Let the server's processes find the libpython of this interpreter, which they are linked to.

    The dynamic linker looks where the interpreter lies only if the system has put it there.
    """
    key, place = "LD_LIBRARY_PATH", sysconfig.get_config_var("LIBDIR")
    before = os.environ.get(key)
    os.environ[key] = os.pathsep.join(filter(None, (place, before)))
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


def _answer(what: str, session: Operations, requests: Sequence[Any]) -> list[dict[str, Any]]:
    return [call(what, session, request) for request in requests]


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
