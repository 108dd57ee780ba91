"""Ray, imported where it is used: the one place where it is started and stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from ..errors import BackendError

LOCAL = "local"
"""Address of a cluster of this machine alone, started for one run and stopped after it."""

OBJECT_STORE_BYTES = 256 << 20
"""Shared memory of a local cluster: what is in flight are names, and pictures out of tables."""


def import_ray() -> Any:
    """Ray with its part for data.

    Raises
    ------
    BackendError
        If it is not installed.
    """
    for module, extra in (("ray", "ray"), ("pyarrow", "ray")):
        if find_spec(module) is None:
            raise BackendError(
                f"this needs {module}, which is not installed; install 'hyperstyle-rt[{extra}]'"
            )
    # Else Ray's library logs in every run that actors have arguments.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data

    return ray


@contextmanager
def connected(address: str, spare: int = 0) -> Iterator[Any]:
    """Ray, connected to a cluster for the time of the block.

    Where the process is connected already, that cluster is used and left as it is.

    Parameters
    ----------
    address:
        :data:`LOCAL`, or as for ``ray.init``: ``auto`` for the cluster that this machine belongs
        to, ``HOST:PORT``, ``ray://HOST:PORT``.
    spare:
        Processors that a local cluster has beside those that this process may use, for what does
        little.

    Raises
    ------
    BackendError
        If Ray is missing, or no cluster answers.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {}
    if address == LOCAL:
        from ..backends.processors import useful_threads

        options = {
            "num_cpus": useful_threads(None) + spare,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,  # a dozen processes, for one run
        }
    warnings.filterwarnings("ignore", module=r"ray\.")  # of how many pictures fill a cluster
    try:
        with _silent_descriptor():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # of Ray's, which share no base: some are Exception itself
        with contextlib.suppress(Exception):
            ray.shutdown()  # what has been started
        first = str(error).strip().partition("\n")[0]
        cure = (
            "free processors and memory, or try it again"
            if address == LOCAL
            else f"start one with `ray start --head`, or say {LOCAL} for one of this machine"
        )
        raise BackendError(f"no Ray cluster at {address} ({first.rstrip('.')}); {cure}") from error
    try:
        with _kept_off_standard_output():
            yield ray
    finally:
        with contextlib.suppress(Exception):  # what has been computed is written already
            ray.shutdown()


@contextmanager
def _kept_off_standard_output() -> Iterator[None]:
    """Have Ray tell nothing there of workers that died: a JSON document may be read from it.

    There is no public way: `log_to_driver` leaves these words where they are. What becomes of the
    pictures is in the outcomes.
    """
    from ray._private import worker

    name = "print_to_stdstream"
    before = getattr(worker, name, None)
    if before is None:  # another version of Ray
        yield
        return
    setattr(worker, name, lambda *_arguments, **_named: None)
    try:
        yield
    finally:
        setattr(worker, name, before)


@contextmanager
def _silent_descriptor() -> Iterator[None]:
    """Drop what is written to standard error, as by Ray's library: that it is to log nothing."""
    try:
        kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # it is closed
        yield
        return
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
