"""`features` and `*objective` graphs: the loss of one picture and its gradients.

An objective runs generator and loss forward and back, down to the *leaves*: those inputs of the
generator that descent changes. There is one graph per set of leaves; a host opens the smallest one
that has its variables. The way from codes or channel offsets to the kernels is a graph, and its
adjoint is one too (`channel_offsets`). A host chains them:

    codes:            weights(codes) -> objective -> weights_adjoint -> codes_gradient
    channel offsets:  weights(codes), base kernels -> channel_offsets(channel_offsets)
                      -> objective -> channel_offsets_adjoint -> channel_offsets_gradient
    latents, noise:   latents_objective
    all weights:      parameters(kernels) -> synthesis_objective

`features` gives what the perceptual term compares with, once a picture. The batch is 1: a step is
one face's. Nothing here knows a family of generators: it is given the forward pass as a graph.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from ..adjoint.pacing import paced
from ..adjoint.pull_back import pull_back
from ..adjoint.rules import shape_of
from .averaging import averaged
from .builder import GraphBuilder
from .inlining import inline, prune, with_shapes
from .objective_loss import TERMS, loss_terms
from .perceptual import Compared, PerceptualTerm
from .shapes import shape_of_one
from .synthesis_tensors import PARAMETER
from .tiled import with_tiles

KERNEL = "weight."

LEAVES: Mapping[str, tuple[str, ...]] = {
    "objective": (KERNEL,),
    "latents_objective": ("latents", "noise."),
    "stored_noise_objective": ("latents", KERNEL),
    "joint_objective": ("latents", "noise.", KERNEL),
    "synthesis_objective": ("latents", "noise.", "feature_offset", PARAMETER),
    "draft_objective": ("latents", KERNEL),
}
"""Role -> how the names of its leaves begin."""


def build_features(term: PerceptualTerm) -> ir.Model:
    """Target [1,3,h,w], of the reconstruction's size -> features.<n> [1,C,h',w'], n from 0."""
    b = GraphBuilder("features")
    found = term.features(b, b.input("target", [1, 3, *term.input_size]))
    for number, (value, shape) in enumerate(zip(found, term.shapes, strict=True)):
        b.output(f"features.{number}", value, shape)
    return b.build()


def build_objective(role: str, forward: ir.Model, term: PerceptualTerm) -> ir.Model:
    """One step's forward and backward pass, in float32.

    Inputs: those of the forward pass, for a batch of 1; target [1,3,H,W], the picture in the
    generator's size, RGB in [-1,1]; features.<n>, its features; mask [1,1,H,W], what differences
    are multiplied by; term_weights [3]; pull [1,3,h,w], the derivative by the reconstruction of
    whatever else is minimised.

    Outputs: loss [1], the weighted sum of the terms; terms [3], see
    `networks.refinement.loss_terms`; rendering, reconstruction; gradient.<leaf> of the loss and
    of sum(pull * reconstruction), where a leaf ``weight.<layer>`` or ``parameter.<name>`` is named
    without its prefix.

    Parameters
    ----------
    role:
        One of `LEAVES`.
    forward:
        A generator, inputs -> rendering [N,3,H,W], reconstruction [N,3,h,w].
    term:
        The perceptual term, of the reconstruction's size.
    """
    b = GraphBuilder(role)
    ahead = with_shapes(_forward(role, forward, term))
    inputs = {str(v.name): b.input(str(v.name), shape_of(v)) for v in ahead.graph.inputs}
    values = inline(b, ahead, inputs)
    reconstruction, terms = values["reconstruction"], values["terms"]
    pull = b.input("pull", shape_of(reconstruction))
    weights = b.input("term_weights", [TERMS])
    leaves = [name for name in inputs if name.startswith(LEAVES[role])]
    cotangents = {terms: weights, reconstruction: pull}
    gradients = pull_back(b, cotangents, [inputs[name] for name in leaves])
    b.scoped("loss")
    loss = b.op("ReduceSum", b.op("Mul", terms, weights), keepdims=1)
    b.output("loss", loss, [1])
    b.output("terms", terms, [TERMS])
    for name in ("rendering", "reconstruction"):
        b.output(name, values[name], shape_of(values[name]))
    for name, gradient in zip(leaves, gradients, strict=True):
        b.output(gradient_name(name), gradient, shape_of(inputs[name]))
    return paced(with_tiles(prune(b.build())))


def gradient_name(leaf: str) -> str:
    """Name of the output that is the derivative by a leaf."""
    return f"gradient.{leaf.removeprefix(KERNEL).removeprefix(PARAMETER)}"


def _forward(role: str, forward: ir.Model, term: PerceptualTerm) -> ir.Model:
    """Generator and terms of the loss, for a batch of 1."""
    b = GraphBuilder(role)
    inputs = {str(v.name): b.input(str(v.name), shape_of_one(v)) for v in forward.graph.inputs}
    (size,) = (shape_of_one(v)[2:] for v in forward.graph.outputs if v.name == "rendering")
    target = b.input("target", [1, 3, *size])
    mask = b.input("mask", [1, 1, *size])
    wanted = [b.input(f"features.{number}", shape) for number, shape in enumerate(term.shapes)]
    rendered = inline(b, forward, inputs)
    seen = term.features(b, rendered["reconstruction"])
    b.scoped("loss")
    compared = [
        Compared(found, aim, averaged(b, mask, (size[0], size[1]), (int(shape[2]), int(shape[3]))))
        for found, aim, shape in zip(seen, wanted, term.shapes, strict=True)
    ]
    perceptual = term.loss(b, compared)
    terms = loss_terms(b, rendered["rendering"], target, perceptual, mask)
    b.output("terms", terms, [TERMS])
    for value in forward.graph.outputs:
        b.output(str(value.name), rendered[str(value.name)], shape_of_one(value))
    return b.build()
