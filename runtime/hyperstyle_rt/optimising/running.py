"""Optimise an inversion by a preset: its stages, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..backends.protocol import Backend, Buffers
from ..errors import HyperStyleError
from ..formats.bundle import Bundle
from ..formats.inversion_file import InversionData
from ..formats.manifest import BASE_PRECISION
from ..free_inputs import noise_size
from ..imaging.pictures import to_input
from ..rendering import RECONSTRUCTION, RENDERING, Renderer
from ..types import Array, Picture
from .descent import Disturb, Moving, OnStep, Problem, descend
from .draft import DraftObjective, serves
from .effort import Follower
from .latent_statistics import (
    MAPPING,
    Spread,
    draw_latents,
    draw_whitening,
    has_samples,
    maps_to_one_latent,
    spread_of,
)
from .limits import Limits
from .needs import check_needs
from .objective import LossResult, Objective, Target, choose_role
from .point import Point
from .presets import DEFAULT_PRESET, INSIDE, Stage, Weights, find_preset, refining_stage
from .room import clear_room, make_room
from .schedules import projector_disturbance
from .terms import (
    LOCALITY_TRUNCATION,
    LOCALITY_WEIGHT,
    EncoderTerm,
    LatentPrior,
    Locality,
    NoiseRegulariser,
    Term,
)
from .variables import VARIABLES, Place, check_variables

SEED = 303  # of StyleGAN2's projector
SPREAD_OVER = 10_000


@dataclass(frozen=True)
class Request:
    """How an inversion is to be optimised.

    Attributes
    ----------
    preset:
        One of :data:`~.presets.PRESETS`.
    variables:
        What changes instead of the preset's variables, for `refine`; None for these.
    steps, seconds, until:
        As for :class:`Limits`, over all stages; None for the published number of steps, which they
        share in proportion.
    mask:
        float32 [H,W] in [0,1], of the rendering's size; None for the whole picture.
    on_step:
        Called before the first step and after every one; steps are counted over all stages.
    follower:
        Says when it is close enough; None for no such condition.
    """

    preset: str = DEFAULT_PRESET
    variables: tuple[str, ...] | None = None
    steps: int | None = None
    seconds: float | None = None
    until: float | None = None
    mask: Array | None = None
    on_step: OnStep | None = None
    follower: Follower | None = None


def stages_of(request: Request, has_latents: bool) -> list[Stage]:
    """The stages of a request, with its number of steps shared between them.

    Raises
    ------
    HyperStyleError
        If there is no such preset or variable, or a limit is out of range.
    """
    preset = find_preset(request.preset)
    stages = [each for each in preset.stages if not (each.finds_latents and has_latents)]
    if request.variables is not None:
        check_variables(request.variables)
        if request.preset != DEFAULT_PRESET:
            raise HyperStyleError(
                f"the variables of {request.preset!r} are its own; name some with the preset "
                f"{DEFAULT_PRESET!r}, or leave them out"
            )
        stages = [refining_stage(request.variables, stages[0].steps)]
    total = sum(stage.steps for stage in stages)
    wanted = total if request.steps is None else request.steps
    limits = Limits(wanted, request.seconds, request.until)  # refused before any work
    bounds = np.cumsum([0, *(stage.steps for stage in stages)]) * limits.steps
    ends = [round(int(bound) / total) for bound in bounds]
    return [
        replace(stage, steps=end - start)
        for stage, start, end in zip(stages, ends[:-1], ends[1:], strict=True)
    ]


def check_bundle(bundle: Bundle, backend: Backend, request: Request, has_latents: bool) -> None:
    """Refuse what a bundle or backend cannot optimise, before any work.

    Raises
    ------
    HyperStyleError, BundleError
        If so.
    """
    stages = stages_of(request, has_latents)
    if backend.graph_precision != BASE_PRECISION:
        raise HyperStyleError(
            f"gradients need {BASE_PRECISION} graphs, not {backend.graph_precision}; open the "
            f"bundle with --precision {BASE_PRECISION}, or take no gradient steps (--effort fast)"
        )
    check_needs(bundle.manifest, request.preset, stages)


class Optimiser:
    """Runs a preset on a bundle, for one picture uint8 [H,W,3]."""

    def __init__(
        self,
        bundle: Bundle,
        renderer: Renderer,
        backend: Backend,
        picture: Picture,
        request: Request,
    ) -> None:
        self._bundle = bundle
        self._renderer = renderer
        self._backend = backend
        self._picture = picture
        self._request = request
        self._source = np.random.default_rng(SEED)

    def run(self, data: InversionData, has_latents: bool) -> InversionData:
        """Optimise an inversion.

        Parameters
        ----------
        data:
            Where it starts.
        has_latents:
            Whether its latents are an inversion's; else they are found.

        Raises
        ------
        HyperStyleError, BundleError
            If the bundle cannot do that.
        """
        request = self._request
        check_bundle(self._bundle, self._backend, request, has_latents)
        stages = stages_of(request, has_latents)
        point, changed = Point.of(data), set[str]()
        before, spent, began = 0, 0.0, time.monotonic()
        for number, stage in enumerate(stages):
            limits = Limits(stage.steps, self._seconds(stages[number:], spent), request.until)
            problem = self._problem(stage, point, data.method, has_latents)
            make_room(self._backend, self._bundle.manifest, problem)
            point = descend(problem, limits, self._watch(before))
            clear_room(self._backend, problem)
            if request.follower is not None and request.follower.needs_none:
                return data
            changed |= {moving.variable.part for moving in problem.moving}
            if stage.drops_noise:
                point.noise = None
            before += stage.steps
            if number + 1 < len(stages):
                spent = time.monotonic() - began
        return replace(
            point.write(data, changed), settings={**data.settings, **self._settings(data, before)}
        )

    def _seconds(self, stages: list[Stage], spent: float) -> float | None:
        """What is left of the time for the first of these stages; they share it by steps."""
        seconds, steps = self._request.seconds, sum(stage.steps for stage in stages)
        if seconds is None or not steps:
            return seconds
        return max(0.0, float(seconds) - spent) * stages[0].steps / steps

    def _watch(self, before: int) -> OnStep | None:
        """Counts steps over all stages."""
        on_step = self._request.on_step
        if on_step is None or not before:
            return on_step

        def watch(done: int, loss: float, rendering: Array) -> None:
            if done:  # the last of the stage before is told already
                on_step(before + done, loss, rendering)

        return watch

    def _problem(self, stage: Stage, start: Point, method: str, has_latents: bool) -> Problem:
        manifest = self._bundle.manifest
        point = replace(start)
        spread = self._spread(stage, has_latents)
        if spread is not None and not has_latents:
            point.latents = np.tile(spread.mean, (len(point.latents), 1))
        names = self._variables(stage)
        if "noise" in names and stage.fresh_noise:
            point.noise = self._source.standard_normal(noise_size(manifest), dtype=np.float32)
        mask = self._mask(stage)
        place = Place(manifest, self._renderer.free, point, method, mask)
        moving = [Moving(VARIABLES[name](place), stage.variables[name]) for name in names]
        for each in moving:
            each.variable.place(point, each.value)
        objective = self._objective(stage, {each.variable.kind for each in moving}, point)
        settings = objective.settings(self._term_weights(stage.weights), mask)
        return Problem(
            point,
            moving,
            objective,
            objective.target(self._target),
            settings,
            self._terms(stage, objective, point, settings),
            self._disturb(stage, spread),
            self._enough(stage),
            stage.astray,
        )

    def _objective(self, stage: Stage, gradients: set[str], point: Point) -> Objective:
        """The objective of a stage; a draft's where the stage wants one and the bundle has it."""
        manifest = self._bundle.manifest
        if stage.draft and serves(manifest, gradients, point):
            return DraftObjective(manifest, self._renderer, self._backend, stage.renew)
        role = choose_role(manifest, gradients, point)
        return Objective(role, manifest, self._renderer, self._backend)

    def _variables(self, stage: Stage) -> list[str]:
        """The variables of a stage that the generator has."""
        has_noise = noise_size(self._bundle.manifest) > 0
        return [
            name
            for name in stage.variables
            if name != "noise" or has_noise or name not in stage.optional
        ]

    def _spread(self, stage: Stage, has_latents: bool) -> Spread | None:
        """Mean and deviation of latents, where a stage needs them."""
        count = stage.from_mean or (SPREAD_OVER if stage.disturbed else 0)
        if not count or (has_latents and not stage.disturbed):
            return None
        if not stage.disturbed and not maps_to_one_latent(self._bundle, self._backend):
            return None  # the bundle's average latent serves
        return spread_of(draw_latents(self._bundle, self._backend, count))

    def _disturb(self, stage: Stage, spread: Spread | None) -> Disturb | None:
        if not stage.disturbed or spread is None:
            return None
        shared = "w" in stage.variables
        deviation = spread.deviation

        def disturb(point: Point, progress: float) -> None:
            shape = (1, point.latents.shape[1]) if shared else point.latents.shape
            noise = self._source.standard_normal(shape, dtype=np.float32)
            point.latents = (
                point.latents + np.float32(deviation * projector_disturbance(progress)) * noise
            )

        return disturb

    def _terms(
        self, stage: Stage, objective: Objective, start: Point, settings: Buffers
    ) -> list[Term]:
        terms: list[Term] = []
        inputs = self._bundle.manifest.optional_inputs
        if stage.noise_regulariser and "noise" in self._variables(stage) and inputs is not None:
            terms.append(NoiseRegulariser(inputs.noise))
        if stage.prior:
            whitening = draw_whitening(self._bundle, self._backend)
            terms.append(LatentPrior(whitening, stage.prior))
        if stage.encoder_term:
            terms.append(EncoderTerm(self._backend, self._render, stage.encoder_term))
        if stage.locality:
            terms.append(self._locality(objective, start, settings))
        return terms

    def _locality(self, objective: Objective, start: Point, settings: Buffers) -> Locality:
        """Pivotal tuning's term; the old generator is that of the start."""
        weights = self._term_weights(Weights(LOCALITY_WEIGHT, 0.0, LOCALITY_WEIGHT))
        known = draw_latents(self._bundle, self._backend, SPREAD_OVER)
        spread = spread_of(known)
        sampled = has_samples(self._bundle)

        def draw() -> Array:
            if sampled:
                return towards_mean(known[self._source.integers(len(known))])
            z = self._source.standard_normal((1, len(spread.mean)), dtype=np.float32)
            outputs = self._backend.run(MAPPING, {"z": self._backend.upload(z)})
            return towards_mean(self._backend.download(outputs["w"])[0])

        def towards_mean(w: Array) -> Array:
            return np.asarray(spread.mean + LOCALITY_TRUNCATION * (w - spread.mean), np.float32)

        def target_of(there: Point) -> Target:
            old = replace(start, latents=there.latents, noise=there.noise)
            rendered = self._render(old)
            manifest = self._bundle.manifest
            pictures = {
                manifest.input_size: rendered[RECONSTRUCTION],
                manifest.image_size: rendered[RENDERING],
            }
            return objective.target(lambda size: pictures[size])

        own = {**settings, **objective.settings(weights)}
        size = noise_size(self._bundle.manifest)
        silence = np.zeros(size, np.float32) if size else None
        return Locality(objective, own, target_of, draw, silence)

    def _render(self, point: Point) -> Buffers:
        renderer = self._renderer
        kernels = renderer.kernels(point.codes, point.channel_offsets)
        return renderer.render(self._backend.upload(point.latents[None]), kernels, point.free)

    def _enough(self, stage: Stage) -> Callable[[LossResult], bool] | None:
        """What ends a stage early; None for nothing."""
        published = stage.published_end(self._bundle.manifest.objective)
        follower = self._request.follower
        return published if follower is None else follower.watch(published)

    def _term_weights(self, weights: Weights) -> Array:
        return weights.of_terms(self._bundle.manifest.objective)

    def _mask(self, stage: Stage) -> Array | None:
        mask = self._request.mask
        if mask is None or stage.mask == INSIDE:
            return mask
        return np.float32(1) - mask

    def _target(self, size: tuple[int, int]) -> Any:
        return self._backend.upload(to_input(self._picture, size))

    def _settings(self, data: InversionData, steps: int) -> dict[str, Any]:
        """What an inversion says of this optimisation, of the stages run, after those before."""
        request = self._request
        limits = Limits(steps, request.seconds, request.until)
        this = {
            "preset": request.preset,
            "variables": None if request.variables is None else list(request.variables),
            "steps": limits.steps,
            "seconds": limits.seconds,
            "until": limits.until,
            "mask": None if request.mask is None else True,
        }
        this = {name: value for name, value in this.items() if value is not None}
        return {"optimise": [*data.settings.get("optimise", ()), this]}
