"""Checkpoint files of every kind: how real ones are stored, and what users give by mistake."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

Contents = dict[str, Any]

SCHEMA = Path(__file__).parents[1] / "golden" / "schema"


def read(path: Path) -> Contents:
    """The dictionary in a file of our own."""
    return torch.load(path, weights_only=True)


def write_zip(contents: object, path: Path) -> None:
    """The container of torch 1.6 and later."""
    torch.save(contents, path)


def write_legacy(contents: object, path: Path) -> None:
    """The container before torch 1.6."""
    torch.save(contents, path, _use_new_zipfile_serialization=False)


CONTAINERS = {"zip": write_zip, "legacy": write_legacy}


def on_gpu(write: Callable[[object, Path], None]) -> Callable[[object, Path], None]:
    """Write tensors as if they lay on the first GPU, as training does."""

    def write_as_cuda(contents: object, path: Path) -> None:
        with mock.patch("torch.serialization.location_tag", lambda _storage: "cuda:0"):
            write(contents, path)
        assert b"cuda:0" in path.read_bytes()

    return write_as_cuda


def write_deflated(contents: object, path: Path) -> None:
    """A zip container that was unpacked and packed again by another program."""
    torch.save(contents, path)
    _repack(path, zipfile.ZIP_DEFLATED, lambda data: data)


def write_numpy_1(contents: object, path: Path) -> None:
    """A zip container whose NumPy scalars were pickled by NumPy 1, as in the official files."""
    torch.save(contents, path)
    new, old = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
    assert new in path.read_bytes() or old in path.read_bytes()
    _repack(path, zipfile.ZIP_STORED, lambda data: data.replace(new, old))


def _repack(path: Path, compression: int, alter: Callable[[bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as container:
        entries = {name: container.read(name) for name in container.namelist()}
    with zipfile.ZipFile(path, "w", compression) as container:
        for name, data in entries.items():
            container.writestr(name, alter(data) if name.endswith("data.pkl") else data)


def official_state(name: str) -> dict[str, Tensor]:
    """Tensors of a schema's official size that take no memory: one stored zero each."""
    listed = json.loads((SCHEMA / f"{name}.json").read_text())["state_dict"]
    return {
        key: torch.zeros((), dtype=getattr(torch, dtype)).expand(shape)
        for key, shape, dtype in listed
    }


class Malicious:
    """Runs a command where it is unpickled without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


def write_malicious(write: Callable[[object, Path], None], path: Path) -> Path:
    """Write a file that, read without care, makes another file; give that one's path."""
    marker = path.with_suffix(".ran")
    write({"state_dict": {"hypernet.x": torch.ones(2)}, "opts": Malicious(marker)}, path)
    return marker


def prove_malicious(path: Path, marker: Path) -> None:
    """Check that the file does its harm where it is read without care."""
    torch.load(path, weights_only=False)
    assert marker.exists()
    marker.unlink()


def _write(contents: object) -> Callable[[Path], None]:
    return lambda path: torch.save(contents, path)


def _bytes(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None


def _truncated(container: str, keep: float) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        CONTAINERS[container]({"state_dict": {"hypernet.x": torch.ones(5000)}}, path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])

    return write


def _of_a_later_zip(path: Path) -> None:
    """A flipped bit in what the archive's directory says of the version that reads it."""
    torch.save({}, path)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 6] |= 0x80
    path.write_bytes(data)


def _forged_scalar(old: bytes, new: bytes) -> Callable[[Path], None]:
    """A NumPy scalar whose description was altered, in a way that crashes NumPy's own reader."""

    def write(path: Path) -> None:
        torch.save({"best_val_loss": np.float64(0.25)}, path)
        assert old in path.read_bytes()
        _repack(path, zipfile.ZIP_STORED, lambda data: data.replace(old, new))

    return write


_ONE = torch.ones(1)
_RESTYLE_STEM = torch.ones(64, 6, 3, 3)
_DAMAGED = "is damaged or no torch file"

