"""Pickles as stylegan2-ada-pytorch writes them, made without its code."""

from __future__ import annotations

import json
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fakeweights_methods
import numpy as np
import torch

SCHEMA = Path(__file__).parents[1] / "golden" / "schema" / "stylegan2_ada_64_small.json"
PREFIX = "sg2ada."
BUFFERS = frozenset(
    [
        "resample_filter",
        "noise_const",
        "w_avg",
        "transform",
        "freqs",
        "phases",
        "magnitude_ema",
        "up_filter",
        "down_filter",
    ]
)
SOURCE = "raise SystemExit('the source of a network was executed')"


class EasyDict(dict[str, Any]):
    """Pickled under the name of dnnlib's."""


EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"


def _reconstruct_persistent_obj(_described: Any) -> None:
    raise AssertionError("the original, which executes source")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class Persistent:
    """A module of the original, pickled as its persistence does it."""

    def __init__(self, class_name: str, state: Mapping[str, Any]) -> None:
        self.class_name, self.state = class_name, dict(state)

    def __reduce__(self) -> tuple[object, tuple[EasyDict]]:
        described = EasyDict(
            type="class",
            version=6,
            module_src=SOURCE,
            class_name=self.class_name,
            state=self.state,
        )
        return _reconstruct_persistent_obj, (described,)


@contextmanager
def original_modules() -> Iterator[None]:
    """The modules whose names the pickles hold, as far as pickling looks at them."""
    fakes = {name: types.ModuleType(name) for name in ("dnnlib", "torch_utils")}
    fakes["dnnlib.util"] = types.ModuleType("dnnlib.util")
    fakes["dnnlib.util"].EasyDict = EasyDict
    fakes["torch_utils.persistence"] = types.ModuleType("torch_utils.persistence")
    fakes["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj
    sys.modules.update(fakes)
    try:
        yield
    finally:
        for name in fakes:
            del sys.modules[name]


def golden_tensors() -> dict[str, torch.Tensor]:
    """The tensors of the golden generator, by their names in the file."""
    listed = json.loads(SCHEMA.read_text())["state_dict"]
    keys = {key for key, *_ in listed}
    taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 64
    return {
        key: torch.from_numpy(
            taps.copy()
            if key.endswith("resample_filter")
            else np.array(fakeweights_methods.value(PREFIX, key, shape, keys))
        )
        for key, shape, _ in listed
    }


Attributes = Mapping[str, Mapping[str, object]]
"""Path of a module, e.g. ``synthesis.b8.conv0`` -> attributes that it has beside those of all."""


def network(
    tensors: Mapping[str, torch.Tensor],
    clamp: float | None = None,
    attributes: Attributes | None = None,
) -> Persistent:
    """A generator of modules within modules, some of its tensors in other strides."""
    options = EasyDict(json.loads(SCHEMA.read_text())["init_kwargs"])
    options["synthesis_kwargs"] = EasyDict(options["synthesis_kwargs"], conv_clamp=clamp)
    of_all = {"conv_clamp": None if clamp is None else np.float64(clamp)}
    top = {"_init_args": (), "_init_kwargs": options}
    return module("Generator", tensors, {**(attributes or {}), "": top}, of_all)


def module(
    class_name: str,
    tensors: Mapping[str, torch.Tensor],
    attributes: Attributes,
    of_all: Mapping[str, object] | None = None,
    path: str = "",
) -> Persistent:
    """A module with the tensors of its modules within it, by their names in a state dict.

    Parameters
    ----------
    attributes:
        Path of a module, ``""`` for this one -> more attributes that it has.
    of_all:
        What all of them have.
    path:
        Of this module.
    """
    parameters: dict[str, Any] = OrderedDict()
    buffers: dict[str, Any] = OrderedDict()
    inner: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        head, dot, rest = name.partition(".")
        if dot:
            inner.setdefault(head, {})[rest] = tensor
        elif name in BUFFERS:
            buffers[name] = tensor
        else:
            if tensor.ndim == 4:  # as networks in channels_last are stored
                tensor = tensor.contiguous(memory_format=torch.channels_last)
            parameters[name] = torch.nn.Parameter(tensor)
    modules = OrderedDict(
        (n, module(f"{n}_class", own, attributes, of_all, f"{path}.{n}".lstrip(".")))
        for n, own in inner.items()
    )
    state = {
        "training": False,
        "_parameters": parameters,
        "_buffers": buffers,
        "_modules": modules,
        "_non_persistent_buffers_set": None,
        "use_fp16": False,
        **(of_all or {}),
        **attributes.get(path, {}),
    }
    return Persistent(class_name, state)


def write_pickle(path: Path, contents: object) -> Path:
    """Write a pickle of the original's names; gives its path."""
    with original_modules():
        path.write_bytes(pickle.dumps(contents))
    return path


def write_network(
    path: Path,
    tensors: Mapping[str, torch.Tensor] | None = None,
    clamp: float | None = None,
    attributes: Attributes | None = None,
) -> Path:
    """Write a generator as training saves it; the golden one by default."""
    tensors = golden_tensors() if tensors is None else tensors
    return write_generator(path, network(tensors, clamp, attributes))


def write_generator(path: Path, generator: Persistent) -> Path:
    """Write a network as training saves its generator."""
    contents = {"G": None, "D": None, "G_ema": generator, "training_set_kwargs": EasyDict(a=1)}
    return write_pickle(path, contents)
