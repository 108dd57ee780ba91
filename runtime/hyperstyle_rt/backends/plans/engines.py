"""TensorRT engines of a bundle's plans, each deserialised when it is first asked for."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from ...errors import BundleError
from ...formats.bundle import PLANS_DIRECTORY, Bundle
from ..lifetime import NativeObjects
from ..protocol import Signature, TensorSpec
from .build import classic_target
from .cache import VerifiedPlan, cached_plan


@dataclass(frozen=True)
class Engine:
    """An engine, from which execution contexts are made, and what its tensors are."""

    engine: Any
    signature: Signature


class Engines:
    """Engines of the graphs of one precision; several threads may ask for them at a time.

    Attributes
    ----------
    precision:
        Of the plans: ``fp32`` or ``fp16``.
    key:
        Name of the set of plans: TensorRT's version, the GPU's architecture, the precision.
    gpu:
        Name of the GPU.

    Raises
    ------
    BackendError
        If there is no GPU, or TensorRT is missing or of another version.
    BundleError
        If the bundle has no graphs of that precision.
    """

    def __init__(self, bundle: Bundle, precision: str) -> None:
        self.precision = precision
        self._bundle = bundle
        self._target = classic_target()
        self.key = self._target.key(precision)
        self.gpu = self._target.gpu
        for role in bundle.manifest.graphs:
            bundle.graph_digests(role, precision)
        self._trt: Any = import_module(self._target.module)
        self._native = NativeObjects()
        self._lock = threading.Lock()
        self._engines: dict[str, Engine] = {}
        self._runtime: Any = None

    def check(self) -> None:
        """Refuse further use after :meth:`close` and in a forked child.

        Raises
        ------
        BackendError
            If so.
        """
        self._native.check()

    def engine(self, role: str) -> Engine:
        """The engine of a graph; its plan is built where there is none, which takes minutes.

        Raises
        ------
        BundleError
            If the bundle lacks the graph; if its plan is altered, or not one TensorRT can load.
        BackendError
            If the plan cannot be built; after :meth:`close`, and in a forked child.
        """
        self.check()
        with self._lock:
            if role not in self._engines:
                self._engines[role] = self._open(role)
            return self._engines[role]

    def close(self) -> None:
        """Free the engines; their execution contexts must have been freed before."""
        if self._native.close():
            self._engines.clear()
            self._runtime = None

    def _open(self, role: str) -> Engine:
        plan = self._plan(role)
        if self._runtime is None:
            log = self._trt.Logger(self._trt.Logger.WARNING)
            self._runtime = self._trt.Runtime(log)
            self._native.keep(log)
            self._native.keep(self._runtime)
        engine = self._runtime.deserialize_cuda_engine(plan.content)
        if engine is None:
            raise BundleError(
                f"TensorRT cannot load {plan.path}, the plan of {role}; build the bundle again "
                "with --tensorrt on this machine, or delete the plan if it is not the bundle's"
            )
        self._native.keep(engine)
        return Engine(engine, _signature(self._trt, engine))

    def _plan(self, role: str) -> VerifiedPlan:
        """The plan of a graph: the bundle's, or the one of the user's cache."""
        bundle, name = self._bundle, f"{role}.plan"
        if name in bundle.manifest.plans.get(self.key, {}):
            path = bundle.directory / PLANS_DIRECTORY / self.key / name
            return VerifiedPlan(path, bundle.plan(self.key, role))
        return cached_plan(self._bundle, self._target, self.precision, role)


def _signature(trt: Any, engine: Any) -> Signature:
    inputs: dict[str, TensorSpec] = {}
    outputs: dict[str, TensorSpec] = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(
            None if length < 0 else int(length) for length in engine.get_tensor_shape(name)
        )
        spec = TensorSpec(shape, np.dtype(trt.nptype(engine.get_tensor_dtype(name))))
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        (inputs if is_input else outputs)[name] = spec
    return Signature(inputs, outputs)
