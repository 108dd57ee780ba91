"""The whole chain in ten minutes: render, generator, encoder, hypernetwork, export, evaluate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import training_sets as sets
from portraits.assets import cache_file

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "tools/training/configs/miniature"


def run(program: str, *arguments: str | Path) -> str:
    """Run a program of this repository as a user does."""
    command = [sys.executable, str(ROOT / program), *map(str, arguments)]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def figures(folder: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


@pytest.mark.slow
@pytest.mark.skipif(not cache_file().is_file(), reason="wants `tools/portraits prepare` first")
def test_the_whole_chain(tmp_path: Path) -> None:
    for name, count, seed in (("train", 800, 1), ("test", 64, 900001)):
        options = ("--count", str(count), "--size", "32", "--seed", str(seed))
        run("tools/portraits", "render", *options, "--out", tmp_path / name)
    given: dict[str, tuple[str | Path, ...]] = {
        "generator": (),
        "encoder": ("--generator", tmp_path / "generator/generator.pt"),
        "hypernetwork": (
            *("--generator", tmp_path / "generator/generator.pt"),
            *("--w-encoder", tmp_path / "encoder/w_encoder.pt"),
        ),
    }
    common = ("--train", tmp_path / "train", "--test", tmp_path / "test", "--threads", "1")
    for stage, files in given.items():
        config, out = CONFIGS / f"{stage}.toml", tmp_path / stage
        lpips = sets.write_lpips(tmp_path)
        run("tools/training", stage, config, *common, *files, "--out", out, *lpips)
    # At two resolutions, so only the second half is of one kind.
    painted = figures(tmp_path / "generator", "train/l1")
    assert painted[-1] < 0.8 * painted[len(painted) // 2]
    latent = figures(tmp_path / "encoder", "train/latent")
    assert latent[-1] < 0.5 * latent[0]
    l2 = figures(tmp_path / "encoder", "train/l2")
    assert l2[-1] < l2[0]

    run(
        *("export/build_engines.py", "--checkpoint", tmp_path / "hypernetwork/hyperstyle.pt"),
        *("--w-encoder", tmp_path / "encoder/w_encoder.pt", "--out", tmp_path / "mini"),
    )
    options = ("--bundle", tmp_path / "mini", "--iterations", "3", "--json")
    report = json.loads(run("tools/evaluate.py", tmp_path / "test", *options))
    (method,) = report["methods"]
    l2 = method["mean"]["l2"]
    assert l2[3] < 0.9 * l2[0]
    trained = [figures(tmp_path / "hypernetwork", f"held_out/l2_{n}")[-1] for n in range(4)]
    assert l2 == pytest.approx(trained, rel=0.02)
