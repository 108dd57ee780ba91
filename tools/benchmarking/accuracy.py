"""Two ways of computing a bundle, tensor by tensor; with torch, which `hyperstyle-rt check` lacks.

Contenders: those of `hyperstyle-rt check`, torch (needs --checkpoint and --w-encoder), and
cpu-fp16-rounded: every fp16 tensor really rounded, as a GPU does and ONNX Runtime's CPU provider
does not.

    python -m benchmarking.accuracy --bundle engines/ffhq --candidate cpu-fp16-rounded
    python -m benchmarking.accuracy --bundle engines/ffhq --reference torch --candidate cpu \
        --checkpoint hyperstyle_ffhq.pt --w-encoder faces_w_encoder.pt --json
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from hyperstyle_rt.backends.protocol import Buffers, Signature
from hyperstyle_rt.backends.registry import open_backend
from hyperstyle_rt.checking.comparison import Contender, open_contender
from hyperstyle_rt.cli import options
from hyperstyle_rt.cli.check import (
    CheckRequest,
    IterationsOption,
    PicturesArgument,
    compare_and_show,
)
from hyperstyle_rt.errors import BackendError, HyperStyleError
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.types import Array
from mistakes import one_sentence

if TYPE_CHECKING:
    import torch
    from hyperstyle_export.networks.config import LayerSpec
    from hyperstyle_export.networks.hyperstyle import HyperStyle

ROUNDED = "cpu-fp16-rounded"
TORCH = "torch"


class TorchBackend:
    """The reference networks in the published form, by the roles of the graphs."""

    name = provider = TORCH
    precision = graph_precision = "fp32"
    largest_batch = 1

    def __init__(self, model: HyperStyle, bundle: Bundle) -> None:
        self._model = model
        self._graphs = open_backend("cpu", bundle, None)  # for their signatures
        self._roles = {
            "encoder": self._encode,
            "hypernet": self._codes,
            "weights": self._kernels,
            "generator": self._render,
        }

    def signature(self, role: str) -> Signature:
        """Those of the bundle's graphs."""
        return self._graphs.signature(role)

    def run(self, role: str, inputs: Mapping[str, Any]) -> Buffers:
        """Run the network that a graph was made of."""
        if role not in self._roles:
            raise BackendError(
                f"torch has no reference of the graph {role}; compare another method"
            )
        with torch_without_gradients():
            return self._roles[role](inputs)

    def upload(self, array: Any) -> torch.Tensor:
        """Copy an array into a tensor."""
        import torch

        return torch.from_numpy(np.array(array, np.float32, order="C"))

    def download(self, buffer: torch.Tensor) -> Array:
        """Copy a tensor into an array."""
        return np.array(buffer.numpy(), np.float32)

    share = download

    def for_session(self) -> TorchBackend:
        """Itself."""
        return self

    def close(self) -> None:
        """Close the graphs that signatures were read from."""
        self._graphs.close()

    def _encode(self, inputs: Mapping[str, Any]) -> Buffers:
        return {"latents": self._model.encode(inputs["target"])}

    def _codes(self, inputs: Mapping[str, Any]) -> Buffers:
        from hyperstyle_export.networks.hypernetwork import with_count

        codes = self._model.hypernet.codes(inputs["target"], inputs["reconstruction"])
        return {"codes_next": inputs["codes"] + with_count(codes)}

    def _kernels(self, inputs: Mapping[str, Any]) -> Buffers:
        """Kernels of the tuned layers, scale * W * (1 + offset)."""
        offsets = self._model.hypernet.expand(inputs["codes"])
        return {
            f"weight.{layer.name}": self._base(layer) * (1 + offsets[layer.index][0])
            for layer in self._model.config.tuned
        }

    def _render(self, inputs: Mapping[str, Any]) -> Buffers:
        """The published generator takes offsets: they are told from the kernels."""
        offsets = {
            layer.index: (inputs[f"weight.{layer.name}"] / self._base(layer) - 1)[None]
            for layer in self._model.config.tuned
        }
        rendering, reconstruction = self._model.generate(inputs["latents"], offsets)
        return {"rendering": rendering, "reconstruction": reconstruction}

    def _base(self, layer: LayerSpec) -> torch.Tensor:
        conv: Any = self._model.decoder.get_submodule(layer.name).conv
        return conv.scale * conv.weight[0]


def torch_without_gradients() -> AbstractContextManager[Any]:
    """The context in which torch keeps nothing for gradients."""
    import torch

    return torch.no_grad()


def open_any(
    name: str, bundle: Bundle, checkpoint: Path | None, w_encoder: Path | None
) -> Contender:
    """Open a contender, those that need the exporter included."""
    if name == ROUNDED:
        from hyperstyle_export.bundles.rounding import write_rounded_half

        directory = TemporaryDirectory(prefix="hyperstyle-rt-")
        atexit.register(directory.cleanup)
        rounded = write_rounded_half(bundle, Path(directory.name))
        return Contender(name, open_backend("cpu", rounded, None, "fp16"))
    if name != TORCH:
        return open_contender(name, bundle)
    if checkpoint is None or w_encoder is None:
        raise HyperStyleError("torch needs the networks; give --checkpoint and --w-encoder")
    from hyperstyle_export.readers.official import load_model

    model = load_model(checkpoint, w_encoder).requires_grad_(False)
    return Contender(TORCH, TorchBackend(model, bundle), has_stored_weights=False)


def main(
    pictures: PicturesArgument = None,
    bundle: options.Bundle = None,
    candidate: Annotated[str, typer.Option(help="See above.")] = ROUNDED,
    reference: Annotated[str, typer.Option(help="See above.")] = "cpu",
    checkpoint: Annotated[Path | None, typer.Option(help="HyperStyle checkpoint.")] = None,
    w_encoder: Annotated[Path | None, typer.Option(help="W-encoder checkpoint.")] = None,
    iterations: IterationsOption = None,
    json_: options.Json = False,
) -> None:
    """Compare; exit with 1 and name the worst tensor if one is out of bounds."""
    open_one = partial(open_any, checkpoint=checkpoint, w_encoder=w_encoder)
    with one_sentence():
        request = CheckRequest(reference, candidate, pictures or [], None, iterations)
        compare_and_show(open_one, bundle, request, json_)


if __name__ == "__main__":
    typer.run(main)
