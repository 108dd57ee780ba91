"""Stage 2: the W-encoder learns to find the latent of a picture."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hyperstyle_export.networks.encoder import WEncoder
from lightning_fabric import Fabric
from torch import Tensor, nn

from . import losses
from .checkpoint import load_state, save_atomically
from .config import EncoderRun
from .errors import TrainingError
from .frozen import FrozenGenerator, read_encoder
from .loop import Network, Setup, Trainer, means
from .optimisers import Weight
from .pictures import read_batch, to_float
from .sensitivity import Units, sensitivity_units
from .similarity import optional_similarity

FILE = "w_encoder.pt"
HEAD_START = 0.3  # of the usual size
MIN_MATRIX_SIDE = 8  # of a convolution; smaller ones have no directions worth orthogonalising
UNIT_LATENTS = 20_000


@dataclass(frozen=True)
class EncoderFiles:
    """Weight files of the encoder's stage.

    Attributes
    ----------
    generator:
        Official-layout generator.
    init:
        W-encoder to begin with, or None.
    similarity:
        Embedding network, or None.
    """

    generator: Path
    init: Path | None = None
    similarity: Path | None = None


class EncoderTrainer(Trainer[WEncoder]):
    """Picture -> v (the latent in sensitivity units) -> w -> picture."""

    stage = "encoder"

    def __init__(
        self, config: EncoderRun, setup: Setup, fabric: Fabric, files: EncoderFiles
    ) -> None:
        super().__init__(config, setup, fabric)
        self.config = config
        frozen = FrozenGenerator(
            files.generator, config.input_size, config.dataset_type, self.dtype
        )
        self._frozen = frozen.to(fabric.device)
        if config.network.style_width != frozen.generator.config.style_width:
            raise TrainingError(
                f"network.style_width is {config.network.style_width}, but {files.generator} wants "
                f"latents of width {frozen.generator.config.style_width}"
            )
        self._check_known(files.generator)
        stored = self.stored_extra_state()
        if stored is None:
            units = sensitivity_units(self._frozen, self._sample_latents(), self.random)
            self.units = fabric.broadcast(units)
        else:
            self.load_extra_state(stored)
        encoder = WEncoder(config.network)
        with torch.no_grad():
            encoder.linear.weight.mul_(HEAD_START)
        if files.init is not None:
            load_state(encoder, read_encoder(files.init).state_dict(), str(files.init))
            with torch.no_grad():
                _change_basis(encoder, self.units.to.cpu())
        encoder = channels_last(encoder.to(fabric.device))
        self.learn(encoder, copy.deepcopy(encoder).eval(), plain_weights(encoder))
        self._forward: Callable[[Tensor], Tensor] = encoder
        self._generate: Callable[[Tensor], Tensor] = self._frozen
        if config.machine.compile:
            self._forward = torch.compile(encoder, dynamic=False)
            self._generate = torch.compile(self._frozen, dynamic=False)
        self._similarity = optional_similarity(
            config.loss.similarity, files.similarity, fabric.device, self.dtype
        )

    def loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Known latents at first; then pictures too."""
        numbers = self.stream.take(self.batch)
        pictures = self.stream.pictures
        target = self._read([pictures.paths[i] for i in numbers])
        v = self._encode(self._forward, target)
        weights = self.config.loss
        loss, scalars = v.new_zeros(()), {}
        known = torch.from_numpy(pictures.known())[numbers]
        regressing = self.seen < self.config.regression
        if known.any() and (regressing or weights.latent):
            truth = self._known_v(torch.from_numpy(pictures.factors)[numbers[known]])
            latent = (v[known.to(v.device)] - truth).square().mean()
            loss = loss + (1.0 if regressing else weights.latent) * latent
            scalars["latent"] = latent.detach()
        if regressing:
            return loss, scalars
        rendering = self._generate(self._to_w(v))
        for name, weight, value in self._picture_losses(rendering, target, v):
            loss = loss + weight * value
            scalars[name] = value.detach()
        return loss, scalars

    def evaluate(self) -> dict[str, float]:
        """L2, PSNR and LPIPS of what the generator makes of the held-out pictures' latents."""
        return means(self.figures(*self._reconstruct(part)) for part in self.held_out())

    def sheet(self) -> list[Tensor]:
        """Held-out pictures above, their reconstructions below."""
        rendering, target = self._reconstruct(self.shown())
        return [target, rendering]

    def export(self) -> None:
        """Write the encoder as an official W-encoder file: in w, its units folded in."""
        if not self.fabric.is_global_zero:
            return
        encoder = copy.deepcopy(self.average).cpu()
        _change_basis(encoder, self.units.back.cpu())
        state = {f"encoder.{k}": v.contiguous() for k, v in encoder.state_dict().items()}
        rows = self._frozen.generator.config.num_latents
        contents = {
            "state_dict": state,
            "latent_avg": self._frozen.average.cpu().repeat(rows, 1),
            "opts": {
                "output_size": self._frozen.generator.config.resolution,
                "input_size": list(self.config.input_size),
                "dataset_type": self.config.dataset_type,
                "encoder_type": "WEncoder",
            },
        }
        save_atomically(self.setup.out / FILE, contents)

    def extra_state(self) -> dict[str, Any]:
        """The units: what has been learnt is in them."""
        return {"to": self.units.to, "back": self.units.back}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the units."""
        device = self.fabric.device
        self.units = Units(state["to"].to(device), state["back"].to(device))

    def _check_known(self, path: Path) -> None:
        """Whether the known factors, if any are to be used, are the generator's."""
        names = self.stream.pictures.factor_names
        if self._frozen.factors is not None and names and self._frozen.factors.names != names:
            raise TrainingError(
                f"the factors of {self.setup.train[0]} are not those {path} was trained on; give "
                "pictures of the same renderer, or leave out their factors.npz"
            )
        if self.config.regression and not (self._frozen.factors is not None and names):
            raise TrainingError(
                "regression is set, but no latents are known: it wants a factors.npz beside the "
                "pictures and a generator trained on it; set regression = 0"
            )

    def _sample_latents(self) -> Tensor:
        """Latents that occur: of the known factors, else of random z. [N,W]."""
        pictures = self.stream.pictures
        known = torch.from_numpy(pictures.factors[pictures.known()][:UNIT_LATENTS])
        with torch.no_grad():
            if self._frozen.factors is not None and len(known):
                return self._frozen.latents_of(known)
            width = self.config.network.style_width
            z = torch.randn(UNIT_LATENTS, width, generator=self.random)
            return self._frozen.generator.map(z.to(self.fabric.device))

    def _known_v(self, factors: Tensor) -> Tensor:
        with torch.no_grad():
            return (self._frozen.latents_of(factors) - self._frozen.average) @ self.units.to

    def _to_w(self, v: Tensor) -> Tensor:
        return v @ self.units.back + self._frozen.average

    def _encode(self, encoder: Callable[[Tensor], Tensor], pictures: Tensor) -> Tensor:
        enabled = self.dtype != torch.float32
        with torch.autocast(pictures.device.type, self.dtype, enabled=enabled):
            return encoder(pictures).float()

    def _picture_losses(
        self, rendering: Tensor, target: Tensor, v: Tensor
    ) -> list[tuple[str, float, Tensor]]:
        weights = self.config.loss
        values = [
            ("l2", weights.l2, losses.l2(rendering, target).mean()),
            ("lpips", weights.lpips, self.perceptual(rendering, target).mean()),
        ]
        if self._similarity is not None:
            value = self._similarity.loss(rendering, target).mean()
            values.append(("similarity", weights.similarity, value))
        if weights.regularisation:
            values.append(("regularisation", weights.regularisation, v.square().mean()))
        return values

    def _reconstruct(self, part: slice) -> tuple[Tensor, Tensor]:
        target = self._read(self.test.paths[part])
        return self._frozen(self._to_w(self._encode(self.average, target))), target

    def _read(self, paths: Any) -> Tensor:
        return to_float(read_batch(paths, self.config.input_size).to(self.fabric.device))


def _change_basis(encoder: WEncoder, matrix: Tensor) -> None:
    """Multiply what the last layer gives by a symmetric matrix."""
    encoder.linear.weight.data = matrix @ encoder.linear.weight.data
    encoder.linear.bias.data = matrix @ encoder.linear.bias.data


def channels_last(network: Network) -> Network:
    """Store the convolutions' kernels in the order that is fast on CPUs and tensor cores."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def plain_weights(network: nn.Module) -> list[Weight]:
    """What is learnt of a network of ordinary convolutions: Muon for all but small ones."""
    weights = []
    for parameter in network.parameters():
        is_matrix = parameter.ndim == 4 and min(parameter.shape[:2]) >= MIN_MATRIX_SIDE
        fan_in = parameter[0].numel()
        weights.append(Weight(parameter, fan_in**-0.5 if is_matrix else 1.0, is_matrix))
    return weights
