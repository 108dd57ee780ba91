"""The training tools through their command line, on a problem of seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import training_sets as sets
from hyperstyle_export.networks.config import EncoderConfig, GeneratorConfig, HyperStyleConfig
from hyperstyle_export.networks.hyperstyle import HyperStyle
from hyperstyle_export.readers.official import load_model
from hyperstyle_rt.imaging.pictures import read_picture
from synthetic import official_config
from training.cli import app
from training.config import (
    AdversarialRun,
    EncoderRun,
    GeneratorRun,
    HypernetworkRun,
    Schedule,
)
from training.config_files import from_table, read_config, to_table
from training.generator import new_generator
from training.hypernetwork import hypernetwork_config
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {
    "generator": sets.GENERATOR,
    "adversarial": sets.ADVERSARIAL,
    "encoder": sets.ENCODER,
    "hypernetwork": sets.HYPERNETWORK,
}


@dataclass(frozen=True)
class Workshop:
    """Folders of pictures, configs and weight files."""

    folder: Path
    lpips: list[str]

    def arguments(self, stage: str, out: Path, **replaced: Path) -> list[str]:
        """Of a stage's command, trained on what the stages before made in `folder`."""
        options = {
            "train": self.folder / "train",
            "test": self.folder / "test",
            "config": self.folder / f"{stage}.toml",
            "generator": self.folder / "runs/generator/generator.pt",
            "w-encoder": self.folder / "runs/encoder/w_encoder.pt",
        } | {name.replace("_", "-"): path for name, path in replaced.items()}
        wanted = {
            "generator": ("train", "test"),
            "adversarial": ("train", "test", "generator"),
            "encoder": ("train", "test", "generator"),
            "hypernetwork": ("train", "test", "generator", "w-encoder"),
        }[stage]
        given = [part for name in wanted for part in (f"--{name}", str(options[name]))]
        return [stage, str(options["config"]), *given, "--out", str(out), *self.lpips]

    def train(self, stage: str) -> Path:
        """Run a stage into `runs/<stage>` unless that has happened; gives the directory."""
        out = self.folder / "runs" / stage
        if not out.exists():
            succeed(self.arguments(stage, out))
        return out


