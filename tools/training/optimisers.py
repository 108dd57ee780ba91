"""Muon on matrices and convolutions, Adam on the rest, with rates in a weight's own scale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from .config import Optimiser

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # quintic that pulls singular values to about 1
NEWTON_SCHULZ_STEPS = 5
UPDATE_RMS = 0.4  # of a step at rate 1; about Adam's


@dataclass(frozen=True)
class Weight:
    """A parameter, the size of a step that suits it, and which optimiser takes it.

    Attributes
    ----------
    scale:
        Multiplies the learning rate: 1 for equalised weights, 1/lr_mul for those of an equalised
        layer with a rate of its own, 1/sqrt(fan in) for plain matrices.
    """

    parameter: nn.Parameter
    scale: float
    is_matrix: bool


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: every direction of a matrix is learnt at one speed.

    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024. A modulated
    convolution [1,O,I,k,k] counts as a matrix [O,I*k*k].
    """

    def __init__(self, groups: Iterable[dict[str, Any]], momentum: float) -> None:
        super().__init__(groups, {"lr": 0.0, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step along orthogonalised momentum."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["average"] = torch.zeros_like(parameter)
                average = state["average"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(average, group["momentum"])  # Nesterov's
                rows = parameter.shape[1] if parameter.ndim == 5 else parameter.shape[0]
                matrix = ahead.reshape(rows, -1)
                length = UPDATE_RMS * max(matrix.shape) ** 0.5
                update = orthogonalised(matrix).reshape(parameter.shape)
                parameter.add_(update, alpha=-group["lr"] * length)


def orthogonalised(matrix: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values in about 0.7 .. 1.2."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / (x.norm() + 1e-12)).bfloat16()
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).float()


class Optimisers:
    """The two optimisers of a run as one.

    Parameters
    ----------
    weights:
        What is learnt.
    config:
        Rates and clipping.
    fabric:
        Of the processes that train together; they average their gradients.
    """

    def __init__(self, weights: list[Weight], config: Optimiser, fabric: Fabric) -> None:
        self._config, self._fabric = config, fabric
        self._peaks: list[tuple[dict[str, Any], float]] = []
        self.parameters = [w.parameter for w in weights]
        matrices = _groups([w for w in weights if w.is_matrix])
        others = _groups([w for w in weights if not w.is_matrix])
        self.optimisers: list[torch.optim.Optimizer] = []
        if matrices:
            self._add(Muon(matrices, config.momentum), config.matrix_rate)
        if others:
            self._add(torch.optim.Adam(others, betas=(0.9, 0.99), foreach=True), config.other_rate)

    def _add(self, optimiser: torch.optim.Optimizer, rate: float) -> None:
        self.optimisers.append(optimiser)
        self._peaks += [(group, rate * group["scale"]) for group in optimiser.param_groups]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimiser in self.optimisers:
            optimiser.zero_grad()

    def step(self, rate: float) -> float:
        """Clip and step at ``rate`` times the peak rates; returns the gradient's norm before."""
        if self._fabric.world_size > 1:
            self._share_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self._config.clip)
        for group, peak in self._peaks:
            group["lr"] = peak * rate
        for optimiser in self.optimisers:
            optimiser.step()
        return float(norm)

    def _share_gradients(self) -> None:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        shared = self._fabric.all_reduce(flat, reduce_op="mean")
        assert isinstance(shared, Tensor)
        parts = torch.split(shared, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def state_dict(self) -> list[dict[str, Any]]:
        """States of the optimisers."""
        return [optimiser.state_dict() for optimiser in self.optimisers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Restore what `state_dict` gave."""
        for optimiser, state in zip(self.optimisers, states, strict=True):
            optimiser.load_state_dict(state)
        self._peaks = [
            (group, peak)
            for group, (_, peak) in zip(
                (g for o in self.optimisers for g in o.param_groups), self._peaks, strict=True
            )
        ]


def _groups(weights: list[Weight]) -> list[dict[str, Any]]:
    """One parameter group a scale."""
    scales = sorted({w.scale for w in weights})
    return [
        {"params": [w.parameter for w in weights if w.scale == scale], "scale": scale}
        for scale in scales
    ]


class WeightAverage:
    """Exponential moving average of a module's parameters and of its floating-point buffers.

    The average starts as a plain mean: after n steps its decay is at most n / (n + 10).
    """

    def __init__(self, source: nn.Module, average: nn.Module, decay: float) -> None:
        self._pairs = [
            (a, s)
            for a, s in zip(
                [*average.parameters(), *average.buffers()],
                [*source.parameters(), *source.buffers()],
                strict=True,
            )
            if a.is_floating_point()
        ]
        self._decay = decay

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Move towards the source after its ``steps``-th step."""
        share = 1 - min(self._decay, steps / (steps + 10))
        averages, sources = zip(*self._pairs, strict=True)
        torch._foreach_lerp_(averages, [s.detach() for s in sources], share)
