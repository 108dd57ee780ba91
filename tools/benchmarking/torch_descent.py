"""Pivotal tuning in eager PyTorch: its steps as published, on the networks of a bundle.

The published generator, autograd and torch.optim.Adam, with the loss, the schedules and the random
numbers of the runtime's presets, so that both should arrive at the same picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hyperstyle_export.bundles.recovery import recover_model
from hyperstyle_export.networks.lpips import Lpips
from hyperstyle_export.networks.refinement import EncoderTerm, LpipsTerm, loss_terms
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.imaging.pictures import to_input
from hyperstyle_rt.optimising.adam import PUBLISHED
from hyperstyle_rt.optimising.noise_maps import REGULARISER_WEIGHT, SMALLEST
from hyperstyle_rt.optimising.presets import LPIPS_WEIGHT, PRESETS, Stage
from hyperstyle_rt.optimising.running import SEED
from hyperstyle_rt.optimising.schedules import projector_disturbance, projector_rate
from hyperstyle_rt.types import Array, Picture
from numpy.typing import NDArray
from torch import Tensor

Clock = Callable[[], float]

PROJECTOR = PRESETS["projector"].stages[0]
TUNING = PRESETS["pti"].stages[1]


@dataclass(frozen=True)
class Descended:
    """What some steps have come to.

    Attributes
    ----------
    seconds:
        Of every step, by the clock that was given.
    rendering:
        float32 [3,H,W], after the last of them.
    """

    seconds: Sequence[float]
    rendering: Array


class TorchDescent:
    """The networks of a bundle and one picture to approach.

    Parameters
    ----------
    picture:
        uint8 [H,W,3], aligned, of the rendering's size.
    lpips:
        The perceptual network of the bundle; None for its own encoder.
    """

    def __init__(self, bundle: Bundle, picture: Picture, lpips: Lpips | None) -> None:
        self._manifest = bundle.manifest
        self._model = recover_model(bundle)
        self._term = EncoderTerm(self._model) if lpips is None else LpipsTerm(lpips)
        self._built = LPIPS_WEIGHT  # an encoder in the place of LPIPS counts as it does
        small = torch.from_numpy(to_input(picture, self._manifest.input_size))
        self._target = torch.from_numpy(to_input(picture, self._manifest.image_size))
        with torch.no_grad():
            self._wanted = self._term.features(small)
        layers = {layer.name: layer for layer in self._model.config.generator.layers}
        inputs = self._manifest.optional_inputs
        noisy = () if inputs is None else inputs.noise
        self._noise = {f"noise_{layers[each.name].noise}": each.side for each in noisy}
        parametric = self._manifest.parametric_inputs
        tuned = () if parametric is None else parametric.parameters
        parameters = dict(self._model.decoder.named_parameters())
        self._stored = {each.name: parameters[each.name] for each in tuned}

    def project(self, mean: Array, deviation: float, steps: int, clock: Clock) -> Descended:
        """Steps of StyleGAN2's projector, in W and noise maps.

        Parameters
        ----------
        mean, deviation:
            Of mapped latents, [W] and a number.
        """
        source = np.random.default_rng(SEED)
        noise = source.standard_normal(sum(s * s for s in self._noise.values()), dtype=np.float32)
        maps = self._maps(noise)
        w = torch.from_numpy(mean.copy()).requires_grad_()
        leaves = [w, *(each.requires_grad_() for each in maps.values())]
        rate = PROJECTOR.variables["w"].rate
        assert rate is not None
        optimiser = torch.optim.Adam(leaves, rate, PUBLISHED.decay, PUBLISHED.epsilon)
        self._put(maps)

        def prepare(done: int) -> Tensor:
            progress = done / steps
            optimiser.param_groups[0]["lr"] = rate * projector_rate(done, progress)
            shaken = source.standard_normal((1, len(mean)), dtype=np.float32)
            amount = np.float32(deviation * projector_disturbance(progress))
            return w + torch.from_numpy(amount * shaken)[0]

        def settle() -> None:
            with torch.no_grad():
                for each in maps.values():
                    each -= each.mean()
                    each *= each.square().mean().rsqrt()

        return self._descend(PROJECTOR, optimiser, prepare, settle, maps, steps, clock)

    def tune(
        self, latents: Array, noise: NDArray[Any] | None, steps: int, clock: Clock
    ) -> Descended:
        """Steps on all synthesis weights.

        Parameters
        ----------
        latents, noise:
            The pivot: [L,W] and [N]; None for a generator without noise.
        """
        if noise is not None:
            self._put(self._maps(noise.astype(np.float32)))
        pivot = torch.from_numpy(latents)
        before = {name: value.detach().clone() for name, value in self._stored.items()}
        for parameter in self._stored.values():
            parameter.requires_grad_(True)
        rate = TUNING.variables["weights"].rate
        assert rate is not None
        optimiser = torch.optim.Adam(self._stored.values(), rate, PUBLISHED.decay)
        try:
            return self._descend(TUNING, optimiser, lambda _: pivot, lambda: None, {}, steps, clock)
        finally:
            for name, parameter in self._stored.items():
                parameter.requires_grad_(False)
                parameter.grad = None
                parameter.copy_(before[name])

    def _descend(
        self,
        stage: Stage,
        optimiser: torch.optim.Optimizer,
        prepare: Callable[[int], Tensor],
        settle: Callable[[], None],
        maps: Mapping[str, Tensor],
        steps: int,
        clock: Clock,
    ) -> Descended:
        """Follow the gradient; `prepare` gives the latents of a step, `settle` is called after."""
        weights, seconds = self._term_weights(stage), []
        for done in range(steps):
            began = clock()
            optimiser.zero_grad()
            image, seen = self._render(prepare(done))
            terms = loss_terms(
                image, self._target, self._term.loss(self._term.features(seen), self._wanted)
            )
            loss = (weights * terms).sum()
            if stage.noise_regulariser:
                loss = loss + REGULARISER_WEIGHT * sum(map(regulariser, maps.values()))
            loss.backward()
            optimiser.step()
            settle()
            seconds.append(clock() - began)
        with torch.no_grad():
            image, _ = self._render(prepare(steps))
        return Descended(seconds, image[0].numpy())

    def _render(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        rows = latents.expand(self._manifest.num_latents, -1)
        return self._model.generate(rows[None])

    def _term_weights(self, stage: Stage) -> Tensor:
        """What the terms of the loss are multiplied by, in which LPIPS has its weight already."""
        weights = stage.weights
        assert weights.perceptual is not None
        perceptual = weights.perceptual / self._built
        return torch.tensor([weights.pixels, weights.structure, perceptual])

    def _maps(self, flat: Array) -> dict[str, Tensor]:
        """Noise maps [1,1,s,s] of a flat array, by the names of the generator's buffers."""
        parts = torch.split(torch.from_numpy(flat), [side**2 for side in self._noise.values()])
        sides = self._noise.items()
        return {
            name: part.clone().view(1, 1, side, side)
            for (name, side), part in zip(sides, parts, strict=True)
        }

    def _put(self, maps: Mapping[str, Tensor]) -> None:
        for name, value in maps.items():
            setattr(self._model.decoder.noises, name, value)


def regulariser(noise: Tensor) -> Tensor:
    """How much neighbours in a map [1,1,s,s] resemble each other, over all its scales."""
    total = torch.zeros(())
    while True:
        for axis in (2, 3):
            total = total + (noise * noise.roll(1, axis)).mean().square()
        if noise.shape[2] <= SMALLEST:
            return total
        noise = torch.nn.functional.avg_pool2d(noise, 2)
