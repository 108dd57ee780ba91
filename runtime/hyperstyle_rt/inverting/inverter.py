"""One method on one target: what the state starts with, and how the phases are run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..backends.protocol import Backend, Buffers, Recording, RecordingBackend, Signature
from ..errors import BundleError, HyperStyleError
from ..formats.asked import number_from_0, whole_number
from ..formats.bundle import Bundle
from ..formats.inversion_file import InversionData
from ..formats.inversion_fit import check_fits
from ..formats.manifest import Manifest
from ..formats.methods import MAX_ITERATIONS, Method
from ..rendering import CODES, LATENTS, Renderer
from .phases import Watch, run_phases
from .state import RENDERED, TARGET, Size, State, size_of, sized_target, state_name

TargetOfSize = Callable[[Size], Any]
"""Gives the target as a buffer [1,3,h,w] in the size (h, w) that a graph asks for."""


@dataclass(frozen=True)
class Found:
    """What a method has found.

    Attributes
    ----------
    tensors:
        latents, rendering, reconstruction, codes where the method has some, and what else phases
        have left in the state; buffers of the backend, valid until the next inversion.
    iterations:
        How many were done.
    """

    tensors: Buffers
    iterations: int


@dataclass(frozen=True)
class _Plan:
    """What a method needs and leaves, told from the signatures of its graphs."""

    sizes: tuple[Size, ...]  # of the target
    average: bool  # whether the state starts with latents: the average, or those of a start
    codes: bool  # whether codes are among the results


def count_iterations(
    manifest: Manifest, method: str | None, asked: int | None, until: float | None = None
) -> int:
    """How many iterations a method is to do at most; 0 for one that does not iterate.

    Parameters
    ----------
    method:
        By name; None for the bundle's default.
    asked, until:
        As a caller gives them.

    Raises
    ------
    BundleError
        If there is no such method.
    HyperStyleError
        If a number is out of range, or one is given to a method that does not iterate.
    """
    chosen = manifest.method(method)
    if until is not None:
        number_from_0("until", until)
    if chosen.iterating_phase is None:
        if asked is not None or until is not None:
            raise HyperStyleError(
                f"the method {method or manifest.default_method!r} does not iterate; leave out "
                "iterations and until"
            )
        return 0
    if asked is None:
        return chosen.iterations
    return whole_number("iterations", asked, MAX_ITERATIONS)


def with_room(before: InversionData, most: int) -> InversionData:
    """An inversion whose codes are the sum of at most so many iterations.

    HyperStyle's codes are sums, with their number in the last column, and the hypernetwork has seen
    sums of no more iterations than it was trained with. Picture after picture they would grow
    without end. Scaled down, they are worth `most` of their iterations, and what follows adds the
    rest.
    """
    codes = before.codes
    if codes is None or codes[0, -1] <= most:
        return before
    return replace(before, codes=codes * np.float32(max(most, 0) / codes[0, -1]))


class Inverter:
    """Runs the methods of a bundle; one thread's."""

    def __init__(self, bundle: Bundle, backend: Backend, renderer: Renderer) -> None:
        self._bundle = bundle
        self._backend = backend
        self._renderer = renderer
        self._recording: tuple[tuple[Any, ...], Recording] | None = None

    def run(
        self,
        target: TargetOfSize,
        iterations: int | None,
        watch: Watch,
        method: str | None,
        before: InversionData | None = None,
    ) -> Found:
        """Run a method on a target.

        Without `until` and `on_iteration`, a backend that can record runs the whole method as one
        recording, which the next inversion replays.

        Parameters
        ----------
        before:
            What the state starts with instead of the average latent and zero codes, with
            :func:`room <with_room>` for the iterations. Phases that would only find a first guess
            of what it gives are left out.

        Raises
        ------
        InversionError
            If `before` is of another space.
        """
        manifest = self._bundle.manifest
        count = count_iterations(manifest, method, iterations, watch.until)
        chosen = manifest.method(method)
        if before is not None:
            check_fits(before, manifest)
            if chosen.iterating_phase is not None:
                before = with_room(before, chosen.iterations - count)
            chosen = self._without_first_guesses(chosen)
        plan = self._plan(chosen, count)
        start = self._start(plan, target, before)
        zero = before is None or before.codes is None or not plan.codes
        done = count

        def work(inputs: Buffers) -> Buffers:
            nonlocal done
            state = State(self._renderer, self._backend, inputs, plan.codes, zero)
            done = run_phases(chosen, count, state, self._backend, watch)
            return {name: state[name] for name in sorted(state.names)}

        if isinstance(self._backend, RecordingBackend) and not watch.looks:
            key = (chosen, count, zero)
            if self._recording is None or self._recording[0] != key:
                self.release()
                self._recording = key, self._backend.record(work, start)
            return Found(self._recording[1].replay(start), count)
        return Found(work(start), done)

    def release(self) -> None:
        """Give back the memory of the recording."""
        if self._recording is not None:
            recording, self._recording = self._recording[1], None
            recording.release()

    def _without_first_guesses(self, method: Method) -> Method:
        """The method without phases before the last that write what a start gives.

        That is: nothing but latents and codes, which a later phase replaces again.
        """
        writes = [
            {state_name(name) for name in self._backend.signature(phase.graph).outputs}
            for phase in method.phases
        ]
        kept = tuple(
            phase
            for at, phase in enumerate(method.phases)
            if at == method.iterating_phase
            or not writes[at] <= {LATENTS, CODES}
            or not writes[at] <= set().union(*writes[at + 1 :])
        )
        return replace(method, phases=kept)

    def _plan(self, method: Method, count: int) -> _Plan:
        sizes: dict[Size, None] = {}
        needed: set[str] = set()
        written: set[str] = set()
        codes = False
        for position, phase in enumerate(method.phases):
            if position == method.iterating_phase and not count:
                codes = True  # a method that was stopped before its first codes leaves zeros
                continue
            signature = self._backend.signature(phase.graph)
            self._check_shapes(phase.graph, signature)
            for name, spec in signature.inputs.items():
                if name == TARGET:
                    sizes[size_of(spec)] = None
                elif name in RENDERED:
                    needed |= {LATENTS} - written
                else:
                    needed |= {name} - written
            written |= {state_name(name) for name in signature.outputs}
        needed |= {LATENTS} - written  # to render the result
        codes = codes or CODES in needed | written
        return _Plan(tuple(sizes), LATENTS in needed, codes)

    def _check_shapes(self, graph: str, signature: Signature) -> None:
        """Refuse a graph whose latents or codes are not of the manifest's shapes."""
        manifest = self._bundle.manifest
        shapes = {LATENTS: (manifest.num_latents, manifest.latent_width)}
        if manifest.codes is not None:
            shapes[CODES] = (len(manifest.tuned_layers), manifest.codes.width)
        for name, spec in (*signature.inputs.items(), *signature.outputs.items()):
            expected = shapes.get(state_name(name))
            if expected is not None and spec.shape[1:] != expected:
                raise BundleError(
                    f"the graph {graph!r} has {name} of shape {list(spec.shape[1:])} where the "
                    f"manifest of bundle {manifest.name!r} says {list(expected)}; build the bundle "
                    "again"
                )

    def _start(self, plan: _Plan, target: TargetOfSize, before: InversionData | None) -> Buffers:
        upload, manifest = self._backend.upload, self._bundle.manifest
        start = {sized_target(size): target(size) for size in plan.sizes}
        if plan.average and before is not None:
            start[LATENTS] = upload(before.latents[None])
        elif plan.average:
            average = self._bundle.latent_average()
            if average is None:
                raise BundleError(
                    f"bundle {manifest.name!r} has no average latent for its method to start "
                    "from; build it again"
                )
            start[LATENTS] = upload(average[None])
        if manifest.codes is not None:
            shape = (1, len(manifest.tuned_layers), manifest.codes.width)
            codes = np.zeros(shape, np.float32)
            if before is not None and before.codes is not None and plan.codes:
                codes = before.codes[None]
            start[CODES] = upload(codes)
        return start
