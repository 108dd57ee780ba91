"""The objective graphs of a bundle: a loss of one picture, and its gradients by what may change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.protocol import Backend, Buffers, in_own_memory
from ..errors import BundleError
from ..formats.manifest import Manifest
from ..free_inputs import FEATURE_OFFSET
from ..inverting.state import TARGET, size_of
from ..rendering import LATENTS, RECONSTRUCTION, RENDERING, Renderer
from ..types import Array
from .point import Point

OBJECTIVE = "objective"
FEATURES = "features"
LOSS, TERMS = "loss", "terms"
MASK, TERM_WEIGHTS, PULL = "mask", "term_weights", "pull"

# What an objective graph gives gradients of, or takes in place of what is stored.
KERNELS, NOISE, WEIGHTS = "kernels", "noise", "weights"

ROLES: Mapping[str, frozenset[str]] = {
    OBJECTIVE: frozenset({KERNELS}),
    "latents_objective": frozenset({LATENTS, NOISE}),
    "stored_noise_objective": frozenset({LATENTS, KERNELS}),
    "joint_objective": frozenset({LATENTS, NOISE, KERNELS}),
    "synthesis_objective": frozenset({LATENTS, NOISE, KERNELS, WEIGHTS, FEATURES}),
}
"""What each graph gives the gradients of, the cheapest first."""

GIVEN_STATE: Mapping[str, frozenset[str]] = {
    OBJECTIVE: frozenset(),
    "latents_objective": frozenset({NOISE}),
    "stored_noise_objective": frozenset(),
    "joint_objective": frozenset({NOISE}),
    "synthesis_objective": frozenset({NOISE, WEIGHTS, FEATURES}),
}
"""What of an inversion's free parts each graph can be given."""


def choose_role(manifest: Manifest, gradients: set[str], point: Point) -> str:
    """The cheapest graph of a bundle that covers some variables at a point.

    Parameters
    ----------
    gradients:
        What gradients are needed of, among the values of :data:`ROLES`.
    point:
        What it has beside latents and kernels, the graph must take.

    Raises
    ------
    BundleError
        If the bundle has none.
    """
    state = {name for name in (NOISE, WEIGHTS, FEATURES) if getattr(point, name) is not None}
    for role, gives in ROLES.items():
        if gradients <= gives and state <= GIVEN_STATE[role] and role in manifest.graphs:
            return role
    wanted = " and ".join(sorted(gradients))
    kept = f" of an inversion with {' and '.join(sorted(state))} of its own" if state else ""
    raise BundleError(
        f"bundle {manifest.name!r} has no graph for the gradients of {wanted}{kept}; build it "
        "again with this version"
    )


@dataclass(frozen=True)
class Target:
    """A picture as the graphs compare with it: buffers ``target`` and ``features.<n>``."""

    inputs: Buffers


@dataclass(frozen=True)
class LossResult:
    """One evaluation of a loss.

    Attributes
    ----------
    loss:
        Its value.
    terms:
        Its terms before they are weighed: mean square of pixels, structure, perceptual.
    gradients:
        By what changes, buffers of the backend under the graph's names.
    rendering:
        Gives the rendering it is the loss of, float32 [3,H,W].
    """

    loss: float
    terms: Callable[[], Array]
    gradients: Buffers
    rendering: Callable[[], Array]