# What a user gives by mistake -> what the message calls it, whatever option it was given for.
OTHER_KINDS: dict[str, tuple[object, str]] = {
    "rosinality": (
        {"g_ema": {"conv1.conv.weight": _ONE}, "latent_avg": _ONE, "d": {}},
        r"is a StyleGAN2 generator \(rosinality's layout\)",
    ),
    "bare_generator": (
        {"convs.0.conv.weight": _ONE, "to_rgbs.0.bias": _ONE},
        "is a bare StyleGAN2 generator state dict",
    ),
    "psp": (
        {
            "state_dict": {
                "encoder.input_layer.0.weight": _ONE,
                "encoder.styles.0.convs.0.weight": _ONE,
                "decoder.conv1.conv.weight": _ONE,
            },
            "latent_avg": _ONE,
            "opts": {},
        },
        "is a pSp, e4e or ReStyle encoder checkpoint",
    ),
    "restyle": (
        {
            "state_dict": {
                "encoder.input_layer.0.weight": _RESTYLE_STEM,
                "encoder.styles.0.convs.0.weight": _ONE,
            }
        },
        "is a pSp, e4e or ReStyle encoder checkpoint",
    ),
    "arcface": (
        {"input_layer.0.weight": _ONE, "body.0.res_layer.0.weight": _ONE, "output_layer.3.bias": 1},
        "is an ArcFace or CurricularFace recognition network",
    ),
    "resnet": (
        {"conv1.weight": _ONE, "layer1.0.conv1.weight": _ONE, "fc.bias": _ONE},
        "is a ResNet classifier",
    ),
    "dictionary": (
        {"epoch": 3, "model.weight": _ONE, 5: "five"},
        r"unknown kind \(top-level names: 5, epoch, model\)",
    ),
    "wrapped": (
        {"state_dict": {"model": {"encoder.input_layer.0.weight": _ONE}}},
        r"unknown kind \(all is under 'model': save what is under it as 'state_dict'\)",
    ),
    "under_another_name": (
        {"net.encoder.linear.weight": _ONE, "net.encoder.linear.bias": _ONE},
        r"unknown kind \(all is under 'net': save what is under it as 'state_dict'\)",
    ),
    "empty_dictionary": ({}, r"unknown kind \(top-level names: none\)"),
}

UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "cannot read .*No such file"),
    "directory": (Path.mkdir, "is a directory"),
    "pipe": (os.mkfifo, "is not a regular file"),
    "empty": (_bytes(b""), "is empty; download"),
    "text": (_bytes(b"a text\nof two lines\n"), _DAMAGED),
    "web_page": (
        _bytes(b"<!DOCTYPE html><html>Too many users have viewed this file"),
        "is a web page",
    ),
    "picture": (_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256))), _DAMAGED),
    "pickle_that_ends_at_once": (_bytes(b"\x80\x02."), _DAMAGED),
    "letters": (_bytes(b"a" * 100), _DAMAGED),  # opcode a pops from an empty stack
    "plain_pickle": (_bytes(pickle.dumps({"state_dict": {}})), _DAMAGED),
    "zip_of_other_things": (
        lambda path: zipfile.ZipFile(path, "w").close(),
        "is a zip archive, not",
    ),
    "zip_without_its_end": (_truncated("zip", 0.98), _DAMAGED),
    "zip_of_a_later_version": (_of_a_later_zip, _DAMAGED),
    "half_a_zip": (_truncated("zip", 0.5), _DAMAGED),
    "half_a_legacy_file": (_truncated("legacy", 0.5), _DAMAGED),
    "list": (_write([_ONE]), "holds a list, not a dictionary"),
    "tensor": (_write(_ONE), "holds a Tensor, not a dictionary"),
    "module": (_write(torch.nn.Linear(1, 1)), "holds a torch.nn.modules.linear.Linear"),
    "numpy_array": (
        _write({"latent_avg": np.ones(16)}),
        "holds a numpy._?core.multiarray._reconstruct",
    ),
    "numpy_pointer": (_forged_scalar(b"X\x02\x00\x00\x00f8", b"X\x02\x00\x00\x00O8"), _DAMAGED),
    "numpy_byte_order": (_forged_scalar(b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x00x"), _DAMAGED),
    "numpy_without_type": (_forged_scalar(b"cnumpy\ndtype\n", b"cbuiltins\nset\n"), _DAMAGED),
}
