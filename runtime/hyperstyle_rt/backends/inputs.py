"""What is given to a graph, compared with what it takes, before any native code sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..errors import BackendError
from .protocol import Signature, TensorSpec


def check_names(role: str, signature: Signature, given: Iterable[str]) -> None:
    """Refuse inputs that a graph does not have, and the lack of one that it has.

    Raises
    ------
    BackendError
        If so.
    """
    names = set(given)
    if unknown := names - signature.inputs.keys():
        raise BackendError(
            f"the graph {role} has no input {', '.join(sorted(unknown))}, only "
            f"{', '.join(signature.inputs)}; leave it out, or use a bundle whose {role} takes it"
        )
    if missing := signature.inputs.keys() - names:
        raise BackendError(
            f"the graph {role} needs the input {', '.join(sorted(missing))}, which it was not "
            "given; give all inputs of its signature"
        )


def check_tensor(
    role: str, name: str, spec: TensorSpec, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    """Refuse a tensor of another shape or type than an input's.

    Raises
    ------
    BackendError
        If so.
    """
    fits = len(shape) == len(spec.shape) and all(
        length == expected or (expected is None and length > 0)
        for length, expected in zip(shape, spec.shape, strict=True)
    )
    if not fits or dtype != spec.dtype:
        raise BackendError(
            f"the graph {role} takes {name} as {described(spec.shape, spec.dtype)}, not as "
            f"{described(shape, dtype)}; convert it first"
        )


def check_inputs(
    role: str,
    signature: Signature,
    given: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
) -> None:
    """Refuse inputs that a graph does not take: shape and type of each by name.

    Raises
    ------
    BackendError
        For the first that does not fit.
    """
    check_names(role, signature, given)
    for name, (shape, dtype) in given.items():
        check_tensor(role, name, signature.inputs[name], shape, dtype)


def described(shape: Iterable[int | None], dtype: np.dtype[Any]) -> str:
    """A tensor for people: ``float32 [N,18,512]``."""
    lengths = ",".join("N" if length is None else str(length) for length in shape)
    return f"{dtype} [{lengths}]"
