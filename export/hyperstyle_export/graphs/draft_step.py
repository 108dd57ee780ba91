"""`approach` and `restyle` graphs of the photographic generator; twins: `networks.draft_step`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch

from ..adjoint.pull_back import pull_back
from ..adjoint.rules import shape_of
from ..networks.draft_step import TINY, UPWARDS, DraftGradient, DraftSearch, DraftStep
from .builder import Dim, GraphBuilder, to_array
from .inlining import inline, prune, with_shapes
from .mobilestylegan import MobileSynthesis
from .perceptual import Compared, LpipsNodes

APPROACH, RESTYLE = "approach", "restyle"

MOVED, TURNED = "moved", "turned"
"""State between the graphs: see `networks.draft_step.Curvature`."""


def build_approach(search: DraftSearch, input_size: tuple[int, int]) -> ir.Model:
    """Target [1,3,h,w], latents [1,L,W] -> latents_next [1,L,W], moved and turned [1,M,R,W].

    Parameters
    ----------
    input_size:
        (height, width) of the target: equal multiples of the draft's side.
    """
    b = GraphBuilder(APPROACH)
    target = b.input("target", [1, 3, *input_size])
    latents = _latents_input(b, search.gradient)
    known = _Curvature([], [], search.step.config.memory)
    writer = _SearchWriter(b, search, target, input_size)
    found, known = writer.steps(latents, None, known, search.step.config.approach)
    _outputs(b, search, found, known, "")
    return prune(b.build())


def build_restyle(search: DraftSearch, input_size: tuple[int, int]) -> ir.Model:
    """Target and reconstruction [1,3,h,w], latents [1,L,W], moved and turned [1,M,R,W] -> the next.

    Parameters
    ----------
    input_size:
        (height, width) of both pictures: equal multiples of the draft's side.
    """
    b, step = GraphBuilder(RESTYLE), search.step
    target, made = (b.input(name, [1, 3, *input_size]) for name in ("target", "reconstruction"))
    latents = _latents_input(b, search.gradient)
    pairs = [b.input(name, _memory_shape(step)) for name in (MOVED, TURNED)]
    known = _Curvature.unpacked(b, pairs[0], pairs[1], step.config.memory)
    writer = _SearchWriter(b, search, target, input_size)
    found, known = writer.steps(latents, writer.small(made, "made"), known, step.config.steps)
    way = b.scoped("step").op("Sub", found, latents)
    found = b.op("Add", latents, b.op("Mul", way, b.scalar(step.config.trust)))
    _outputs(b, search, found, known, "_next")
    return prune(b.build())


def _latents_input(b: GraphBuilder, gradient: DraftGradient) -> ir.Value:
    config = gradient.generator.config
    return b.input("latents", [1, config.num_latents, config.style_width])


def _memory_shape(step: DraftStep) -> list[Dim]:
    return [1, step.config.memory, step.config.rows, step.config.style_width]


def _outputs(
    b: GraphBuilder, search: DraftSearch, latents: ir.Value, known: _Curvature, suffix: str
) -> None:
    config, shape = search.gradient.generator.config, _memory_shape(search.step)
    b.output("latents_next", latents, [1, config.num_latents, config.style_width])
    b.scoped("curvature")
    free = known.size - len(known.moved)
    nothing = b.constant("step.free", np.array([1, free, *shape[2:]], np.int64))
    for name, parts in ((MOVED, known.moved), (TURNED, known.turned)):
        if free:
            parts = [b.op("Expand", b.scalar(0.0), nothing), *parts]
        b.output(f"{name}{suffix}", b.op("Concat", *parts, axis=1), shape)


@dataclass(frozen=True)
class _Curvature:
    """`networks.draft_step.Curvature`, a value [1,1,R,W] for every step that is remembered.

    Attributes
    ----------
    size:
        How many are remembered at most.
    """

    moved: list[ir.Value]
    turned: list[ir.Value]
    size: int

    @staticmethod
    def unpacked(b: GraphBuilder, moved: ir.Value, turned: ir.Value, count: int) -> _Curvature:
        b.scoped("curvature")
        ends = [[b.integers(n), b.integers(n + 1), b.integers(1)] for n in range(count)]
        one, other = ([b.op("Slice", value, *end) for end in ends] for value in (moved, turned))
        return _Curvature(one, other, count)

    def followed_by(self, moved: ir.Value, turned: ir.Value) -> _Curvature:
        one, other = [*self.moved, moved], [*self.turned, turned]
        return _Curvature(one[-self.size :], other[-self.size :], self.size)


class _SearchWriter:
    """Writes the steps of `networks.draft_step.DraftSearch`.

    Gradients and changes are [1,1,R,W] here, so that they are of one shape with what is remembered.

    Parameters
    ----------
    target:
        [1,3,h,w].
    """

    def __init__(
        self,
        b: GraphBuilder,
        search: DraftSearch,
        target: ir.Value,
        input_size: tuple[int, int],
    ) -> None:
        self._b, self._step, self._gradient = b, search.step, search.gradient
        side = self._gradient.draft.side
        self._window = [input_size[0] // side] * 2
        self._picture: list[Dim] = [1, 3, side, side]
        term = LpipsNodes(self._gradient.lpips, (side, side))
        self._draft = with_shapes(_draft(self._gradient))
        self._loss = with_shapes(_loss(self._gradient, term))
        self._wanted = {"wanted": self.small(target, "wanted")}
        features = term.features(b.scoped("wanted"), self._wanted["wanted"])
        self._wanted |= {f"wanted.{n}": value for n, value in enumerate(features)}
        step, width = self._step, self._step.config.style_width
        self._deviations = b.constant("step.deviations", to_array(step.deviations))
        self._turned = {
            name: b.constant(f"step.{name}_turned", to_array(tensor.mT.contiguous()))
            for name, tensor in (
                ("shared", step.shared),
                ("own", step.own),
                ("deviations", step.deviations),
                ("units", torch.linalg.inv(step.deviations)),
            )
        }
        self._rows_apart = b.constant(
            "step.rows_apart", np.array([step.config.rows, 1, width], np.int64)
        )

    def small(self, picture: ir.Value, scope: str) -> ir.Value:
        """A picture [1,3,h,w] averaged to the draft's side."""
        self._b.scoped(scope)
        if self._window == [1, 1]:
            return picture
        small = self._b.op("AveragePool", picture, kernel_shape=self._window, strides=self._window)
        return _shaped(small, self._picture)

    def steps(
        self, kept: ir.Value, made: ir.Value | None, known: _Curvature, count: int
    ) -> tuple[ir.Value, _Curvature]:
        """Latents after `count` steps, and what was seen.

        Parameters
        ----------
        kept:
            Latents to begin with, [1,L,W].
        made:
            The generator's picture of them, in the draft's size; None for the draft's own.
        """
        b, shape = self._b, shape_of(kept)
        sketch = self._sketch(kept)
        correction = None if made is None else b.op("Sub", made, sketch)
        least, units = self._seen(kept, sketch, sketch if made is None else made)
        for number in range(count):
            change = self._limited(self._direction(units, known), units, least)
            tried = _shaped(self._moved(kept, change, int(shape[1])), shape)
            sketch = self._sketch(tried)
            shown = sketch if correction is None else b.op("Add", sketch, correction)
            _shaped(shown, self._picture)
            if number + 1 == count:
                break
            loss, there = self._seen(tried, sketch, shown)
            b.scoped("curvature")
            known = known.followed_by(b.op("Neg", change), b.op("Sub", there, units))
            lower = b.op("Less", loss, least)
            kept = b.op("Where", lower, tried, kept)
            units = b.op("Where", lower, there, units)
            least = b.op("Min", loss, least)
        loss = b.op("Add", self._loss_of(shown), self._apart(tried)[0])
        return b.op("Where", b.op("Less", loss, least), tried, kept), known

    def _sketch(self, latents: ir.Value) -> ir.Value:
        return inline(self._b, self._draft, {"latents": latents})["sketch"]

    def _loss_of(self, made: ir.Value) -> ir.Value:
        return inline(self._b, self._loss, {"made": made, **self._wanted})["loss"]

    def _seen(
        self, latents: ir.Value, sketch: ir.Value, made: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """Loss [1], and its gradient by units of deviation 1, [1,1,R,W]."""
        b, rows = self._b, self._step.config.rows
        loss = self._loss_of(made)
        (pull,) = pull_back(b, {loss: b.constant("one", np.ones(1, np.float32))}, [made])
        (found,) = pull_back(b, {sketch: pull}, [latents])
        b.scoped("step")
        read = b.op("Slice", found, *(b.integers(n) for n in (0, rows, 1)))
        more, steeper = self._apart(latents)
        units = b.op("Add", b.op("MatMul", read, self._deviations), steeper)
        return b.op("Add", loss, more), b.op("Unsqueeze", units, b.integers(1))

    def _apart(self, latents: ir.Value) -> tuple[ir.Value, ir.Value]:
        """See `DraftStep.apart`."""
        b, config = self._b.scoped("apart"), self._step.config
        rows = b.op("Slice", latents, *(b.integers(n) for n in (0, config.rows, 1)))
        middle = b.op("ReduceMean", rows, b.integers(1), keepdims=1)
        differ = b.op("MatMul", b.op("Sub", rows, middle), self._turned["units"])
        more = b.op("Mul", self._dot(differ, differ), b.scalar(config.spread / 2))
        return more, b.op("Mul", differ, b.scalar(config.spread))

    def _direction(self, units: ir.Value, known: _Curvature) -> ir.Value:
        """See `DraftStep.direction`."""
        b = self._b.scoped("direction")
        pairs = [
            (moved, turned, self._curved(moved, turned))
            for moved, turned in zip(known.moved, known.turned, strict=True)
        ]
        change, parts = units, []
        for moved, turned, inverse in reversed(pairs):
            parts.append(b.op("Mul", inverse, self._dot(moved, change)))
            change = b.op("Sub", change, b.op("Mul", parts[-1], turned))
        change = self._mapped(change)
        for (moved, turned, inverse), part in zip(pairs, reversed(parts), strict=True):
            less = b.op("Mul", inverse, self._dot(turned, change))
            change = b.op("Add", change, b.op("Mul", b.op("Sub", part, less), moved))
        return change

    def _mapped(self, units: ir.Value) -> ir.Value:
        """See `DraftStep.mapped`."""
        b = self._b
        together = b.op("ReduceSum", units, b.integers(2), keepdims=1)
        shared = b.op("MatMul", together, self._turned["shared"])
        own = b.op("MatMul", b.op("Reshape", units, self._rows_apart), self._turned["own"])
        own = b.op("Unsqueeze", b.op("Squeeze", own, b.integers(1)), b.integers(0, 1))
        return b.op("Add", shared, own)

    def _curved(self, moved: ir.Value, turned: ir.Value) -> ir.Value:
        """See `networks.draft_step.curved`."""
        b = self._b
        along = self._dot(moved, turned)
        sizes = b.op("Mul", self._dot(moved, moved), self._dot(turned, turned))
        least = b.op("Mul", b.op("Sqrt", sizes), b.scalar(UPWARDS))
        upwards, one = b.op("Greater", along, least), b.scalar(1.0)
        inverse = b.op("Div", one, b.op("Where", upwards, along, one))
        return b.op("Where", upwards, inverse, b.scalar(0.0))

    def _limited(self, change: ir.Value, units: ir.Value, loss: ir.Value) -> ir.Value:
        """See `DraftStep.limited`."""
        b, config = self._b.scoped("step"), self._step.config
        size, limit = b.op("Sqrt", b.mean_square(change)), b.scalar(config.limit)
        change = b.op("Mul", change, b.op("Div", limit, b.op("Max", size, limit)))
        most = b.op("Mul", loss, b.scalar(config.share))
        bound = b.op("Max", self._dot(change, units), most, b.scalar(TINY))
        return b.op("Mul", change, b.op("Div", most, bound))

    def _moved(self, latents: ir.Value, change: ir.Value, rows: int) -> ir.Value:
        """See `DraftStep.moved`."""
        b = self._b
        turned = b.op("MatMul", b.op("Squeeze", change, b.integers(1)), self._turned["deviations"])
        sources = b.constant("step.sources", np.array(self._step.sources(rows), np.int64))
        return b.op("Sub", latents, b.op("Gather", turned, sources, axis=1))

    def _dot(self, one: ir.Value, other: ir.Value) -> ir.Value:
        return self._b.op("ReduceSum", self._b.op("Mul", one, other), keepdims=0)


def _shaped(value: ir.Value, shape: Sequence[Dim]) -> ir.Value:
    """Say what is not inferred before the adjoint is written."""
    value.shape, value.type = ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
    return value


def _draft(gradient: DraftGradient) -> ir.Model:
    """Latents [1,L,W] -> the draft's picture `sketch` [1,3,s,s]."""
    draft = gradient.draft
    b = GraphBuilder("draft")
    latents = _latents_input(b, gradient)
    synthesis = MobileSynthesis(b, gradient.generator, latents)
    state = {f"head.{key}": value for key, value in draft.head.state_dict().items()}
    sketch = synthesis.head(synthesis.features(draft.blocks), state, draft.row)
    b.output("sketch", sketch, [1, 3, draft.side, draft.side])
    return b.build()


def _loss(gradient: DraftGradient, term: LpipsNodes) -> ir.Model:
    """A picture `made`, `wanted` [1,3,s,s] and its features `wanted.<n>` -> loss [1]."""
    ahead = with_shapes(_features(gradient, term))
    b = GraphBuilder("loss")
    side = gradient.draft.side
    made, wanted = (b.input(name, [1, 3, side, side]) for name in ("made", "wanted"))
    found, everywhere = inline(b, ahead, {"made": made}), b.scalar(1.0)
    compared = [
        Compared(found[f"made.{n}"], b.input(f"wanted.{n}", shape), everywhere)
        for n, shape in enumerate(term.shapes)
    ]
    loss = b.scoped("loss").mean_square(b.op("Sub", made, wanted))
    for part in term.loss(b, compared):  # LPIPS times `term.weight`
        scaled = b.op("Mul", part, b.scalar(gradient.perceptual / term.weight))
        loss = b.op("Add", loss, scaled)
    b.output("loss", b.reshape(loss, 1), [1])
    return b.build()


def _features(gradient: DraftGradient, term: LpipsNodes) -> ir.Model:
    """A picture `made` [1,3,s,s] -> its features `made.<n>`."""
    b, side = GraphBuilder("features"), gradient.draft.side
    made = b.input("made", [1, 3, side, side])
    for number, (value, shape) in enumerate(zip(term.features(b, made), term.shapes, strict=True)):
        b.output(f"made.{number}", value, shape)
    return b.build()
