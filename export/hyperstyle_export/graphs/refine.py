"""Graphs of the refinement: gradient steps on the weight offsets of one picture.

`refine` runs generator and loss forward and back, down to the tuned convolutions' weights; what the
weights are made of, they are made of in graphs whose adjoints are graphs again. A host chains them
as it chains the loop:

    codes:     weights(codes) -> refine -> weights_adjoint -> codes_gradient
    channels:  weights(codes), base weights -> channels(channels) -> refine -> channels_adjoint

`channels` is also what renders an inversion that has free offsets. `features` gives what the
perceptual term compares with, once a picture. The batch is 1: a step is one face's.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..networks.hyperstyle import HyperStyle
from ..networks.lpips import Lpips
from ..networks.refinement import channel_count
from .adjoint import pull_back
from .adjoint_rules import shape_of
from .builder import GraphBuilder, Precision
from .generator import build_generator
from .inlining import inline, prune, with_shapes
from .perceptual import perceptual_term
from .refine_loss import loss_of
from .weights import build_weights


def build_features(model: HyperStyle, lpips: Lpips | None = None) -> ir.Model:
    """Target [1,3,h,w], of the encoder's input size -> features.<n> [1,C,h',w'], n from 0.

    See `networks.refinement`: the encoder's features, or those of an LPIPS network.
    """
    term = perceptual_term(model, lpips)
    b = GraphBuilder("features")
    found = term.features(b, b.input("target", [1, 3, *model.config.input_size]))
    for number, (value, shape) in enumerate(zip(found, term.shapes, strict=True)):
        b.output(f"features.{number}", value, shape)
    return b.build()


def build_refine(model: HyperStyle, lpips: Lpips | None = None) -> ir.Model:
    """One step's forward and backward pass, in float32, for `features` of the same network.

    Inputs: latents [1,L,W]; target [1,3,H,W], the picture in the generator's size, RGB in [-1,1];
    features.<n>, those of the picture; weight.<layer> [O,I,k,k] of every tuned layer.

    Outputs: loss [1]; image [1,3,H,W]; gradient.<layer> [O,I,k,k], of the loss by weight.<layer>.
    """
    forward = with_shapes(_forward(model, lpips))
    b = GraphBuilder("refine")
    inputs = {str(v.name): b.input(str(v.name), shape_of(v)) for v in forward.graph.inputs}
    values = inline(b, forward, inputs)
    tuned = [f"weight.{layer.name}" for layer in model.config.tuned]
    one = b.constant("one", np.ones(1, np.float32))
    gradients = pull_back(b, {values["loss"]: one}, [values[name] for name in tuned])
    b.output("loss", values["loss"], [1])
    b.output("image", values["image"], [1, 3, *model.config.image_size])
    for layer, gradient in zip(model.config.tuned, gradients, strict=True):
        b.output(f"gradient.{layer.name}", gradient, layer.weight_shape)
    return prune(b.build())


def _forward(model: HyperStyle, lpips: Lpips | None) -> ir.Model:
    config, term = model.config, perceptual_term(model, lpips)
    b = GraphBuilder("refine")
    shape = [1, config.generator.num_latents, config.generator.style_width]
    latents = b.input("latents", shape)
    target = b.input("target", [1, 3, *config.image_size])
    wanted = [b.input(f"features.{number}", shape) for number, shape in enumerate(term.shapes)]
    shapes = {f"weight.{layer.name}": layer.weight_shape for layer in config.tuned}
    weights = {name: b.input(name, shape) for name, shape in shapes.items()}
    made = inline(b, build_generator(model), {"latents": latents, **weights})
    seen = term.features(b, made["reconstruction"])
    perceptual = term.loss(b.scoped("loss"), list(zip(seen, wanted, strict=True)))
    loss = loss_of(b, made["image"], target, perceptual)
    b.output("loss", loss, [1])
    b.output("image", made["image"], [1, 3, *config.image_size])
    return b.build()


def build_weights_adjoint(model: HyperStyle) -> ir.Model:
    """gradient.<layer> [O,I,k,k] -> codes_gradient [1,M,K+1]: the adjoint of `weights`.

    The codes themselves are not needed: the weights are affine in them.
    """
    return _adjoint_by(build_weights(model), "codes", model)


def build_channels(model: HyperStyle, precision: Precision = "fp32") -> ir.Model:
    """tuned.<layer> and base.<layer> [O,I,k,k], channels [P] -> weight.<layer> = tuned + base * c.

    `tuned` and `base` are what `weights` makes of an inversion's codes and of zeros. `channels` are
    the free offsets c [O,I] of all tuned layers, one after the other, each the same for all taps.
    """
    layers = model.config.tuned
    b = GraphBuilder("channels", precision)
    tuned, base = (
        {layer: b.compute_input(f"{kind}.{layer.name}", layer.weight_shape) for layer in layers}
        for kind in ("tuned", "base")
    )
    channels = b.to_compute(b.input("channels", [channel_count(model.config)]))
    start = 0
    for layer in layers:
        b.scoped(layer.name)
        stop = start + layer.out_channels * layer.in_channels
        offsets = b.op("Slice", channels, b.integers(start), b.integers(stop), b.integers(0))
        offsets = b.reshape(offsets, layer.out_channels, layer.in_channels, 1, 1)
        weight = b.op("Add", tuned[layer], b.op("Mul", base[layer], offsets))
        b.compute_output(f"weight.{layer.name}", weight, layer.weight_shape)
        start = stop
    return b.build()


def build_channels_adjoint(model: HyperStyle) -> ir.Model:
    """gradient.<layer> and base.<layer> [O,I,k,k] -> channels_gradient [P]."""
    return _adjoint_by(build_channels(model), "channels", model)


def _adjoint_by(forward: ir.Model, name: str, model: HyperStyle) -> ir.Model:
    """Of a graph that gives weight.<layer>: gradient.<layer> -> <name>_gradient.

    Its inputs stay inputs where the adjoint reads them.
    """
    with_shapes(forward)
    b = GraphBuilder(f"{forward.graph.name}_adjoint")
    inputs = {str(v.name): b.input(str(v.name), shape_of(v)) for v in forward.graph.inputs}
    values = inline(b, forward, inputs)
    cotangents = {
        values[f"weight.{layer.name}"]: b.input(f"gradient.{layer.name}", layer.weight_shape)
        for layer in model.config.tuned
    }
    (gradient,) = pull_back(b, cotangents, [inputs[name]])
    b.output(f"{name}_gradient", gradient, shape_of(inputs[name]))
    return prune(b.build())