def succeed(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


def fail(arguments: list[str]) -> str:
    """What a command that ends with exit status 2 says, on one line."""
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def figures(run: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder = tmp_path_factory.mktemp("training")
    sets.write_set(folder / "train", 64, seed=0)
    sets.write_set(folder / "test", 8, seed=1)
    for stage, config in CONFIGS.items():
        (folder / f"{stage}.toml").write_text(config)
    return Workshop(folder, sets.write_lpips(folder))


def test_the_generator_s_losses_fall(workshop: Workshop) -> None:
    run = workshop.train("generator")
    losses = figures(run, "train/l1")
    assert losses[-1] < 0.5 * losses[0]
    assert figures(run, "held_out/psnr")[-1] > 15
    assert len(list((run / "samples").glob("*.png"))) == 1
    assert read_picture(next((run / "samples").glob("*.png"))).shape == (32, 64, 3)
    assert list((run / "tensorboard").glob("events.*"))


def test_the_discriminator_learns_and_the_factors_hold(workshop: Workshop) -> None:
    before = figures(workshop.train("generator"), "held_out/psnr")[-1]
    run = workshop.train("adversarial")
    critic = figures(run, "train/critic")
    assert critic[-1] < critic[0]
    assert figures(run, "train/r1")
    assert figures(run, "held_out/psnr")[-1] > before - 1


def test_the_encoder_s_losses_fall(workshop: Workshop) -> None:
    workshop.train("generator")
    run = workshop.train("encoder")
    latent = figures(run, "train/latent")
    assert latent[2] < 0.8 * latent[0]
    l2 = figures(run, "train/l2")  # begins with the second half
    assert l2[-1] < l2[0]


def test_the_hypernetwork_mends_the_encoder_s_reconstruction(workshop: Workshop) -> None:
    workshop.train("generator")
    workshop.train("encoder")
    run = workshop.train("hypernetwork")
    by_iteration = [figures(run, f"held_out/l2_{n}")[-1] for n in range(4)]
    assert by_iteration[3] < by_iteration[1] < by_iteration[0]


@pytest.mark.parametrize("stage", ["encoder", "hypernetwork"])
def test_published_files_are_trained_on(workshop: Workshop, stage: str, tmp_path: Path) -> None:
    """One step from an exported file: still as good, which from scratch it would not be."""
    for before in ("generator", "encoder", stage):
        workshop.train(before)
    name = {"encoder": "w_encoder.pt", "hypernetwork": "hyperstyle.pt"}[stage]
    figure = {"encoder": "held_out/l2", "hypernetwork": "held_out/l2_3"}[stage]
    published = workshop.folder / "runs" / stage
    out = tmp_path / "run"
    config = tmp_path / "c.toml"
    config.write_text(CONFIGS[stage].replace("damping = 0.95", "damping = 1.0"))
    options = ("--init", str(published / name), "--images", "8")
    succeed([*workshop.arguments(stage, out, config=config), *options])
    assert figures(out, figure)[-1] == pytest.approx(figures(published, figure)[-1], rel=0.1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("portraits128_generator", GeneratorRun),
        ("portraits128_adversarial", AdversarialRun),
        ("portraits128_encoder", EncoderRun),
        ("portraits128_hypernetwork", HypernetworkRun),
        ("official_256_encoder", EncoderRun),
        ("official_256_hypernetwork", HypernetworkRun),
        ("miniature/generator", GeneratorRun),
        ("miniature/encoder", EncoderRun),
        ("miniature/hypernetwork", HypernetworkRun),
    ],
)
def test_committed_configs_are_valid(name: str, kind: type) -> None:
    config = read_config(ROOT / f"tools/training/configs/{name}.toml", kind)
    assert from_table(json.loads(json.dumps(to_table(config))), kind) == config
    if name == "official_256_encoder":
        assert config.network == EncoderConfig()
    if name == "official_256_hypernetwork":
        official = official_config(256)
        config_read = hypernetwork_config(config.network, official.generator)
        assert config_read == official.hypernetwork


def test_the_embedded_default_stays_small() -> None:
    """At most 40 MB in fp16, with room for what else is in a bundle."""
    folder = ROOT / "tools/training/configs"
    generator = read_config(folder / "portraits128_generator.toml", GeneratorRun).network
    encoder = read_config(folder / "portraits128_encoder.toml", EncoderRun).network
    shape = read_config(folder / "portraits128_hypernetwork.toml", HypernetworkRun).network
    with torch.device("meta"):
        model = HyperStyle(
            HyperStyleConfig(generator, encoder, hypernetwork_config(shape, generator))
        )
    assert 2 * sum(p.numel() for p in model.parameters()) < 37e6


def test_the_files_are_official_ones(workshop: Workshop) -> None:
    """The exporter's reader takes them, and its reference gives what training measured."""
    for stage in CONFIGS:
        workshop.train(stage)
    run = workshop.folder / "runs/hypernetwork"
    model = load_model(run / "hyperstyle.pt", workshop.folder / "runs/encoder/w_encoder.pt")
    assert model.config.hypernetwork.shared_layers == (2, 3)
    paths = sorted((workshop.folder / "test").glob("*.png"))
    pictures = np.stack([read_picture(path) for path in paths]).astype(np.float32) / 127.5 - 1
    target = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    with torch.inference_mode():
        for step in model.iterate(target, 3):
            error = (step.image.clamp(-1, 1) - target).square().mean()
            measured = figures(run, f"held_out/l2_{step.iteration}")[-1]
            assert error.item() == pytest.approx(measured, rel=1e-3)


def states(run: Path) -> dict[str, torch.Tensor]:
    stored = torch.load(run / "checkpoint.pt", weights_only=True)
    kept = {f"{k}.{name}": v for k in ("network", "average") for name, v in stored[k].items()}
    return kept | {"seen": torch.tensor(stored["seen"]), "random": stored["random"]}


@pytest.mark.parametrize("stage", list(CONFIGS))
def test_a_run_in_two_parts_is_the_run_in_one(
    workshop: Workshop, stage: str, tmp_path: Path
) -> None:
    """Bit by bit: optimisers, averages, random numbers, buffers, the place in the epoch."""
    for before in CONFIGS:
        workshop.train(before)
        if before == stage:
            break
    for minutes in ("0", "1000"):  # the first stops after its first step
        succeed([*workshop.arguments(stage, tmp_path / "run"), "--minutes", minutes])
    whole, parts = states(workshop.folder / "runs" / stage), states(tmp_path / "run")
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_a_killed_run_goes_on(workshop: Workshop, tmp_path: Path) -> None:
    whole = states(workshop.train("generator"))
    out, config = tmp_path / "run", tmp_path / "often.toml"
    config.write_text(sets.GENERATOR.replace("checkpoint_minutes = 1000", "checkpoint_minutes = 0"))
    arguments = workshop.arguments("generator", out, config=config)
    command = [sys.executable, str(ROOT / "tools/training"), *arguments, "--threads", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as process:
        while not (out / "metrics.jsonl").exists():  # ten steps in, a checkpoint after each
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert 0 < states(out)["seen"] < whole["seen"]
    succeed(workshop.arguments("generator", out))
    resumed = states(out)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_pictures_that_arrive_are_taken_up(workshop: Workshop, tmp_path: Path) -> None:
    from training.pictures import PictureStream

    folder = sets.write_set(tmp_path / "set", 12, seed=2)
    late = [(p, p.read_bytes()) for p in sorted(folder.glob("*.png"))[8:]]
    for path, _ in late:
        path.unlink()
    stream = PictureStream([folder], 4, seed=0)
    first = torch.cat([stream.take(4), stream.take(4)])
    assert sorted(first.tolist()) == list(range(8))
    for path, data in late:
        path.write_bytes(data)
    second = torch.cat([stream.take(4) for _ in range(3)])
    assert sorted(second.tolist()) == list(range(12))


def test_processes_share_an_epoch(tmp_path: Path) -> None:
    from training.pictures import PictureStream

    folder = sets.write_set(tmp_path / "set", 8, seed=2)
    parts = [PictureStream([folder], 4, 0, rank, 2).take(4) for rank in range(2)]
    assert sorted(torch.cat(parts).tolist()) == list(range(8))


def test_the_rate_rises_stays_and_falls() -> None:
    schedule = Schedule(images=1000, batch=10, warmup=100, decay=400, floor=0.1)
    assert schedule.rate(0) == pytest.approx(0.1)
    assert schedule.rate(200) == schedule.rate(600) == 1
    assert schedule.rate(800) == pytest.approx(0.55)
    assert schedule.rate(1000) == pytest.approx(0.1)
    prolonged = replace(schedule, images=2000)
    assert all(prolonged.rate(n) == schedule.rate(n) for n in range(0, 601, 50))


def _no_folder(workshop: Workshop, tmp_path: Path) -> list[str]:
    return workshop.arguments("generator", tmp_path / "o", train=tmp_path / "nowhere")


def _a_file(workshop: Workshop, tmp_path: Path) -> list[str]:
    return workshop.arguments("generator", tmp_path / "o", train=workshop.folder / "train/0000.png")


def _empty(workshop: Workshop, tmp_path: Path) -> list[str]:
    (tmp_path / "empty").mkdir()
    return workshop.arguments("generator", tmp_path / "o", train=tmp_path / "empty")


def _damaged_picture(workshop: Workshop, tmp_path: Path) -> list[str]:
    folder = sets.write_set(tmp_path / "set", 8, seed=3)
    (folder / "0003.png").write_bytes((folder / "0003.png").read_bytes()[:60])
    return workshop.arguments("generator", tmp_path / "o", train=folder)


def _no_factors(workshop: Workshop, tmp_path: Path) -> list[str]:
    folder = sets.write_set(tmp_path / "set", 8, seed=3)
    (folder / "factors.npz").unlink()
    return workshop.arguments("generator", tmp_path / "o", train=folder)


def _bad_factors(workshop: Workshop, tmp_path: Path) -> list[str]:
    folder = sets.write_set(tmp_path / "set", 8, seed=3)
    np.savez(folder / "factors.npz", names=np.array(["a"]), values=np.zeros((8, 3)))
    return workshop.arguments("generator", tmp_path / "o", train=folder)


def _another_shape(workshop: Workshop, tmp_path: Path) -> list[str]:
    """A resumed run whose config has changed."""
    config = tmp_path / "wider.toml"
    config.write_text(sets.GENERATOR.replace("[12, 12, 8]", "[12, 16, 8]"))
    run = workshop.train("generator")
    (tmp_path / "o").mkdir()
    (tmp_path / "o/checkpoint.pt").write_bytes((run / "checkpoint.pt").read_bytes())
    return workshop.arguments("generator", tmp_path / "o", config=config)


def _another_stage(workshop: Workshop, tmp_path: Path) -> list[str]:
    run = workshop.train("generator")
    return workshop.arguments("encoder", run)


def _no_generator(workshop: Workshop, tmp_path: Path) -> list[str]:
    workshop.train("generator")
    wrong = workshop.folder / "alex.pth"
    return workshop.arguments("encoder", tmp_path / "o", generator=wrong)


def _unknown_key(workshop: Workshop, tmp_path: Path) -> list[str]:
    config = tmp_path / "c.toml"
    config.write_text(sets.GENERATOR.replace("matrix_rate", "matrix_speed"))
    return workshop.arguments("generator", tmp_path / "o", config=config)


def _wrong_type(workshop: Workshop, tmp_path: Path) -> list[str]:
    config = tmp_path / "c.toml"
    config.write_text(sets.GENERATOR.replace("batch = 8", 'batch = "8"'))
    return workshop.arguments("generator", tmp_path / "o", config=config)


def _no_similarity(workshop: Workshop, tmp_path: Path) -> list[str]:
    workshop.train("generator")
    config = tmp_path / "c.toml"
    config.write_text(sets.ENCODER + "[loss]\nsimilarity = 0.1\n")
    return workshop.arguments("encoder", tmp_path / "o", config=config)


def _out_is_a_file(workshop: Workshop, tmp_path: Path) -> list[str]:
    (tmp_path / "o").write_text("")
    return workshop.arguments("generator", tmp_path / "o")


MISTAKES: dict[str, tuple[Callable[[Workshop, Path], list[str]], str]] = {
    "no folder": (_no_folder, "nowhere does not exist; give a folder of pictures"),
    "a file": (_a_file, "0000.png is not a folder; give a folder of pictures"),
    "empty": (_empty, "empty holds no pictures (.png, .jpg, .jpeg, .webp"),
    "damaged picture": (_damaged_picture, "0003.png"),
    "no factors": (_no_factors, "have no known factors"),
    "bad factors": (_bad_factors, "'values' has shape (8, 3), not [N,1]"),
    "another shape": (_another_shape, "checkpoint.pt is of another network: 'convs.0.conv.weight'"),
    "another stage": (_another_stage, "of the stage 'generator', not of 'encoder'"),
    "no generator": (_no_generator, "has a 'g_ema' entry"),
    "unknown key": (_unknown_key, "'optimiser.matrix_speed' is unknown"),
    "wrong type": (_wrong_type, "'schedule.batch' is '8', not of type int"),
    "out is a file": (_out_is_a_file, "File exists; give another --out directory"),
    "no similarity": (_no_similarity, "give --similarity FILE"),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_mistakes_are_named(workshop: Workshop, tmp_path: Path, mistake: str) -> None:
    arguments, said = MISTAKES[mistake]
    assert said in fail(arguments(workshop, tmp_path))


@pytest.mark.slow
def test_two_processes_train_what_one_does(workshop: Workshop, tmp_path: Path) -> None:
    """They halve every batch and average their gradients."""
    for count in (1, 2):
        arguments = workshop.arguments("generator", tmp_path / f"{count}")
        command = [sys.executable, str(ROOT / "tools/training"), *arguments, "--images", "80"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([*command, "--devices", str(count)], check=True, env=environment)
    one, two = (states(tmp_path / name) for name in ("1", "2"))
    start = GeneratorConfig((12, 12, 8), 8, 2)
    before = new_generator(start, seed=0).state_dict()
    for name in ("convs.1.conv.weight", "style.1.weight", "to_rgbs.0.conv.weight"):
        moved = one[f"network.{name}"] - before[name]
        apart = one[f"network.{name}"] - two[f"network.{name}"]
        assert moved.norm() > 0
        assert apart.norm() < 0.1 * moved.norm(), name
