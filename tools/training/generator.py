"""Stage 1: a generator learns to paint pictures from their known factors, supervised."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from hyperstyle_export.networks.config import GeneratorConfig
from hyperstyle_export.networks.generator import MAPPING_LR_MUL, Generator
from lightning_fabric import Fabric
from torch import Tensor, nn

from . import losses
from .checkpoint import save_atomically
from .config import AdversarialRun, GeneratorRun
from .factors import Factors
from .loop import Setup, Trainer, means
from .optimisers import Weight
from .pictures import read_batch, to_float
from .synthesis import FastSynthesis

logger = logging.getLogger(__name__)

FILE = "generator.pt"
TO_RGB_START = 0.2  # of the usual size: the sum over resolutions starts small
AVERAGE_SAMPLES = 20_000


class FactorsToPicture(nn.Module):
    """Mapping network and fast synthesis: z [B,W] -> pictures [B,3,resolution,resolution]."""

    def __init__(self, generator: Generator, dtype: torch.dtype) -> None:
        super().__init__()
        self.synthesis = FastSynthesis(generator, dtype)

    def forward(self, z: Tensor, resolution: int) -> Tensor:
        """Paint up to `resolution`."""
        return self.synthesis(self.synthesis.generator.map(z), None, resolution)


class GeneratorTrainer(Trainer[Generator]):
    """Factors -> mapping network -> w -> picture, against the picture itself.

    Parameters
    ----------
    generator:
        Where it begins.
    factors:
        Their standardisation; None takes that of the training pictures.
    """

    stage = "generator"

    def __init__(
        self,
        config: GeneratorRun | AdversarialRun,
        setup: Setup,
        fabric: Fabric,
        generator: Generator,
        factors: Factors | None = None,
    ) -> None:
        super().__init__(config, setup, fabric)
        self._weights = config.loss
        self._growth = config.growth if isinstance(config, GeneratorRun) else ()
        self._side = generator.config.resolution
        self._width = generator.config.style_width
        average = copy.deepcopy(generator)
        self.learn(
            generator.to(fabric.device), average.to(fabric.device), generator_weights(generator)
        )
        painter = FactorsToPicture(generator, self.dtype)
        self._painter = torch.compile(painter, dynamic=False) if config.machine.compile else painter
        self._averaged_painter = FactorsToPicture(average, self.dtype)
        pictures = self.stream.pictures
        known = pictures.factors[pictures.known()]
        self.factors = factors or Factors.of(pictures.factor_names, known, self._width)
        for found in (pictures, self.test):
            self.factors.check(found.factor_names, found.paths[0].parent)

    def loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The supervised losses of the next batch."""
        return self.supervised(*self.next_painted())

    def next_painted(self) -> tuple[Tensor, Tensor]:
        """What is painted from the next batch's factors, and the pictures themselves."""
        resolution = self.resolution()
        numbers = self.stream.take(self.batch)
        pictures = self.stream.pictures
        target = self._read([pictures.paths[i] for i in numbers], resolution)
        return self._painter(self._z(pictures.factors[numbers.numpy()]), resolution), target

    def supervised(self, painted: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Pixels, their gradients, and LPIPS."""
        weights = self._weights
        l1 = losses.l1(painted, target).mean()
        gradient = losses.gradient_l1(painted, target).mean()
        lpips = self.perceptual(painted, target).mean()
        loss = weights.l1 * l1 + weights.gradient * gradient + weights.lpips * lpips
        side = torch.tensor(float(painted.shape[-1]))
        return loss, {"l1": l1.detach(), "lpips": lpips.detach(), "side": side}

    def resolution(self) -> int:
        """Trained now: lower ones come first, if the config says so."""
        return next((r for r, until in self._growth if self.seen < until), self._side)

    def evaluate(self) -> dict[str, float]:
        """PSNR, L2 and LPIPS at the resolution trained now."""
        return means(self.figures(*self._paint_held_out(part)) for part in self.held_out())

    def sheet(self) -> list[Tensor]:
        """Held-out pictures above, what is painted from their factors below."""
        painted, target = self._paint_held_out(self.shown())
        return [target, painted]

    def export(self) -> None:
        """Write the generator in rosinality's layout, its average latent and its factors."""
        if not self.fabric.is_global_zero:
            return
        factors = torch.from_numpy(self.stream.pictures.factors[:AVERAGE_SAMPLES])
        z = self.factors.to_z(factors, self._width)
        with torch.inference_mode():
            w = self.average.map(z.to(self.fabric.device)).mean(0)
        state = {k: v.detach().cpu().clone() for k, v in self.average.state_dict().items()}
        contents = {
            "g_ema": state,
            "latent_avg": w.cpu().clone(),
            "factors": self.factors.to_entry(),
            "seen": self.seen,
        }
        save_atomically(self.setup.out / FILE, contents)

    def extra_state(self) -> dict[str, Any]:
        """The standardisation: it must not move when pictures arrive."""
        return {"factors": self.factors.to_entry()}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the standardisation."""
        self.factors = Factors.from_entry(state["factors"])

    def _paint_held_out(self, part: slice) -> tuple[Tensor, Tensor]:
        resolution = self.resolution()
        target = self._read(self.test.paths[part], resolution)
        z = self._z(self.test.factors[part])
        return self._averaged_painter(z, resolution), target

    def _read(self, paths: Any, resolution: int) -> Tensor:
        """Pictures at the resolution trained: means over blocks, as the generator pools."""
        pictures = to_float(read_batch(paths, (self._side, self._side)).to(self.fabric.device))
        return pictures if resolution == self._side else F.adaptive_avg_pool2d(pictures, resolution)

    def _z(self, factors: Any) -> Tensor:
        z = self.factors.to_z(torch.from_numpy(factors), self._width)
        return z.to(self.fabric.device)


def new_generator(config: GeneratorConfig, seed: int) -> Generator:
    """A generator to begin with; noise is left out, as factors determine a picture."""
    torch.manual_seed(seed)
    generator = Generator(config)
    with torch.no_grad():
        for layer in (generator.to_rgb1, *generator.to_rgbs):
            layer.conv.weight.mul_(TO_RGB_START)
    for name, parameter in generator.named_parameters():
        parameter.requires_grad_(not name.endswith("noise.weight"))
    return generator


def generator_weights(generator: Generator) -> list[Weight]:
    """What is learnt: equalised weights; the mapping network's are stored 1/lr_mul times larger."""
    weights = []
    for name, parameter in generator.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = 1 / MAPPING_LR_MUL if name.startswith("style.") else 1.0
        plain = "to_rgb" in name or name == "input.input"
        weights.append(Weight(parameter, scale, parameter.ndim >= 2 and not plain))
    return weights
