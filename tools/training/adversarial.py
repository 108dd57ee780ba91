"""Stage 1b: the supervised generator, made crisp by a discriminator.

Supervised losses leave soft what they cannot predict. The discriminator asks for pictures that look
like the training set; the supervised losses go on and hold the factors in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from hyperstyle_export.readers.official import read_generator
from lightning_fabric import Fabric
from torch import Tensor

from .checkpoint import load_state
from .config import AdversarialRun
from .discriminator import Discriminator
from .errors import TrainingError
from .factors import read_factors
from .generator import GeneratorTrainer
from .loop import Setup
from .optimisers import Optimisers, Weight


class AdversarialTrainer(GeneratorTrainer):
    """The generator's and the discriminator's steps in turn."""

    stage = "adversarial"

    def __init__(
        self, config: AdversarialRun, setup: Setup, fabric: Fabric, generator: Path
    ) -> None:
        network, _ = read_generator(generator)
        factors = read_factors(generator)
        if factors is None:
            raise TrainingError(
                f"{generator} was not trained on known factors; give what the stage 'generator' "
                "wrote"
            )
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not name.endswith("noise.weight"))
        super().__init__(config, setup, fabric, network.train(), factors)
        self._adversarial = config
        self._critic = Discriminator(network.config.channels).to(fabric.device)
        weights = [Weight(p, 1.0, False) for p in self._critic.parameters()]
        self._critic_optimisers = Optimisers(weights, config.discriminator, fabric)

    def loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Supervised losses and the discriminator's verdict, after a step of the discriminator."""
        painted, target = self.next_painted()
        scalars = self._teach_critic(painted.detach(), target)
        loss, supervised = self.supervised(painted, target)
        self._critic.requires_grad_(False)
        verdict = F.softplus(-self._judge_in_dtype(painted)).mean()
        self._critic.requires_grad_(True)
        scalars |= supervised | {"verdict": verdict.detach()}
        return loss + self._adversarial.weight * verdict, scalars

    def extra_state(self) -> dict[str, Any]:
        """The discriminator as well."""
        return super().extra_state() | {
            "critic": self._critic.state_dict(),
            "critic_optimisers": self._critic_optimisers.state_dict(),
        }

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the discriminator as well."""
        super().load_extra_state(state)
        load_state(self._critic, state["critic"], "the checkpoint's discriminator")
        self._critic_optimisers.load_state_dict(state["critic_optimisers"])

    def _teach_critic(self, painted: Tensor, target: Tensor) -> dict[str, Tensor]:
        """A step of the logistic loss, with R1 on real pictures now and then (Mescheder 2018)."""
        config = self._adversarial
        real, fake = self._judge_in_dtype(target), self._judge_in_dtype(painted)
        loss = F.softplus(-real).mean() + F.softplus(fake).mean()
        scalars = {"critic": loss.detach()}
        if self.steps % config.r1_interval == 0:
            shown = target.detach().requires_grad_()
            logits = self._critic(shown)  # in float32: its gradient is differentiated again
            (slope,) = torch.autograd.grad(logits.sum(), shown, create_graph=True)
            r1 = slope.square().sum((1, 2, 3)).mean()
            loss = loss + 0.5 * config.r1 * config.r1_interval * r1
            scalars["r1"] = r1.detach()
        self._critic_optimisers.zero_grad()
        torch.autograd.backward(loss)
        self._critic_optimisers.step(self.schedule.rate(self.seen))
        return scalars

    def _judge_in_dtype(self, pictures: Tensor) -> Tensor:
        with torch.autocast(pictures.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self._critic(pictures)
