"""The generator of photographs read off a bundle's graphs, whose wheel need not be at hand."""

from __future__ import annotations

import onnx
import torch
from hyperstyle_rt.formats.bundle import Bundle
from onnx import numpy_helper
from torch import Tensor

from ..networks.layers import ACTIVATION_GAIN
from ..networks.mobilestylegan import MobileStyleGan, MobileStyleGanConfig, model_from_state
from .staging import BuildError


def recover_mobile_generator(bundle: Bundle) -> MobileStyleGan:
    """Read mapping and synthesis of a bundle, from weights as it stores them; in eval mode.

    Raises
    ------
    BundleError
        If a file is altered.
    BuildError
        If the graphs are not those that this exporter writes for MobileStyleGAN.
    """
    mapping = _constants(bundle, "mapping")
    synthesis = _constants(bundle, "generator") | _constants(bundle, "weights")
    try:
        config = _config(mapping, synthesis)
        with torch.device("meta"):
            parameters = MobileStyleGan(config).state_dict()
        state = {
            key: _tensor(key, mapping, synthesis, parameter)
            for key, parameter in parameters.items()
        }
    except KeyError as error:
        raise BuildError(
            f"the graphs of {bundle.directory} hold no {error}; they are of another generator."
        ) from error
    return model_from_state(state, config)


def _constants(bundle: Bundle, role: str) -> dict[str, Tensor]:
    """The numbers of a graph by the names of the network's tensors, float32."""
    graph = onnx.load(bundle.verified_path(role)).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return {
        name.removesuffix(".fp16"): torch.tensor(array).float()
        for name, array in arrays.items()
        if array.dtype.kind == "f"
    }


def _config(mapping: dict[str, Tensor], synthesis: dict[str, Tensor]) -> MobileStyleGanConfig:
    channels = [synthesis["const"].shape[1]]
    while (name := f"layers.{len(channels) - 1}.conv2.weight") in synthesis:
        channels.append(synthesis[name].shape[0])
    depth = sum(name.endswith(".weight") for name in mapping)
    return MobileStyleGanConfig(tuple(channels), mapping["mapping.layers.0.weight"].shape[0], depth)


def _tensor(
    key: str, mapping: dict[str, Tensor], synthesis: dict[str, Tensor], parameter: Tensor
) -> Tensor:
    """A tensor of the networks; noise of a layer that has none is zero, and is not stored."""
    part, _, name = key.partition(".")
    if part == "mapping":
        return mapping[key] / ACTIVATION_GAIN
    if name.endswith(".noise") and name not in synthesis:
        return torch.zeros(parameter.shape)
    return synthesis[name]
