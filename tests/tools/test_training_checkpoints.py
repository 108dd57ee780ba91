"""What training writes on disks that are full, and where it was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from training.checkpoint import save_atomically

# A limit of the size of files stands for a full disk; it is that of a process.
PROGRAM = """
import resource, signal, sys
from pathlib import Path

import torch
from hyperstyle_rt import HyperStyleError
from training.checkpoint import save_atomically

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_atomically(Path(sys.argv[1]), {"weights": torch.ones(100_000)})
except HyperStyleError as error:
    print(error)
"""


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_atomically(path, {"weights": torch.zeros(3)})
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"cannot write {path}") and ran.stdout.count("\n") == 1
    assert torch.load(path, weights_only=True)["weights"].tolist() == [0, 0, 0]
    assert list(tmp_path.iterdir()) == [path]
