"""Graphs of pSp, e4e and ReStyle: target, and what was found so far -> latents.

docs/spec.md, sections 5.3 to 5.5. The graph of ReStyle is one iteration: it reads the
reconstruction of the latents that it changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import torch
from hyperstyle_rt.formats.methods import AVERAGE

from ..networks.config import StyleEncoderConfig
from ..networks.encoder_method import LARGEST_LABEL, LIGHTNESS, EncoderMethod
from ..networks.latent_layout import InvertibleModel
from ..networks.style_encoder import STYLE_SLOPE
from .builder import BATCH, Dim, GraphBuilder, Precision, State, to_array
from .encoder import trunk_features
from .hypernet import resnet_features

# Constants have the official keys, as those of `encoder` have: what two files of one bundle have in
# common is so stored once.
PREFIX = "encoder"


def build_style_encoder(
    model: InvertibleModel, method: EncoderMethod, precision: Precision = "fp32"
) -> ir.Model:
    """Target [B,3,h,w] -> latents [B,L,W] with the average added.

    Of ReStyle: target, reconstruction [B,3,h,w], latents [B,L,W] -> latents_next. In fp16, whatever
    is one vector a sample stays float32.
    """
    config = method.encoder.config
    state = {f"{PREFIX}.{key}": value for key, value in method.encoder.state_dict().items()}
    pictures: list[Dim] = [BATCH, 3, *model.config.input_size]
    rows: list[Dim] = [BATCH, config.num_latents, config.style_width]
    b = GraphBuilder(method.role, precision)
    target = b.input("target", pictures)
    if not method.kind.is_iterative:
        found = _latents(b, _encoder_input(b, target, config.in_channels), state, config)
        average = b.constant("latent_avg", to_array(method.latent_avg))
        b.output("latents", b.scoped("latents").op("Add", found, average), rows)
        return b.build()
    reconstruction = b.input("reconstruction", pictures)
    before = b.input("latents", rows)
    both = b.op("Concat", target, reconstruction, axis=1)
    step = _latents(b, both, state, config)
    b.output("latents_next", b.scoped("latents").op("Add", step, before), rows)
    return b.build()


def build_average(model: InvertibleModel, method: EncoderMethod) -> ir.Model:
    """(nothing) -> latents [1,L,W] and reconstruction [1,3,h,w]: what ReStyle starts from.

    They are the same for every picture. The published code renders them once, too, before it
    inverts any.
    """
    average = method.latent_avg[None]
    with torch.no_grad():
        _, reconstruction = model.generate(average)
    b = GraphBuilder(f"{method.role}{AVERAGE}")
    for name, value in (("latents", average), ("reconstruction", reconstruction)):
        stored = b.constant(f"average.{name}", to_array(value))
        b.output(name, b.op("Identity", stored), list(value.shape))
    return b.build()


def _encoder_input(b: GraphBuilder, target: ir.Value, channels: int) -> ir.Value:
    """The twin is `encoder_input`."""
    if channels == 3:
        return target
    b.scoped("input")
    # (lightness + 1) / 2 of a target in [-1,1]
    half = np.array(LIGHTNESS, np.float64).reshape(1, 3, 1, 1) / 2
    lightness = b.conv(
        target,
        b.constant("input.lightness", half.astype(np.float32)),
        b.constant("input.shift", np.array([0.5], np.float32)),
    )
    if channels == 1:
        return lightness
    labels = b.op("Round", b.op("Mul", lightness, b.scalar(LARGEST_LABEL)))
    channel = np.arange(channels, dtype=np.float32).reshape(1, -1, 1, 1)
    distance = b.op("Abs", b.op("Sub", labels, b.constant("input.labels", channel)))
    return b.op("Relu", b.op("Sub", b.scalar(1.0), distance))


def _latents(
    b: GraphBuilder, pictures: ir.Value, state: State, config: StyleEncoderConfig
) -> ir.Value:
    """Input of the trunk -> latents in float32: [B,L,W], or [B,1,W] where all rows are one."""
    groups = _groups(b, pictures, state, config)
    if config.head == "mean":
        b.scoped(f"{PREFIX}.linear")
        mean = b.op("GlobalAveragePool", b.to_float(groups[-1]))
        w = b.equal_linear(b.reshape(mean, 0, config.trunk.out_width), state, f"{PREFIX}.linear")
        return b.op("Unsqueeze", w, b.integers(1))
    levels = _pyramid(b, groups, state) if config.head == "pyramid" else [groups[-1]]
    rows = [
        b.op("Unsqueeze", _row(b, levels[level], state, row, config), b.integers(1))
        for row, level in enumerate(config.row_levels)
    ]
    b.scoped("latents")
    if not config.is_progressive:
        return b.op("Concat", *rows, axis=1)
    first = rows[0]
    rest = b.op("Add", b.op("Concat", *rows[1:], axis=1), first)
    return b.op("Concat", first, rest, axis=1)


def _groups(
    b: GraphBuilder, pictures: ir.Value, state: State, config: StyleEncoderConfig
) -> list[ir.Value]:
    """Features after every group of the trunk."""
    if config.body == "ir_se":
        _, *units = trunk_features(b, pictures, state, config.trunk)
    else:
        _, *units = resnet_features(b, pictures, state, PREFIX, config.trunk)
    ends = np.cumsum([count for _, count in config.trunk.groups])
    return [units[end - 1] for end in ends]


def _pyramid(b: GraphBuilder, groups: Sequence[ir.Value], state: State) -> list[ir.Value]:
    """The three levels, coarsest first."""
    *_, fine, middle, coarse = groups
    levels = [coarse]
    for lateral, features in (("latlayer1", middle), ("latlayer2", fine)):
        name = f"{PREFIX}.{lateral}"
        b.scoped(name)
        weight, bias = (b.compute_parameter(state, f"{name}.{kind}") for kind in ("weight", "bias"))
        # Each level is exactly twice the one before, so that scales say what sizes would.
        above = b.op(
            "Resize",
            levels[-1],
            None,
            b.constant("twice", np.array([1, 1, 2, 2], np.float32)),
            mode="linear",
            coordinate_transformation_mode="align_corners",
        )
        levels.append(b.op("Add", above, b.conv(features, weight, bias)))
    return levels


def _row(
    b: GraphBuilder, x: ir.Value, state: State, row: int, config: StyleEncoderConfig
) -> ir.Value:
    """A style block: features [B,C,h,w] -> one row [B,W] in float32."""
    block = f"{PREFIX}.styles.{row}"
    b.scoped(block)
    for number in range(config.block_depths[row]):
        conv = f"{block}.convs.{2 * number}"  # a leaky ReLU stands between any two
        weight, bias = (b.compute_parameter(state, f"{conv}.{kind}") for kind in ("weight", "bias"))
        x = b.conv(x, weight, bias, stride=2, padding=(1, 1))
        x = b.op("LeakyRelu", x, alpha=STYLE_SLOPE)
    x = b.reshape(b.to_float(x), 0, config.style_width)  # one position is left
    return b.equal_linear(x, state, f"{block}.linear")
