"""The generator of photographs and its draft read off a bundle's graphs, without their files."""

from __future__ import annotations

import onnx
import torch
from hyperstyle_rt.formats.bundle import Bundle
from onnx import numpy_helper
from torch import Tensor

from ..graphs.mobile_objectives import DRAFT_OBJECTIVE
from ..graphs.objective import KERNEL
from ..networks.layers import ACTIVATION_GAIN
from ..networks.mobile_draft import Draft
from ..networks.mobilestylegan import (
    MobileStyleGan,
    MobileStyleGanConfig,
    PictureHead,
    model_from_state,
)
from .staging import BuildError

_HEAD = "head."


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


def recover_draft(bundle: Bundle, generator: MobileStyleGan) -> Draft:
    """Read the draft of a bundle, its head from weights as the bundle stores them.

    Raises
    ------
    BundleError
        If a file is altered.
    BuildError
        If the bundle has no draft, or one of another generator.
    """
    if DRAFT_OBJECTIVE not in bundle.manifest.graphs:
        raise BuildError(f"bundle {bundle.manifest.name!r} has no draft; build it with one")
    inputs = onnx.load(bundle.verified_path(DRAFT_OBJECTIVE)).graph.input
    blocks = (sum(value.name.startswith(KERNEL) for value in inputs) - 1) // 2
    state = {
        name.removeprefix(_HEAD): value
        for name, value in _constants(bundle, DRAFT_OBJECTIVE).items()
        if name.startswith(_HEAD)
    }
    config = generator.config
    head = PictureHead(config.channels[blocks], config.style_width, len(state["squeeze.bias"]))
    try:
        head.load_state_dict(state)
    except RuntimeError as error:
        raise BuildError(f"{bundle.directory} has a draft of another generator") from error
    return Draft(head.eval().requires_grad_(False), blocks)


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
