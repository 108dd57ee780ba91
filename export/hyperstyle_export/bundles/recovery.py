"""The reference networks of a bundle whose checkpoints are not at hand, read off its graphs.

The graphs keep the names of the checkpoint's tensors; what the exporter has folded into them is
taken apart again. Batch normalisation stays folded: it comes back as the identity and a bias. The
networks compute what the bundle computes, from weights as the bundle stores them; so a bundle can
be given fp16 graphs, or new ones, without its checkpoints.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace

import onnx
import torch
from hyperstyle_rt.formats.bundle import Bundle
from onnx import numpy_helper
from torch import Tensor

from ..graphs.batchnorm import EPS
from ..graphs.generator import ACTIVATION_LIMIT
from ..graphs.storage import STORED_NOISE
from ..networks.config import GeneratorConfig, HyperStyleConfig
from ..networks.generator import MAPPING_LR_MUL
from ..networks.hyperstyle import HyperStyle
from ..networks.layers import ACTIVATION_GAIN
from ..readers.layouts import LayoutError, infer_encoder, infer_generator, infer_hypernetwork
from .staging import BuildError

Tensors = dict[str, Tensor]

_ROLES = ("encoder", "hypernet", "weights", "generator", "mapping")
_EQUALISED = re.compile(r"(\.modulation|encoder\.linear|blocks\.\d+\.linear|style\.\d+)\.weight$")

# A convolution's prefix -> that of the normalisation folded into it.
_NORMALISED = (
    (re.compile(r"\.(input_layer|shortcut_layer|downsample)\.0$"), r".\1.1"),
    (re.compile(r"\.res_layer\.3$"), r".res_layer.4"),
    (re.compile(r"^(hypernet(?:\.body\.\d+)?)\.conv(\d)$"), r"\1.bn\2"),
)


def recover_model(bundle: Bundle) -> HyperStyle:
    """Read the networks of a bundle, in eval mode.

    Raises
    ------
    BundleError
        If a file is altered, or the bundle was built without its mapping network.
    BuildError
        If the graphs are not those this exporter writes.
    """
    manifest = bundle.manifest
    constants: Tensors = {}
    for role in _ROLES:
        graph = onnx.load(bundle.verified_path(role)).graph
        for tensor in graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.dtype.kind == "f":
                constants[tensor.name.removesuffix(".fp16")] = torch.tensor(array).float()
    try:
        state = dict(_plain(constants)) | dict(_normalisation(constants))
        generator = infer_generator(_below(state | _kernels(constants), "decoder."))
        if ACTIVATION_LIMIT in constants:
            limit = float(constants[ACTIVATION_LIMIT])
            generator = replace(generator, activation_limit=limit)
        state |= _kernels(constants) | dict(_generator(constants, generator))
        state |= dict(_heads(constants, generator))
        config = HyperStyleConfig(
            generator=generator,
            encoder=infer_encoder(_below(state, "encoder.")),
            hypernetwork=infer_hypernetwork(_below(state, "hypernet."), generator),
            input_size=manifest.input_size,
            crop_rows=manifest.crop_rows,
        )
        model = HyperStyle(config)
        parameters = model.state_dict()
        known = {k: v.reshape(parameters[k].shape) for k, v in state.items() if k in parameters}
        missing = model.load_state_dict(known, strict=False).missing_keys
    except (KeyError, LayoutError, RuntimeError) as error:
        graphs = f"the graphs of {bundle.directory}"
        raise BuildError(f"{graphs} are not of this exporter's layout ({error}).") from error
    unknown = [key for key in missing if not _is_fixed(key)]
    if unknown:
        raise BuildError(f"the graphs of {bundle.directory} hold no {unknown[0]}; build it again.")
    return model.eval().requires_grad_(False)


def _below(state: Tensors, prefix: str) -> Tensors:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _is_fixed(key: str) -> bool:
    """Whether a tensor is the same in all models, or another name of one that is there."""
    return key.endswith(("num_batches_tracked", ".kernel")) or ".hypernet." in key


def _plain(constants: Tensors) -> Iterator[tuple[str, Tensor]]:
    """Tensors under their own names; equalised learning rates are taken out."""
    for name, value in constants.items():
        mapping = MAPPING_LR_MUL * ACTIVATION_GAIN if name.startswith("decoder.style.") else 1.0
        if _EQUALISED.search(name):
            value = value * (math.sqrt(value.shape[1]) / mapping)
        elif mapping != 1.0:  # its bias
            value = value / mapping
        yield name, value


def _normalisation(constants: Tensors) -> Iterator[tuple[str, Tensor]]:
    """Identities with the bias, or the gain and shift, that the exporter has folded."""
    for name, value in constants.items():
        if name.endswith(".shift"):
            prefix = name.removesuffix(".shift")
            yield from _identity(prefix, constants[f"{prefix}.gain"].flatten(), value.flatten())
        for pattern, replacement in _NORMALISED:
            prefix, found = pattern.subn(replacement, name.removesuffix(".bias"))
            if found and name.endswith(".bias"):
                yield from _identity(prefix, torch.ones_like(value), value)


def _identity(name: str, gain: Tensor, shift: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", gain
    yield f"{name}.bias", shift
    yield f"{name}.running_mean", torch.zeros_like(gain)
    yield f"{name}.running_var", torch.full_like(gain, 1 - EPS)


def _kernels(constants: Tensors) -> Tensors:
    """Weights of the generator's layers, tuned or not: [1,O,I,k,k]."""
    layer = re.compile(r"(conv1|to_rgb1|convs\.\d+|to_rgbs\.\d+)\.weight")
    return {
        f"decoder.{match[1]}.conv.weight": (value * math.sqrt(value[0].numel()))[None]
        for name, value in constants.items()
        if (match := layer.fullmatch(name))
    }


def _generator(constants: Tensors, config: GeneratorConfig) -> Iterator[tuple[str, Tensor]]:
    """Biases and noise of its layers; a layer without noise has it in strength 0."""
    for layer in config.layers:
        if layer.is_to_rgb:
            continue
        prefix, side = f"decoder.{layer.name}", layer.resolution
        yield f"{prefix}.activate.bias", constants[f"{layer.name}.bias"] / ACTIVATION_GAIN
        strength = constants.get(f"{layer.name}.noise_strength", torch.zeros(1))
        noise = constants.get(f"{STORED_NOISE}{layer.name}", torch.zeros(1, 1, side, side))
        yield f"{prefix}.noise.weight", strength / ACTIVATION_GAIN
        yield f"decoder.noises.noise_{layer.noise}", noise


def _heads(constants: Tensors, config: GeneratorConfig) -> Iterator[tuple[str, Tensor]]:
    """What expands codes: the rows that the exporter has put below the matrices are taken off."""
    for layer in config.layers:
        if f"{layer.name}.head" in constants:
            matrix = constants[f"{layer.name}.head"]  # [K+1,O*I]
            at = 0 if layer.is_to_rgb else 1
            name = f"hypernet.refinement_blocks.{layer.index}.output.{at}"
            yield f"{name}.weight", matrix[:-1].T[:, :, None, None]
            yield f"{name}.bias", matrix[-1]
    if "shared_weight_hypernet.w2" in constants:
        shared = "hypernet.shared_weight_hypernet"
        w2, w1 = (constants[f"shared_weight_hypernet.{name}"] for name in ("w2", "w1"))
        yield f"{shared}.w2", w2[:-1]
        yield f"{shared}.b2", w2[-1]
        yield f"{shared}.w1", w1[:-2]
        yield f"{shared}.b1", w1[-2]
