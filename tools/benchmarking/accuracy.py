"""Two ways of computing a bundle, tensor by tensor; with torch, which `hyperstyle-rt check` lacks.

Contenders: torch (needs --checkpoint and --w-encoder), cpu, cpu-fp16, cpu-fp16-rounded (every fp16
tensor really rounded, as a GPU does and ONNX Runtime's CPU provider does not), cuda, tensorrt,
ort-tensorrt, and those three with -fp16.

    python -m benchmarking.accuracy --bundle engines/faces --candidate cpu-fp16-rounded
    python -m benchmarking.accuracy --bundle engines/faces --reference torch --candidate cpu \
        --checkpoint hyperstyle_ffhq.pt --w-encoder faces_w_encoder.pt --json
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from hyperstyle_rt.checking.comparison import BackendContender, Contender, open_contender
from hyperstyle_rt.cli import options
from hyperstyle_rt.cli.check import IterationsOption, PicturesArgument, compare_and_show
from hyperstyle_rt.cli.terminal import print_error
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.formats.bundle import Bundle
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from hyperstyle_export.networks.hyperstyle import HyperStyle

Array = NDArray[np.float32]
ROUNDED = "cpu-fp16-rounded"
TORCH = "torch"


class TorchContender:
    """The reference networks in the published form."""

    name, precision = TORCH, "fp32"

    def __init__(self, model: HyperStyle) -> None:
        self._model = model

    def latents(self, image: Array) -> Array:
        """Encoder."""
        return self._model.encode(_tensor(image)).numpy()

    def codes(self, image: Array, reconstruction: Array, codes_in: Array) -> Array:
        """Hypernetwork; the sum and the count are the graph's."""
        from hyperstyle_export.networks.hypernetwork import with_count

        new = with_count(self._model.hypernet.codes(_tensor(image), _tensor(reconstruction)))
        return codes_in + new.numpy()

    def weights(self, codes: Array) -> dict[str, Array]:
        """Weights of the tuned layers, scale * W * (1 + offset)."""
        offsets = self._model.hypernet.expand(_tensor(codes))
        weights = {}
        for layer in self._model.config.tuned:
            conv: Any = self._model.decoder.get_submodule(layer.name).conv
            weight = conv.scale * conv.weight[0] * (1 + offsets[layer.index][0])
            weights[f"weight.{layer.name}"] = weight.numpy()
        return weights

    def generate(self, latents: Array, codes: Array) -> dict[str, Array]:
        """Generator."""
        offsets = self._model.hypernet.expand(_tensor(codes))
        image, reconstruction = self._model.generate(_tensor(latents), offsets)
        return {"image": image.numpy(), "reconstruction": reconstruction.numpy()}


def _tensor(array: Array) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array))


def open_any(
    name: str, bundle: Bundle, checkpoint: Path | None, w_encoder: Path | None
) -> Contender:
    """Open a contender, those that need the exporter included."""
    if name == ROUNDED:
        from hyperstyle_export.bundles.rounding import RoundedHalfBackend

        return BackendContender(name, RoundedHalfBackend(bundle))
    if name != TORCH:
        return open_contender(name, bundle)
    if checkpoint is None or w_encoder is None:
        raise HyperStyleError("torch needs the networks; give --checkpoint and --w-encoder")
    from hyperstyle_export.readers.official import load_model

    return TorchContender(load_model(checkpoint, w_encoder).requires_grad_(False))


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
    try:
        compare_and_show(open_one, reference, candidate, bundle, pictures, iterations, json_)
    except HyperStyleError as error:
        print_error(str(error))
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
