"""Stage 3: the hypernetwork learns to mend what the encoder's latent leaves wrong."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from hyperstyle_export.networks.config import GeneratorConfig, HypernetworkConfig
from hyperstyle_export.networks.hypernetwork import Hypernetwork
from hyperstyle_export.readers.official import read_hyperstyle
from lightning_fabric import Fabric
from torch import Tensor, nn

from . import losses
from .checkpoint import load_state, save_atomically
from .config import HypernetworkRun, HypernetworkShape
from .encoder import channels_last, plain_weights
from .errors import TrainingError
from .frozen import FrozenGenerator, read_encoder
from .loop import Setup, Trainer, means
from .optimisers import Weight
from .pictures import read_batch, to_float
from .refiner import (
    Refiner,
    affine_maps,
    from_official,
    initialise,
    ordinary_blocks,
    to_official,
)
from .similarity import optional_similarity
from .start import SENSITIVITY_PICTURES, change_gradients, head_columns, loss_gradients

FILE = "hyperstyle.pt"
BIAS_RATE = 0.3  # of a head's rate
# A picture whose reconstruction has become this much worse than the encoder's is given up.
GIVEN_UP_FACTOR, GIVEN_UP_MARGIN = 1.5, 0.01


@dataclass(frozen=True)
class HypernetworkFiles:
    """Weight files of the hypernetwork's stage.

    Attributes
    ----------
    generator, w_encoder:
        Official-layout files; neither is changed.
    init:
        HyperStyle file to go on from, or None.
    similarity:
        Embedding network, or None.
    """

    generator: Path
    w_encoder: Path
    init: Path | None = None
    similarity: Path | None = None


@dataclass
class Buffer:
    """Pictures in the middle of their inversions, one a row.

    Attributes
    ----------
    target, reconstruction:
        [B,3,h,w].
    latents:
        [B,W].
    codes, counts:
        [B,M,K] and [B]: the iterations so far.
    first, before:
        L2 of the encoder's reconstruction and of the last one, [B].
    done:
        Rows to be given a new picture, [B] bool.
    """

    target: Tensor
    reconstruction: Tensor
    latents: Tensor
    codes: Tensor
    counts: Tensor
    first: Tensor
    before: Tensor
    done: Tensor


class HypernetworkTrainer(Trainer[Hypernetwork]):
    """Picture and reconstruction -> codes -> offsets -> better reconstruction."""

    stage = "hypernetwork"

    def __init__(
        self, config: HypernetworkRun, setup: Setup, fabric: Fabric, files: HypernetworkFiles
    ) -> None:
        super().__init__(config, setup, fabric)
        self.config = config
        frozen = FrozenGenerator(
            files.generator, config.input_size, config.dataset_type, self.dtype
        )
        self._frozen = frozen.to(fabric.device)
        self._encoder = read_encoder(files.w_encoder).to(fabric.device)
        if self._encoder.config.style_width != frozen.generator.config.style_width:
            raise TrainingError(
                f"{files.w_encoder} makes latents of width {self._encoder.config.style_width}, but "
                f"{files.generator} wants {frozen.generator.config.style_width}"
            )
        self._generate = (
            torch.compile(self._frozen, dynamic=False) if config.machine.compile else self._frozen
        )
        self._similarity = optional_similarity(
            config.loss.similarity, files.similarity, fabric.device, self.dtype
        )
        generator = frozen.generator.config
        network = Hypernetwork(hypernetwork_config(config.network, generator), generator)
        stored = self.stored_extra_state()
        if files.init is not None:
            state = read_hyperstyle(files.init).hypernet
            counters = {
                k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")
            }
            load_state(network, {**counters, **state}, str(files.init))
            from_official(network)
        elif stored is None:
            initialise(network, fabric.broadcast(self._head_columns(network)))
        self._head_rms = (
            {name: _rms(matrix) for name, (matrix, _) in affine_maps(network).items()}
            if stored is None
            else stored["head_rms"]
        )
        network = channels_last(network.to(fabric.device))
        self.learn(network, copy.deepcopy(network).eval(), self._weights(network))
        self._refine = Refiner(network, self.dtype)
        self._averaged = Refiner(self.average, self.dtype)
        self._buffer = self._new_buffer()

    # Training

    def loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """One iteration of every picture in the buffer."""
        if self.seen >= self.config.freeze_statistics:
            self._freeze_statistics()
        self._replace_done()
        buffer, weights = self._buffer, self.config.loss
        codes, offsets = self._refine(
            buffer.target, buffer.reconstruction, buffer.codes, buffer.counts
        )
        rendering = self._generate(buffer.latents, offsets)
        l2 = losses.l2(rendering, buffer.target)
        lpips = self.perceptual(rendering, buffer.target)
        loss = weights.l2 * l2 + weights.lpips * lpips
        loss = loss + weights.worsening * F.relu(l2 - buffer.before)
        scalars = {"l2": l2, "lpips": lpips, "encoder_l2": buffer.first}
        if self._similarity is not None:
            scalars["similarity"] = self._similarity.loss(rendering, buffer.target)
            loss = loss + weights.similarity * scalars["similarity"]
        scalars |= self._by_iteration(l2.detach())
        self._advance(rendering.detach(), codes.detach(), l2.detach())
        return loss.mean(), {name: value.detach().mean() for name, value in scalars.items()}

    def _advance(self, rendering: Tensor, codes: Tensor, l2: Tensor) -> None:
        """Keep what was reached; choose which pictures go on."""
        buffer, config = self._buffer, self.config
        buffer.reconstruction, buffer.codes, buffer.before = rendering, codes, l2
        buffer.counts = buffer.counts + 1
        most = 1 if self.seen < config.single else config.iterations
        leave = torch.rand(self.batch, generator=self.random) > config.persistence
        given_up = l2 > GIVEN_UP_FACTOR * buffer.first + GIVEN_UP_MARGIN
        buffer.done = leave.to(l2.device) | (buffer.counts >= most) | given_up

    @torch.no_grad()
    def _replace_done(self) -> None:
        rows = self._buffer.done.nonzero()[:, 0]
        if not len(rows):
            return
        buffer = self._buffer
        target, latents = self._next_pictures(len(rows))
        rendering = self._frozen(latents)
        buffer.target[rows], buffer.latents[rows] = target, latents
        # Not in place: the step before may have kept it.
        buffer.reconstruction = buffer.reconstruction.index_copy(0, rows, rendering)
        buffer.codes[rows], buffer.counts[rows] = 0, 0
        l2 = losses.l2(rendering, target)
        buffer.first[rows], buffer.before[rows] = l2, l2
        buffer.done = torch.zeros_like(buffer.done)

    def _by_iteration(self, l2: Tensor) -> dict[str, Tensor]:
        """L2 relative to the encoder's, apart for every iteration."""
        ratios = l2 / self._buffer.first
        number = self._buffer.counts + 1
        return {
            f"ratio_{n}": ratios[number == n]
            for n in range(1, self.config.iterations + 1)
            if (number == n).any()
        }

    def _freeze_statistics(self) -> None:
        """Batch normalisation by its averages, those of the averaged network."""
        for own, averaged in zip(self.network.buffers(), self.average.buffers(), strict=True):
            own.copy_(averaged)
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

    # Held-out pictures

    def evaluate(self) -> dict[str, float]:
        """L2, PSNR and LPIPS, each by iteration: l2_0 is the encoder's."""
        last = self.config.iterations
        figures = means(self._figures_of(part) for part in self.held_out())
        return figures | {"ratio": figures[f"l2_{last}"] / figures["l2_0"]}

    def sheet(self) -> list[Tensor]:
        """Held-out pictures; the encoder's reconstructions; after the first and last iteration."""
        target, renderings = self._invert(self.shown())
        return [target, renderings[0], renderings[1], renderings[-1]]

    def _figures_of(self, part: slice) -> dict[str, Tensor]:
        target, renderings = self._invert(part)
        return {
            f"{name}_{iteration}": values
            for iteration, picture in enumerate(renderings)
            for name, values in self.figures(picture, target).items()
        }

    def _invert(self, part: slice) -> tuple[Tensor, list[Tensor]]:
        target = self._read(self.test.paths[part])
        latents = self._latents(target)
        renderings = [self._frozen(latents)]
        codes, counts = self._no_codes(len(target))
        for _ in range(self.config.iterations):
            codes, offsets = self._averaged(target, renderings[-1], codes, counts)
            offsets = {index: self.config.damping * o for index, o in offsets.items()}
            counts = counts + 1
            renderings.append(self._frozen(latents, offsets))
        return target, renderings

    # Files

    def export(self) -> None:
        """Write hypernetwork and generator as an official HyperStyle file."""
        if not self.fabric.is_global_zero:
            return
        network = copy.deepcopy(self.average).cpu()
        to_official(network, self.config.damping)
        generator = self._frozen.generator
        state = {f"hypernet.{k}": v.contiguous() for k, v in network.state_dict().items()}
        for key, value in generator.state_dict().items():
            state[f"decoder.{key}"] = value.detach().cpu().contiguous()
        contents = {
            "state_dict": state,
            "latent_avg": self._frozen.average.cpu().repeat(generator.config.num_latents, 1),
            "opts": {
                "output_size": generator.config.resolution,
                "input_size": list(self.config.input_size),
                "dataset_type": self.config.dataset_type,
                "encoder_type": "SharedWeightsHyperNetResNet",
                "layers_to_tune": ",".join(map(str, network.config.tuned_layers)),
                "w_encoder_type": "WEncoder",
            },
        }
        save_atomically(self.setup.out / FILE, contents)

    def extra_state(self) -> dict[str, Any]:
        """The buffer, and the sizes the heads began with."""
        return {"buffer": dict(vars(self._buffer)), "head_rms": self._head_rms}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the buffer; processes but the first begin with a new one."""
        if self.fabric.global_rank == 0 and len(state["buffer"]["done"]) == self.batch:
            device = self.fabric.device
            self._buffer = Buffer(**{k: v.to(device) for k, v in state["buffer"].items()})

    # Beginning

    def _weights(self, network: Hypernetwork) -> list[Weight]:
        """Convolutions as usual; the maps to offsets at a rate in units of their own size."""
        heads: dict[int, float] = {}
        for name, (matrix, bias) in affine_maps(network).items():
            scale = self.config.head_rate * self._head_rms[name] / self.config.optimiser.other_rate
            heads |= {id(matrix): scale, id(bias): BIAS_RATE * scale}
        return [
            Weight(w.parameter, heads[id(w.parameter)], False) if id(w.parameter) in heads else w
            for w in plain_weights(network)
        ]

    def _head_columns(self, network: Hypernetwork) -> dict[int, Tensor]:
        start = self.config.start
        if start.pictures < self.config.network.code_width:
            raise TrainingError(
                f"start.pictures is {start.pictures}; it must be at least network.code_width, "
                f"{self.config.network.code_width}"
            )
        shapes = {
            i: (b.layer.out_channels, b.layer.in_channels)
            for i, b in ordinary_blocks(network).items()
        }
        if not shapes:
            return {}
        weights = self.config.loss

        def loss(rendering: Tensor, target: Tensor) -> Tensor:
            l2, lpips = losses.l2(rendering, target), self.perceptual(rendering, target)
            return weights.l2 * l2 + weights.lpips * lpips

        of_loss = loss_gradients(self._generate, self._batches(start.pictures), shapes, loss)
        of_change = change_gradients(
            self._generate,
            self._batches(min(start.pictures, SENSITIVITY_PICTURES)),
            shapes,
            self.random,
        )
        return head_columns(of_loss, of_change, self.config.network.code_width, start)

    def _batches(self, pictures: int) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(-(-pictures // self.batch)):
            target, latents = self._next_pictures(self.batch)
            yield latents, target

    def _new_buffer(self) -> Buffer:
        height, width = self.config.input_size
        batch, device = self.batch, self.fabric.device
        pictures = torch.zeros(batch, 3, height, width, device=device)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        codes, counts = self._no_codes(batch)
        latents = torch.zeros(batch, self._frozen.generator.config.style_width, device=device)
        zeros = torch.zeros(batch, device=device)
        done = torch.ones(batch, dtype=torch.bool, device=device)
        return Buffer(
            pictures, pictures.clone(), latents, codes, counts, zeros, zeros.clone(), done
        )

    def _no_codes(self, count: int) -> tuple[Tensor, Tensor]:
        config = self.average.config
        rows, width = len(config.tuned_layers), config.code_width
        device = self.fabric.device
        return torch.zeros(count, rows, width, device=device), torch.zeros(count, device=device)

    def _next_pictures(self, count: int) -> tuple[Tensor, Tensor]:
        """The stream's next pictures and their latents."""
        numbers = self.stream.take(count)
        target = self._read([self.stream.pictures.paths[i] for i in numbers])
        return target, self._latents(target)

    @torch.no_grad()
    def _latents(self, pictures: Tensor) -> Tensor:
        enabled = self.dtype != torch.float32
        with torch.autocast(pictures.device.type, self.dtype, enabled=enabled):
            features = self._encoder.body(self._encoder.input_layer(pictures))
        return self._encoder.linear(features.float().mean((2, 3))) + self._frozen.average

    def _read(self, paths: Any) -> Tensor:
        return to_float(read_batch(paths, self.config.input_size).to(self.fabric.device))


def hypernetwork_config(shape: HypernetworkShape, generator: GeneratorConfig) -> HypernetworkConfig:
    """The config for a generator: layers beyond its last are left out (docs/spec.md, section 4)."""
    count = len(generator.layers)
    return HypernetworkConfig(
        tuple(i for i in shape.tuned_layers if i < count),
        tuple(i for i in shape.shared_layers if i < count),
        shape.trunk,
        shape.code_width,
        shape.shared_inner,
        shape.ordinary_inner,
    )


def _rms(weight: Tensor) -> float:
    return float(weight.detach().square().mean().sqrt())
