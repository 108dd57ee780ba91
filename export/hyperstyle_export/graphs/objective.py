"""`features` and `objective` graphs: the loss of one picture and its gradients by the kernels.

A refinement is gradient steps on the offsets of one picture. `objective` runs generator and loss
forward and back, down to the tuned convolutions' kernels. The way from codes or channel offsets to
the kernels is a graph, and its adjoint is one too (`channel_offsets`). A host chains them:

    codes:            weights(codes) -> objective -> weights_adjoint -> codes_gradient
    channel offsets:  weights(codes), base kernels -> channel_offsets(channel_offsets)
                      -> objective -> channel_offsets_adjoint -> channel_offsets_gradient

`features` gives what the perceptual term compares with, once a picture. The batch is 1: a step is
one face's.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..adjoint.pacing import paced
from ..adjoint.pull_back import pull_back
from ..adjoint.rules import shape_of
from ..networks.hyperstyle import HyperStyle
from ..networks.lpips import Lpips
from .builder import GraphBuilder
from .generator_single import build_single_generator
from .inlining import inline, prune, with_shapes
from .objective_loss import loss_of
from .perceptual import perceptual_term


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


def build_objective(model: HyperStyle, lpips: Lpips | None = None) -> ir.Model:
    """One step's forward and backward pass, in float32, for `features` of the same network.

    Inputs: latents [1,L,W]; target [1,3,H,W], the picture in the generator's size, RGB in [-1,1];
    features.<n>, those of the picture; weight.<layer> [O,I,k,k] of every tuned layer.

    Outputs: loss [1]; rendering [1,3,H,W]; gradient.<layer> [O,I,k,k], of the loss by
    weight.<layer>.
    """
    forward = with_shapes(_forward(model, lpips))
    b = GraphBuilder("objective")
    inputs = {str(v.name): b.input(str(v.name), shape_of(v)) for v in forward.graph.inputs}
    values = inline(b, forward, inputs)
    tuned = [f"weight.{layer.name}" for layer in model.config.tuned]
    one = b.constant("one", np.ones(1, np.float32))
    gradients = pull_back(b, {values["loss"]: one}, [values[name] for name in tuned])
    b.output("loss", values["loss"], [1])
    b.output("rendering", values["rendering"], [1, 3, *model.config.image_size])
    for layer, gradient in zip(model.config.tuned, gradients, strict=True):
        b.output(f"gradient.{layer.name}", gradient, layer.weight_shape)
    return paced(prune(b.build()))


def _forward(model: HyperStyle, lpips: Lpips | None) -> ir.Model:
    config, term = model.config, perceptual_term(model, lpips)
    b = GraphBuilder("objective")
    shape = [1, config.generator.num_latents, config.generator.style_width]
    latents = b.input("latents", shape)
    target = b.input("target", [1, 3, *config.image_size])
    wanted = [b.input(f"features.{number}", shape) for number, shape in enumerate(term.shapes)]
    shapes = {f"weight.{layer.name}": layer.weight_shape for layer in config.tuned}
    weights = {name: b.input(name, shape) for name, shape in shapes.items()}
    rendered = inline(b, build_single_generator(model), {"latents": latents, **weights})
    seen = term.features(b, rendered["reconstruction"])
    perceptual = term.loss(b.scoped("loss"), list(zip(seen, wanted, strict=True)))
    loss = loss_of(b, rendered["rendering"], target, perceptual)
    b.output("loss", loss, [1])
    b.output("rendering", rendered["rendering"], [1, 3, *config.image_size])
    return b.build()
