"""Checkpoints of a run: written whole or not at all, read without executing anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hyperstyle_export.readers.torch_files import read_torch_file
from hyperstyle_rt.files import reason
from hyperstyle_rt.temporaries import replacing
from torch import Tensor, nn

from .errors import TrainingError


def save_atomically(path: Path, contents: Mapping[str, Any]) -> None:
    """Write a torch file beside its place, force it to the disk, then rename it into place.

    A kill or a power cut at any moment leaves the old file or the new one.

    Raises
    ------
    TrainingError
        If it cannot be written; the old file is left.
    """
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save(dict(contents), file)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise TrainingError(f"cannot write {path}: {reason(error)}") from error
    except RuntimeError as error:  # torch's for a write that fails, in words of its own
        raise TrainingError(f"cannot write {path}; is the disk full? ({error})") from error
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename itself
    finally:
        os.close(directory)


def load_state(module: nn.Module, state: Mapping[str, Tensor], subject: str) -> None:
    """Load a state dict strictly.

    Raises
    ------
    TrainingError
        If keys or shapes differ; the first difference is named.
    """
    own = module.state_dict()
    problems = [f"'{key}' is missing" for key in own if key not in state]
    problems += [f"'{key}' is not expected" for key in state if key not in own]
    problems += [
        f"'{key}' has shape {tuple(state[key].shape)}, but this run's network wants "
        f"{tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise TrainingError(
            f"{subject} is of another network: {problems[0]}{more}; give the config it was trained "
            "with, or another --out directory"
        )
    module.load_state_dict(state)


def read_checkpoint(path: Path, stage: str) -> dict[str, Any]:
    """Read a checkpoint of the stage.

    Raises
    ------
    TrainingError, CheckpointError
        If the file is damaged or of another stage.
    """
    contents = read_torch_file(path)
    if contents.get("stage") != stage:
        kind = contents.get("stage")
        said = f"of the stage {kind!r}" if kind else "no checkpoint of a training run"
        raise TrainingError(f"{path} is {said}, not of {stage!r}; give another --out directory")
    return contents
