"""Networks in NVIDIA's `.pkl` files, of which nothing is ever run (docs/spec-methods.md, 4.1).

Such a file is a pickle in which every network carries the Python source of its class, and the
original reader executes that source. Here a network is read as a plain record of its tensors and
attributes; the few names that these files use stand for functions that only store what they are
given, and every other name is refused.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import read_regular
from torch import Tensor

from .file_kinds import PICKLE, ZIP, kind_of_file
from .pickled_arrays import ARRAY_NAMES, check_memo, finished
from .torch_files import CheckpointError

SUFFIX = ".pkl"
MOST_NETWORKS = 10_000  # one in another; a generator of 1024 px is made of 80
LARGEST_FILE = 4 << 30  # bytes; that of a generator of 1024 px with its discriminator has 0.4 GB


@dataclass(frozen=True)
class Network:
    """A network as its file describes it.

    Attributes
    ----------
    class_name:
        Of its class, e.g. ``Generator``.
    state:
        Attributes of the module; other networks among ``state["_modules"]``.
    """

    class_name: object
    state: Mapping[str, Any]

    def networks(self, prefix: str = "") -> Iterator[tuple[str, Network]]:
        """Give all networks inside, and this one, by the path that their tensors' names begin with.

        That path is ``""`` for this one, else it ends in a dot.
        """
        left = [(prefix, self)]
        while left:
            path, network = left.pop()
            yield path, network
            children = _mapping(network.state.get("_modules")).items()
            inner = [(f"{path}{n}.", child) for n, child in children if isinstance(child, Network)]
            left += reversed(inner)

    def tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Give parameters and buffers under the names of a state dict."""
        for path, network in self.networks(prefix):
            for group in ("_parameters", "_buffers"):
                for name, value in _mapping(network.state.get(group)).items():
                    if isinstance(value, Tensor):
                        yield f"{path}{name}", value


def read_network_pickle(path: Path) -> dict[str, Any]:
    """Read the dictionary in a file; its networks as :class:`Network`.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, of another kind, or names anything that is no part of it.
    """
    data = read_regular(path, LARGEST_FILE, CheckpointError)
    if data.startswith(ZIP):
        torch_file = "is a torch file; give it under a name that ends in .pt"
        raise CheckpointError(f"{path} {kind_of_file(path) or torch_file}.")
    try:
        check_memo(data)
        contents = finished(_Unpickler(data).load())
    except HyperStyleError as error:
        raise CheckpointError(f"{path} {error}") from None
    except Exception as error:  # in a damaged pickle any operation of the reader may fail
        kind = None if data.startswith(PICKLE) else kind_of_file(path)
        damaged = "is damaged or no pickle of a network; download or copy it again"
        raise CheckpointError(f"{path} {kind or damaged}.") from error
    if not isinstance(contents, dict):
        raise CheckpointError(
            f"{path} holds a {type(contents).__name__}, not a dictionary of networks; give a file "
            "of stylegan2-ada-pytorch or stylegan3."
        )
    return contents


def read_network(path: Path, name: str) -> Network:
    """Read one network of a file.

    Raises
    ------
    CheckpointError
        As :func:`read_network_pickle`, and if there is none of that name, or it is of more parts
        than any: such a one holds itself, or the same parts over and over.
    """
    contents = read_network_pickle(path)
    network = contents.get(name)
    if not isinstance(network, Network):
        found = ", ".join(sorted(key[:40] for key in contents if isinstance(key, str))) or "none"
        raise CheckpointError(
            f"{path} has no network {name!r} (names: {found}); give a file of "
            "stylegan2-ada-pytorch or stylegan3."
        )
    if any(number >= MOST_NETWORKS for number, _ in enumerate(network.networks())):
        raise CheckpointError(
            f"{path} holds a network of more than {MOST_NETWORKS} parts, which no generator is; "
            "download or copy it again."
        )
    return network


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _network(described: Any) -> Network:
    """Stands for the function that executes a network's source."""
    if not isinstance(described, Mapping) or described.get("type") != "class":
        raise ValueError("a network without a class")
    return Network(described.get("class_name"), _mapping(described.get("state")))


class _Options(dict[str, Any]):
    """Stands for `dnnlib.util.EasyDict`."""


def _storage(data: bytes) -> Any:
    """Stands for torch's reader of a storage, which unpickles whatever it is given."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _tensor(
    storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_more: object
) -> Tensor:
    """Stands for torch's function that makes a tensor of a storage."""
    view, raw = torch.empty(0, dtype=storage.dtype), storage._untyped_storage
    view.set_(raw, offset, size, stride)
    if view.nbytes > raw.nbytes():  # a few bytes could stand for any number of elements
        raise ValueError("a tensor larger than its storage")
    return view


def _parameter(data: Tensor, *_more: object) -> Tensor:
    """Stands for torch's function that makes a parameter of a tensor."""
    return data


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    **ARRAY_NAMES,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _network,
    ("dnnlib.util", "EasyDict"): _Options,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}

_TENSORFLOW = "dnnlib.tflib"


class _Unpickler(pickle.Unpickler):
    """Finds nothing but the stand-ins above."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if module.startswith(_TENSORFLOW):
            raise CheckpointError(
                "is a pickle of the TensorFlow versions of StyleGAN; convert it with the script "
                "legacy.py of stylegan2-ada-pytorch and use that file."
            )
        if (module, name) not in _ALLOWED:
            raise CheckpointError(
                f"holds a {module}.{name}, which is no part of a network, and nothing in it was "
                "run; give a file of stylegan2-ada-pytorch or stylegan3."
            )
        return _ALLOWED[module, name]
