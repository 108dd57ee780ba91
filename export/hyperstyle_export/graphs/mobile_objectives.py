"""Objectives of MobileStyleGAN: the whole generator's, and those of its draft."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from ..networks.mobile_model import DescentModel
from .builder import BATCH, Dim, GraphBuilder
from .generator import FEATURE_OFFSET, NOISE, PARAMETERS
from .mobilestylegan import SingleSynthesis, build_mobile_generator, kernel_inputs
from .objective import build_objective
from .perceptual import LpipsNodes

CORRECTION = "correction"
DRAFT_OBJECTIVE = "draft_objective"

EXTRAS: dict[str, Collection[str]] = {
    "objective": (),
    "latents_objective": (NOISE,),
    "stored_noise_objective": (),
    "joint_objective": (NOISE,),
    "synthesis_objective": (NOISE, FEATURE_OFFSET, PARAMETERS),
}
"""Role -> what its generator has as inputs beside latents and kernels."""


def build_mobile_objective(role: str, model: DescentModel) -> ir.Model:
    """An objective of the whole generator, one of `EXTRAS`."""
    tuned = [layer.name for layer in model.generator.config.tunable]
    forward = build_mobile_generator(
        model.generator, tuned, model.input_size, EXTRAS[role], role, SingleSynthesis
    )
    return build_objective(role, forward, perceptual_nodes(model))


def build_draft_objective(model: DescentModel) -> ir.Model:
    """The joint objective of the draft, at the reconstruction's size.

    It has an input more, correction [1,3,h,w], which is added to the draft's picture. Where a host
    keeps that at the difference between the whole generator's reconstruction and the draft's, the
    loss is that of the whole generator, and its gradients are nearly those.
    """
    return build_objective(DRAFT_OBJECTIVE, build_draft(model), perceptual_nodes(model))


def build_draft(model: DescentModel) -> ir.Model:
    """Latents, weight.<layer> of the draft's layers, correction -> rendering = reconstruction."""
    draft, config = model.draft, model.generator.config
    assert draft is not None
    b = GraphBuilder("draft")
    latents = b.input("latents", [BATCH, config.num_latents, config.style_width])
    weights = kernel_inputs(b, draft.kernels(model.generator))
    shape: list[Dim] = [BATCH, 3, draft.side, draft.side]
    correction = b.input(CORRECTION, shape)
    synthesis = SingleSynthesis(b, model.generator, latents, weights)
    state = {f"head.{key}": value for key, value in draft.head.state_dict().items()}
    picture = synthesis.head(synthesis.features(draft.blocks), state, draft.row)
    rendering = b.op("Add", picture, correction)
    b.output("rendering", rendering, shape)
    b.output("reconstruction", rendering, shape)
    return b.build()


def perceptual_nodes(model: DescentModel) -> LpipsNodes:
    """LPIPS on the reconstruction."""
    assert model.lpips is not None
    return LpipsNodes(model.lpips, model.input_size)
