"""`restyle` graph of the photographic generator; its twin is `networks.draft_step`."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..adjoint.pull_back import pull_back
from ..adjoint.rules import shape_of
from ..networks.draft_step import TINY, DraftGradient, DraftStep
from .builder import GraphBuilder, to_array
from .inlining import inline, prune, with_shapes
from .mobilestylegan import MobileSynthesis
from .perceptual import Compared, LpipsNodes

RESTYLE = "restyle"


def build_draft_step(
    step: DraftStep, gradient: DraftGradient, input_size: tuple[int, int]
) -> ir.Model:
    """Target and reconstruction [1,3,h,w], latents [1,L,W] -> latents_next [1,L,W].

    Parameters
    ----------
    step, gradient:
        The networks.
    input_size:
        (height, width) of both pictures: equal multiples of the draft's side.
    """
    b = GraphBuilder(RESTYLE)
    ahead = with_shapes(_forward(gradient, input_size))
    inputs = {str(v.name): b.input(str(v.name), shape_of(v)) for v in ahead.graph.inputs}
    values = inline(b, ahead, inputs)
    one = b.constant("one", np.ones(1, np.float32))
    (pull,) = pull_back(b, {values["loss"]: one}, [values["made"]])
    latents = inputs["latents"]
    (found,) = pull_back(b, {values["sketch"]: pull}, [latents])
    change = _change(b, step, found, values["loss"], shape_of(latents)[1])
    following = b.op("Sub", latents, change)
    b.output("latents_next", following, shape_of(latents))
    return prune(b.build())


def _forward(gradient: DraftGradient, input_size: tuple[int, int]) -> ir.Model:
    """Both pictures, latents -> made [1,3,s,s], its loss [1], the draft's picture `sketch`."""
    term = LpipsNodes(gradient.lpips, (gradient.draft.side,) * 2)
    ahead = with_shapes(_features(gradient, input_size, term))
    b = GraphBuilder(RESTYLE)
    inputs = {str(v.name): b.input(str(v.name), shape_of(v)) for v in ahead.graph.inputs}
    values = inline(b, ahead, inputs)
    b.scoped("loss")
    everywhere = b.scalar(1.0)
    terms = term.loss(
        b,
        [
            Compared(values[f"made.{n}"], values[f"wanted.{n}"], everywhere)
            for n in range(len(term.shapes))
        ],
    )
    loss = b.mean_square(b.op("Sub", values["made"], values["wanted"]))
    for part in terms:  # LPIPS times `term.weight`
        scaled = b.op("Mul", part, b.scalar(gradient.perceptual / term.weight))
        loss = b.op("Add", loss, scaled)
    for name in ("made", "sketch"):
        b.output(name, values[name], shape_of(values[name]))
    b.output("loss", b.reshape(loss, 1), [1])
    return b.build()


def _features(gradient: DraftGradient, input_size: tuple[int, int], term: LpipsNodes) -> ir.Model:
    """Both pictures in the draft's size and their features; the draft's picture."""
    draft, config = gradient.draft, gradient.generator.config
    b = GraphBuilder(RESTYLE)
    pictures = {
        "wanted": b.input("target", [1, 3, *input_size]),
        "made": b.input("reconstruction", [1, 3, *input_size]),
    }
    latents = b.input("latents", [1, config.num_latents, config.style_width])
    window = [input_size[0] // draft.side] * 2
    for name, picture in pictures.items():
        b.scoped(name)
        small = b.op("AveragePool", picture, kernel_shape=window, strides=window)
        b.output(name, small, [1, 3, draft.side, draft.side])
        found = zip(term.features(b, small), term.shapes, strict=True)
        for number, (value, shape) in enumerate(found):
            b.output(f"{name}.{number}", value, shape)
    synthesis = MobileSynthesis(b, gradient.generator, latents)
    state = {f"head.{key}": value for key, value in draft.head.state_dict().items()}
    sketch = synthesis.head(synthesis.features(draft.blocks), state, draft.row)
    b.output("sketch", sketch, [1, 3, draft.side, draft.side])
    return b.build()


def _change(
    b: GraphBuilder, step: DraftStep, gradient: ir.Value, loss: ir.Value, rows: int
) -> ir.Value:
    """What is taken from the latents: see `DraftStep.forward`."""
    b.scoped("step")
    config = step.config
    deviations = b.constant("step.deviations", to_array(step.deviations))
    turned = {
        name: b.constant(f"step.{name}_turned", to_array(tensor.mT.contiguous()))
        for name, tensor in (
            ("shared", step.shared),
            ("own", step.own),
            ("deviations", step.deviations),
        )
    }
    ends = [b.integers(n) for n in (0, config.rows, 1)]
    units = b.op("MatMul", b.op("Slice", gradient, *ends), deviations)  # [1,R,W]
    change = b.op("MatMul", b.op("ReduceSum", units, b.integers(1), keepdims=1), turned["shared"])
    rows_apart = b.op("Unsqueeze", units, b.integers(2))  # [1,R,1,W]
    own = b.op("Squeeze", b.op("MatMul", rows_apart, turned["own"]), b.integers(2))
    change = b.op("Add", change, own)
    size = b.op("Sqrt", b.mean_square(change))
    limit = b.scalar(config.limit)
    change = b.op("Mul", change, b.op("Div", limit, b.op("Max", size, limit)))
    promised = b.op("ReduceSum", b.op("Mul", change, units), keepdims=0)
    most = b.op("Mul", loss, b.scalar(config.share))
    shorter = b.op("Div", most, b.op("Max", promised, most, b.scalar(TINY)))
    change = b.op("Mul", change, shorter)
    sources = b.constant("step.sources", np.array(step.sources(rows), np.int64))
    return b.op("Gather", b.op("MatMul", change, turned["deviations"]), sources, axis=1)
