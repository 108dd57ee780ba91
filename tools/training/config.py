"""What defines a training run: networks, schedule, losses.

A config holds no path: those are options of the command, so that a committed config serves on
every machine. `config_files.py` reads them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hyperstyle_export.networks.config import (
    DEFAULT_TUNED_LAYERS,
    RESNET34_TRUNK,
    EncoderConfig,
    GeneratorConfig,
    TrunkConfig,
)

from .errors import TrainingError


@dataclass(frozen=True)
class Schedule:
    """Learning rate over the number of pictures seen, so that a run can be prolonged.

    The rate rises over ``warmup``, stays, and falls over the last ``decay`` pictures along half a
    cosine to ``floor`` of its peak. A run prolonged before the fall begins is the run that would
    have been had the larger number been given at once.

    Attributes
    ----------
    images:
        Pictures (for the hypernetwork: picture-iterations) until the end.
    batch:
        Pictures a step, over all processes.
    """

    images: int
    batch: int = 16
    warmup: int = 1600
    decay: int = 0
    floor: float = 0.01

    @property
    def fall_begins(self) -> int:
        """Pictures after which the rate falls."""
        return self.images - self.decay

    def rate(self, seen: int) -> float:
        """Factor of the learning rates after ``seen`` pictures, in (0, 1]."""
        rise = min(1.0, (seen + self.batch) / max(self.warmup, self.batch))
        left = (self.images - seen) / self.decay if self.decay else 1.0
        fall = 0.5 - 0.5 * math.cos(math.pi * min(max(left, 0.0), 1.0))
        return rise * (self.floor + (1 - self.floor) * fall)


@dataclass(frozen=True)
class Optimiser:
    """Muon on matrices and convolutions, Adam on everything else.

    Attributes
    ----------
    matrix_rate, other_rate:
        Peak learning rates of the two, in units of a weight's own scale: of equalised weights as
        stored, of others times 1/sqrt(fan in) for matrices.
    momentum:
        Muon's.
    clip:
        Largest norm of the gradient of all parameters together.
    average:
        Decay of the exponential moving average of the weights, a step.
    """

    matrix_rate: float
    other_rate: float
    momentum: float = 0.9
    clip: float = 0.5
    average: float = 0.998


@dataclass(frozen=True)
class Reports:
    """What is written while training, and how often.

    Attributes
    ----------
    checkpoint_minutes:
        Between checkpoints: what a kill costs at most.
    scalar_steps:
        Between lines of the log and scalars of TensorBoard.
    evaluation_minutes:
        Between measurements on the held-out pictures, with a sheet of samples.
    evaluation_pictures:
        Held-out pictures measured.
    sheet_pictures:
        Of them on a sheet.
    """

    checkpoint_minutes: float = 5.0
    scalar_steps: int = 50
    evaluation_minutes: float = 8.0
    evaluation_pictures: int = 256
    sheet_pictures: int = 8


@dataclass(frozen=True)
class Machine:
    """How the arithmetic is done.

    Attributes
    ----------
    precision:
        ``bf16`` computes convolutions in bfloat16, everything delicate in float32.
    compile:
        Fuse generator and encoder with torch.compile: a minute at the start, a third of the time
        after.
    """

    precision: str = "bf16"
    compile: bool = True

    def __post_init__(self) -> None:
        if self.precision not in ("bf16", "fp32"):
            raise TrainingError(f"machine.precision is {self.precision!r}; give 'bf16' or 'fp32'")


@dataclass(frozen=True)
class GeneratorLoss:
    """Weights of the supervised losses, all on [-1,1] pictures.

    Attributes
    ----------
    l1, gradient:
        Mean absolute difference of the pixels, and of their differences to the next pixel.
    lpips:
        LPIPS distance (AlexNet); pictures below 64 px are enlarged to 64 first.
    """

    l1: float = 1.0
    gradient: float = 0.5
    lpips: float = 1.0


@dataclass(frozen=True)
class GeneratorRun:
    """Supervised training of a generator on pictures whose factors are known.

    Attributes
    ----------
    growth:
        (resolution, pictures): lower resolutions that come first, and until which picture.
    """

    network: GeneratorConfig
    schedule: Schedule
    optimiser: Optimiser
    loss: GeneratorLoss = GeneratorLoss()
    growth: tuple[tuple[int, int], ...] = ()
    reports: Reports = Reports()
    machine: Machine = Machine()
    seed: int = 0


@dataclass(frozen=True)
class AdversarialRun:
    """Making a supervised generator crisp.

    Attributes
    ----------
    discriminator:
        Its optimiser.
    weight:
        Of the discriminator's verdict beside the supervised losses.
    r1, r1_interval:
        Weight of the gradient penalty on real pictures, and steps between its applications.
    """

    schedule: Schedule
    optimiser: Optimiser
    discriminator: Optimiser
    loss: GeneratorLoss = GeneratorLoss()
    weight: float = 0.05
    r1: float = 1.0
    r1_interval: int = 16
    reports: Reports = Reports()
    machine: Machine = Machine()
    seed: int = 0


@dataclass(frozen=True)
class EncoderLoss:
    """Weights of the encoder's losses; pictures on [-1,1].

    Attributes
    ----------
    latent:
        Mean squared difference to the known latent, in sensitivity units (see `sensitivity.py`);
        only of pictures whose factors are known.
    l2, lpips:
        Between the picture and what the generator makes of its latent.
    similarity:
        1 - cosine of the embeddings of the network given by --similarity.
    regularisation:
        Mean square of the latent relative to the average, in sensitivity units.
    """

    latent: float = 0.05
    l2: float = 1.0
    lpips: float = 0.8
    similarity: float = 0.0
    regularisation: float = 0.0


@dataclass(frozen=True)
class EncoderRun:
    """Training of the W-encoder.

    Attributes
    ----------
    input_size:
        (height, width) of the pictures it reads.
    regression:
        Pictures at the beginning for which the known latents are the only loss: many times faster,
        as no picture is generated. 0 without known factors.
    dataset_type:
        One that contains "cars" crops the rows of generated pictures (docs/spec.md, section 2).
    """

    network: EncoderConfig
    schedule: Schedule
    optimiser: Optimiser
    input_size: tuple[int, int]
    loss: EncoderLoss = EncoderLoss()
    regression: int = 0
    dataset_type: str = "pictures"
    reports: Reports = Reports()
    machine: Machine = Machine()
    seed: int = 0


@dataclass(frozen=True)
class HypernetworkLoss:
    """Weights of the hypernetwork's losses; pictures on [-1,1].

    Attributes
    ----------
    l2, lpips, similarity:
        Between the picture and the reconstruction of the iteration; similarity is 1 - cosine of the
        embeddings of the network given by --similarity.
    worsening:
        Of L2's growth over the iteration before, where it grew.
    """

    l2: float = 1.0
    lpips: float = 0.8
    similarity: float = 0.0
    worsening: float = 0.0


@dataclass(frozen=True)
class Start:
    """How the hypernetwork's ordinary heads begin: along directions that lower the loss.

    The columns of a head's matrix begin as the main directions of the loss's gradients with respect
    to the layer's offsets, so that the trunk has to learn coordinates only. See `start.py`.

    Attributes
    ----------
    pictures:
        Whose gradients are taken; at least the code's width.
    unit:
        Root mean square change of a pixel that a code of 1 begins with.
    damping:
        Added to the sensitivities before whitening, in units of their mean.
    """

    pictures: int = 1500
    unit: float = 0.005
    damping: float = 1.0


@dataclass(frozen=True)
class HypernetworkShape:
    """Hypernetwork without its tuned layers' shapes, which the generator gives.

    Attributes
    ----------
    tuned_layers:
        Offset indices; those beyond the generator are left out (docs/spec.md, section 4).
    shared_layers:
        Those of them served by the shared hypernetwork (their convolutions have C -> C channels).
    """

    tuned_layers: tuple[int, ...] = DEFAULT_TUNED_LAYERS
    shared_layers: tuple[int, ...] = ()
    trunk: TrunkConfig = RESNET34_TRUNK
    code_width: int = 512
    shared_inner: int = 128
    ordinary_inner: int = 256


@dataclass(frozen=True)
class HypernetworkRun:
    """Training of the hypernetwork; generator and encoder stay as they are.

    A step is one iteration of every picture of a buffer. After it a picture stays for another
    iteration with the probability ``persistence``, at most ``iterations`` in all; then a new one
    takes its place. So a step costs the same whatever the number of iterations, and the mixture of
    early and late ones is even. A persistence of 1 takes every picture through all iterations, as
    the paper does.

    Attributes
    ----------
    head_rate:
        Learning rate of the affine maps from codes to offsets, in units of the root mean square
        they begin with.
    single:
        Picture-iterations at the beginning with one iteration only.
    freeze_statistics:
        Picture-iterations after which batch normalisation uses its averages, as at inference.
    damping:
        Factor of the offsets in the exported file: a little below 1 generalises better.
    """

    network: HypernetworkShape
    schedule: Schedule
    optimiser: Optimiser
    input_size: tuple[int, int]
    loss: HypernetworkLoss = HypernetworkLoss()
    iterations: int = 5
    persistence: float = 0.6
    single: int = 0
    head_rate: float = 0.01
    start: Start = Start()
    freeze_statistics: int = 1 << 62
    damping: float = 1.0
    dataset_type: str = "pictures"
    reports: Reports = Reports()
    machine: Machine = Machine()
    seed: int = 0
