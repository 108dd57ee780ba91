"""The loop all stages share: schedule, checkpoints, reports, and an end that loses nothing."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from hyperstyle_rt.files import reason
from hyperstyle_rt.imaging.pictures import to_picture, write_picture
from hyperstyle_rt.temporaries import remove_leftovers
from hyperstyle_rt.types import Picture
from lightning_fabric import Fabric
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor, nn

from .checkpoint import load_state, read_checkpoint, save_atomically
from .config import Machine, Optimiser, Reports, Schedule
from .config_files import to_table
from .errors import TrainingError
from .losses import Perceptual, l2, psnr
from .optimisers import Optimisers, Weight, WeightAverage
from .pictures import PictureStream, find_pictures

if TYPE_CHECKING:
    from hyperstyle_export.networks.lpips import Lpips

logger = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)

CHECKPOINT = "checkpoint.pt"
PLATEAU = "plateau.pt"  # the checkpoint before the learning rate began to fall
METRICS = "metrics.jsonl"
SAMPLES = "samples"
EVALUATION_BATCH = 32


@dataclass(frozen=True)
class Setup:
    """What the command line gives a stage beside its config.

    Attributes
    ----------
    train, test:
        Folders of pictures.
    out:
        Directory of the run; a checkpoint there is resumed.
    lpips:
        The perceptual network.
    minutes:
        Stop after that long with a checkpoint; None: at the schedule's end only.
    """

    train: tuple[Path, ...]
    test: tuple[Path, ...]
    out: Path
    lpips: Lpips
    minutes: float | None = None


class RunConfig(Protocol):
    """What the configs of all stages have."""

    @property
    def schedule(self) -> Schedule: ...
    @property
    def optimiser(self) -> Optimiser: ...
    @property
    def reports(self) -> Reports: ...
    @property
    def machine(self) -> Machine: ...
    @property
    def seed(self) -> int: ...


class Trainer(ABC, Generic[Network]):
    """One stage of training.

    A stage builds its networks in its constructor, calls `learn` with what is to be learnt, and
    defines the abstract methods.
    """

    stage: ClassVar[str]

    def __init__(self, config: RunConfig, setup: Setup, fabric: Fabric) -> None:
        self.fabric, self.setup, self._config = fabric, setup, config
        self.schedule, self.reports = config.schedule, config.reports
        if config.schedule.batch % fabric.world_size:
            raise TrainingError(
                f"schedule.batch is {config.schedule.batch}, which {fabric.world_size} processes "
                "cannot share evenly"
            )
        self.batch = config.schedule.batch // fabric.world_size
        self.dtype = torch.bfloat16 if config.machine.precision == "bf16" else torch.float32
        self.seen = 0  # pictures, over all processes
        self.steps = 0
        self.seconds = 0.0  # of all sessions of this run
        torch.manual_seed(config.seed)
        self.stream = PictureStream(
            setup.train, self.batch, config.seed, fabric.global_rank, fabric.world_size
        )
        self.test = find_pictures(setup.test)
        lpips = setup.lpips.to(fabric.device)
        self.perceptual = Perceptual(lpips, self.dtype)
        self._exact_perceptual = Perceptual(lpips, torch.float32)
        # All processes build the same networks, then draw differently.
        self.random = torch.Generator().manual_seed(config.seed + fabric.global_rank)
        self._stop = False

    def learn(self, network: Network, average: Network, weights: list[Weight]) -> None:
        """Declare what is learnt, its average, and the parameters with their scales."""
        self.network, self.average = network, average.requires_grad_(False)
        self.optimisers = Optimisers(weights, self._config.optimiser, self.fabric)
        self._averaging = WeightAverage(network, average, self._config.optimiser.average)

    # What a stage defines

    @abstractmethod
    def loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the next batch, and detached scalars worth recording."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Measure the averaged network on held-out pictures."""

    @abstractmethod
    def sheet(self) -> list[Tensor]:
        """Rows of pictures [N,3,h,w] that show where the training stands."""

    @abstractmethod
    def export(self) -> None:
        """Write the averaged network in the official layout."""

    def extra_state(self) -> dict[str, Any]:
        """What a stage must remember beyond networks and optimisers."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `extra_state` gave."""

    def stored_extra_state(self) -> dict[str, Any] | None:
        """What `extra_state` gave, if the run will be resumed: spares computing it anew."""
        path = self.setup.out / CHECKPOINT
        return read_checkpoint(path, self.stage)["extra"] if path.exists() else None

    # What stages share

    def held_out(self) -> Iterator[slice]:
        """Parts of the held-out pictures that are measured, one batch each."""
        count = min(len(self.test), self.reports.evaluation_pictures)
        for start in range(0, count, EVALUATION_BATCH):
            yield slice(start, min(start + EVALUATION_BATCH, count))

    def shown(self) -> slice:
        """The held-out pictures on a sheet."""
        return slice(0, min(len(self.test), self.reports.sheet_pictures))

    def figures(self, rendering: Tensor, target: Tensor) -> dict[str, Tensor]:
        """L2, PSNR and LPIPS of pictures clamped to [-1,1], [B] each."""
        clamped = rendering.clamp(-1, 1)
        return {
            "l2": l2(clamped, target),
            "psnr": psnr(clamped, target),
            "lpips": self._exact_perceptual(clamped, target),
        }

    # The loop

    def run(self) -> None:
        """Train to the schedule's end, the time limit, or a signal; then checkpoint and export.

        Raises
        ------
        TrainingError
            If the directory cannot be written, the checkpoint in it is of another run, or the loss
            ceases to be finite.
        """
        try:
            self.setup.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(
                f"cannot write to {self.setup.out}: {reason(error)}; give another --out directory"
            ) from error
        if self.fabric.is_global_zero:
            remove_leftovers(self.setup.out)
        self._resume()
        with _TensorBoard(self.setup.out, self.fabric) as board, self._signals():
            self._loop(board)
            self._checkpoint()
            self._report_evaluation(board)
        self.export()

    def _loop(self, board: _TensorBoard) -> None:
        begun, before = time.monotonic(), self.seconds
        checkpointed = evaluated = reported = begun
        window: list[dict[str, Tensor]] = []
        while self.seen < self.schedule.images and not self._agreed_to_stop():
            if 0 <= self.seen - self.schedule.fall_begins < self.schedule.batch:
                self._checkpoint(PLATEAU)
            window.append(self._step())
            now = time.monotonic()
            self.seconds = before + now - begun
            if self.steps % self.reports.scalar_steps == 0:
                speed = len(window) * self.schedule.batch / (now - reported)
                self._report_scalars(board, window, speed)
                window, reported = [], now
            if now - checkpointed > 60 * self.reports.checkpoint_minutes:
                self._checkpoint()
                checkpointed = now
            if now - evaluated > 60 * self.reports.evaluation_minutes:
                self._report_evaluation(board)
                self.export()
                evaluated = reported = time.monotonic()
            if self.setup.minutes is not None and now - begun > 60 * self.setup.minutes:
                self._stop = True

    def _agreed_to_stop(self) -> bool:
        """Whether a signal or the clock has stopped this process or, now and then, another."""
        if self.fabric.world_size == 1 or self.steps % self.reports.scalar_steps:
            return self._stop and self.fabric.world_size == 1
        stops = torch.tensor(float(self._stop), device=self.fabric.device)
        anyone = self.fabric.all_reduce(stops, reduce_op="sum")
        assert isinstance(anyone, Tensor)
        return bool(anyone > 0)

    def _step(self) -> dict[str, Tensor]:
        self.network.train()
        loss, scalars = self.loss()
        self.optimisers.zero_grad()
        torch.autograd.backward(loss)
        rate = self.schedule.rate(self.seen)
        norm = self.optimisers.step(rate)
        self.seen += self.schedule.batch
        self.steps += 1
        self._averaging.update(self.steps)
        return scalars | {"gradient": torch.tensor(norm), "rate": torch.tensor(rate)}

    def _report_scalars(
        self, board: _TensorBoard, window: Sequence[dict[str, Tensor]], speed: float
    ) -> None:
        names = {name for scalars in window for name in scalars}
        averages = {
            name: float(torch.stack([s[name].cpu() for s in window if name in s]).mean())
            for name in sorted(names)
        }
        if not all(math.isfinite(value) for value in averages.values()):
            raise self._diverged()
        averages |= {"pictures_per_second": speed}
        said = " ".join(f"{name} {value:.4g}" for name, value in averages.items())
        logger.info("%d pictures: %s", self.seen, said)
        board.scalars(self.seen, self.seconds, {f"train/{k}": v for k, v in averages.items()})

    def _diverged(self) -> TrainingError:
        return TrainingError(
            f"the loss is no longer finite after {self.seen} pictures; lower the learning rates "
            f"and start the command again: it goes on from {self.setup.out / CHECKPOINT}"
        )

    def _report_evaluation(self, board: _TensorBoard) -> None:
        self.network.eval()
        with torch.inference_mode():
            figures = self.evaluate()
            rows = self.sheet()
        said = " ".join(f"{name} {value:.5g}" for name, value in figures.items())
        logger.info("%d pictures: held out: %s", self.seen, said)
        board.scalars(self.seen, self.seconds, {f"held_out/{k}": v for k, v in figures.items()})
        board.sheet(self.seen, sheet_picture(rows))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Let SIGTERM and Ctrl-C end the run after the step, with a checkpoint."""

        def stop(number: int, _frame: object) -> None:
            logger.info("%s: stopping with a checkpoint", signal.Signals(number).name)
            self._stop = True

        before = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # Checkpoints

    def _checkpoint(self, name: str = CHECKPOINT) -> None:
        if not self.fabric.is_global_zero:
            return
        if not all(torch.isfinite(p.detach().sum()) for p in self.optimisers.parameters):
            raise self._diverged()  # rather than spoil the checkpoint that is there
        contents = {
            "stage": self.stage,
            "config": json.dumps(to_table(self._config)),
            "seen": self.seen,
            "steps": self.steps,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": self.optimisers.state_dict(),
            "stream": self.stream.state_dict(),
            "random": self.random.get_state(),
            "torch_random": torch.get_rng_state(),
            "extra": self.extra_state(),
        }
        save_atomically(self.setup.out / name, contents)

    def _resume(self) -> None:
        path = self.setup.out / CHECKPOINT
        if not path.exists():
            return
        stored = read_checkpoint(path, self.stage)
        load_state(self.network, stored["network"], str(path))
        load_state(self.average, stored["average"], str(path))
        self.optimisers.load_state_dict(stored["optimisers"])
        self.stream.load_state_dict(stored["stream"])
        if self.fabric.global_rank == 0:
            self.random.set_state(stored["random"])
            torch.set_rng_state(stored["torch_random"])
        else:  # the file holds the first process's
            self.random.manual_seed(int(stored["steps"]) * 1000 + self.fabric.global_rank)
        self.seen, self.steps = stored["seen"], stored["steps"]
        self.seconds = stored["seconds"]
        self.load_extra_state(stored["extra"])
        logger.info("resumed %s after %d pictures", path, self.seen)


class _TensorBoard:
    """TensorBoard's events, the same figures as lines of JSON, and sheets as PNG files."""

    def __init__(self, out: Path, fabric: Fabric) -> None:
        self._out, self._active = out, fabric.is_global_zero
        self._logger = TensorBoardLogger(out, name="tensorboard", version="")

    def __enter__(self) -> _TensorBoard:
        return self

    def __exit__(self, *_error: object) -> None:
        self._logger.finalize("success")

    def scalars(self, seen: int, seconds: float, values: Mapping[str, float]) -> None:
        if not self._active:
            return
        self._logger.log_metrics(dict(values), step=seen)
        line = json.dumps({"seen": seen, "seconds": round(seconds, 1), **values})
        with (self._out / METRICS).open("a", encoding="ascii") as file:
            file.write(line + "\n")

    def sheet(self, seen: int, picture: Picture) -> None:
        if not self._active:
            return
        (self._out / SAMPLES).mkdir(exist_ok=True)
        write_picture(self._out / SAMPLES / f"{seen:09d}.png", picture)
        self._logger.experiment.add_image("samples", picture, seen, dataformats="HWC")


def means(batches: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
    """Means over all pictures of figures that come in batches."""
    collected: dict[str, list[Tensor]] = {}
    for batch in batches:
        for name, values in batch.items():
            collected.setdefault(name, []).append(values.cpu())
    return {name: float(torch.cat(values).mean()) for name, values in collected.items()}


def sheet_picture(rows: Sequence[Tensor]) -> Picture:
    """Rows of pictures [N,3,h,w] in [-1,1] as one picture, side by side and below each other."""
    return np.concatenate(
        [np.concatenate([to_picture(p) for p in row.float().cpu().numpy()], axis=1) for row in rows]
    )