def pooled(planes: Array, size: tuple[int, int]) -> Array:
    """Planes [...,H,W] in another size, [...,h,w], in a whole ratio to theirs.

    As the graphs make a reconstruction of a rendering: averaged where it is smaller, pixels
    repeated where it is larger.
    """
    *first, height, width = planes.shape
    rows, columns = size
    if rows > height:
        return planes.repeat(rows // height, axis=-2).repeat(columns // width, axis=-1)
    blocks = planes.reshape(*first, rows, height // rows, columns, width // columns)
    means: Array = blocks.mean((-3, -1), dtype=np.float32)
    return means


class Objective:
    """An objective graph on a backend, fed with points.

    What does not change from one point to the next is not made again: arrays are told by identity.
    """

    def __init__(self, role: str, manifest: Manifest, renderer: Renderer, backend: Backend) -> None:
        self.role = role
        self.backend = backend
        self.inputs = backend.signature(role).inputs
        self._manifest = manifest
        self._renderer = renderer
        self._free = renderer.free
        self._kept: dict[str, tuple[tuple[Any, ...], Any]] = {}

    def target(self, make: Callable[[tuple[int, int]], Any]) -> Target:
        """A picture to compare with.

        Parameters
        ----------
        make:
            (height, width) -> the picture in this size, a buffer [1,3,height,width].
        """
        features = self.backend.signature(FEATURES).inputs[TARGET]
        seen = self.backend.run(FEATURES, {TARGET: make(size_of(features))})
        return Target({TARGET: make(size_of(self.inputs[TARGET])), **seen})

    def settings(self, term_weights: Array, mask: Array | None = None) -> Buffers:
        """The buffers ``term_weights`` and ``mask``.

        Parameters
        ----------
        term_weights:
            float32 [3], see :class:`LossResult`.
        mask:
            float32 [H,W] in [0,1]; None for ones.

        Raises
        ------
        BundleError
            If the graph was built without them and they are not ones.
        """
        upload = self.backend.upload
        given: dict[str, Array] = {TERM_WEIGHTS: term_weights}
        if MASK in self.inputs:
            size = size_of(self.inputs[MASK])
            shown = np.ones(size, np.float32) if mask is None else pooled(mask, size)
            given[MASK] = shown[None, None]
        elif mask is not None:
            raise self._too_old("a mask")
        if TERM_WEIGHTS not in self.inputs:
            if (term_weights != 1).any():
                raise self._too_old("other weights of its terms")
            del given[TERM_WEIGHTS]
        return {name: upload(array) for name, array in given.items()}

    def __call__(
        self, point: Point, target: Target, settings: Buffers, pull: Array | None = None
    ) -> LossResult:
        """Evaluate it.

        Parameters
        ----------
        pull:
            float32 [1,3,h,w]: the gradient of a further loss by the reconstruction; None for none.
        """
        return self.result(self.evaluate(point, target, settings, pull))

    def evaluate(
        self,
        point: Point,
        target: Target,
        settings: Buffers,
        pull: Array | None = None,
        more: Buffers | None = None,
    ) -> Buffers:
        """Run the graph; gives all its outputs.

        Parameters
        ----------
        more:
            Further inputs that the graph has.
        """
        made = {
            LATENTS: self.backend.upload(point.latents[None]),
            **target.inputs,
            **settings,
            **self._free_inputs(point),
            **(more or {}),
        }
        if PULL in self.inputs:
            made[PULL] = self._pull(pull)
        elif pull is not None:
            raise self._too_old("terms of other networks")
        return self.backend.run(self.role, {name: made[name] for name in self.inputs})

    def result(self, outputs: Buffers) -> LossResult:
        """The outputs of the graph, told apart."""
        outputs = dict(outputs)
        rendering, terms = outputs.pop(RENDERING), outputs.pop(TERMS, None)
        outputs.pop(RECONSTRUCTION, None)
        download = self.backend.download
        loss = float(download(outputs.pop(LOSS))[0])
        return LossResult(loss, lambda: download(terms), outputs, lambda: download(rendering)[0])

    def kernels(self, point: Point) -> Buffers:
        """Kernels ``weight.<layer>`` at a point."""
        codes = point.codes
        tuned: Buffers = self._keep("tuned", (codes,), lambda: self._renderer.kernels(codes))
        if point.channel_offsets is None:
            return tuned
        offsets = point.channel_offsets
        kernels: Buffers = self._keep(
            "kernels",
            (codes, offsets),
            lambda: self._renderer.add_channel_offsets(
                tuned, self.base_kernels(), self.backend.upload(offsets)
            ),
        )
        return kernels

    def base_kernels(self) -> Buffers:
        """Kernels of codes of zero."""
        base: Buffers = self._keep("base", (), self._renderer.base_kernels)
        return base

    def own_kernels(self, point: Point, with_base: bool) -> None:
        """Make the kernels of a point, and the base's, in buffers that keep no graph in memory."""
        self.kernels(point)
        if with_base:
            self.base_kernels()
        for name in {"tuned", "base", "kernels"} & self._kept.keys():
            made_of, kernels = self._kept[name]
            self._kept[name] = made_of, in_own_memory(self.backend, kernels)

    def kernel_gradients(self, gradients: Buffers) -> Buffers:
        """``gradient.<layer>`` of all tuned layers, whatever graph has given the gradients.

        Where all weights vary, a tuned kernel is a parameter in the scale of the checkpoint. What
        leads from kernels to parameters is linear, so kernels of ones give that scale. A layer that
        the graph does not know has none.
        """
        found: Buffers = {}
        for layer in self._manifest.tuned_layers:
            name, parameter = f"gradient.{layer.name}", f"gradient.{self._parameter(layer.name)}"
            if name in gradients:
                found[name] = gradients[name]
                continue
            gradient = np.zeros(layer.shape, np.float32)
            if parameter in gradients:
                scales = self._keep("scales", (), self._parameter_scales)
                gradient = self.backend.download(gradients[parameter]).reshape(layer.shape)
                gradient = gradient * scales[layer.name]
            found[name] = self.backend.upload(gradient)
        return found

    def _parameter_scales(self) -> dict[str, Array]:
        layers = self._manifest.tuned_layers
        ones = {
            f"weight.{layer.name}": self.backend.upload(np.ones(layer.shape, np.float32))
            for layer in layers
        }
        outputs = self._free.parameters(ones)
        return {
            layer.name: self.backend.download(
                outputs[f"parameter.{self._parameter(layer.name)}"]
            ).reshape(layer.shape)
            for layer in layers
        }

    def _parameter(self, layer: str) -> str:
        """The free weight that is a layer's kernel: as StyleGAN2 or MobileStyleGAN name it."""
        inputs = self._manifest.parametric_inputs
        names = () if inputs is None else (each.name for each in inputs.parameters)
        own = f"{layer}.weight"
        return own if own in names else f"{layer}.conv.weight"

    def forget(self) -> None:
        """Take nothing as known of the points before: the next may be anywhere."""

    def drop(self) -> None:
        """Keep no buffers any more; whatever is needed again is made again."""
        self._kept.clear()

    def _free_inputs(self, point: Point) -> Buffers:
        """Kernels or parameters, noise and feature map, as far as the graph takes them."""
        made: Buffers = {}
        kernels = self.kernels(point)
        made |= kernels
        if any(name.startswith("noise.") for name in self.inputs):
            made |= self._keep("noise", (point.noise,), lambda: self._free.noise(point.noise))
        if any(name.startswith("parameter.") for name in self.inputs):
            stored = self._keep(
                "stored",
                (point.codes, point.channel_offsets),
                lambda: self._free.parameters(kernels),
            )
            made |= self._keep(
                "parameters",
                (point.codes, point.channel_offsets, point.weights),
                lambda: self._free.changed_parameters(stored, point.weights),
            )
        if FEATURE_OFFSET in self.inputs:
            made[FEATURE_OFFSET] = self._keep(
                FEATURE_OFFSET,
                (point.features,),
                lambda: self._free.feature_offset(point.features),
            )
        return made

    def _pull(self, pull: Array | None) -> Any:
        if pull is not None:
            return self.backend.upload(pull)
        shape = (1, 3, *size_of(self.inputs[PULL]))
        return self._keep(PULL, (), lambda: self.backend.upload(np.zeros(shape, np.float32)))

    def _keep(self, name: str, made_of: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What was made last of the same arrays, or made now."""
        kept = self._kept.get(name)
        if kept is not None and all(a is b for a, b in zip(kept[0], made_of, strict=True)):
            return kept[1]
        made = make()
        self._kept[name] = (made_of, made)
        return made

    def _too_old(self, what: str) -> BundleError:
        return BundleError(
            f"the graph {self.role} of bundle {self._manifest.name!r} does not take {what}; build "
            "the bundle again with this version"
        )
