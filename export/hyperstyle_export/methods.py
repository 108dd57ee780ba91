"""What the exporter writes: graphs by their roles, and methods as phases over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import onnx_ir as ir
from hyperstyle_rt.formats.methods import Method, Phase

from .graphs.channel_offsets import (
    build_channel_offsets,
    build_channel_offsets_adjoint,
    build_weights_adjoint,
)
from .graphs.encoder import build_encoder
from .graphs.generator import (
    FEATURE_OFFSET,
    NOISE,
    PARAMETERS,
    build_generator,
    build_parametric_generator,
    build_styled_generator,
)
from .graphs.generator_half import build_half_generator, build_half_styled_generator
from .graphs.generator_single import build_single_generator
from .graphs.hypernet import build_hypernet
from .graphs.mapping import build_mapping
from .graphs.objective import build_features, build_objective
from .graphs.perceptual import perceptual_term
from .graphs.stored_inputs import build_noise, build_parameters
from .graphs.synthesis_tensors import has_noise
from .graphs.weights import build_weights
from .networks.hyperstyle import HyperStyle
from .networks.lpips import Lpips

GraphWriter = Callable[[HyperStyle], ir.Model]

DEFAULT_ITERATIONS = 5


@dataclass(frozen=True)
class MethodEntry:
    """A method of this exporter.

    Attributes
    ----------
    graphs:
        Role to builder, of the graphs that are its own.
    half_graphs:
        The same for graphs that compute in fp16; all tensors between graphs stay float32.
    phases:
        Its phases for a default number of iterations.
    """

    graphs: Mapping[str, GraphWriter]
    half_graphs: Mapping[str, GraphWriter]
    phases: Callable[[int], tuple[Phase, ...]]


METHODS: Mapping[str, MethodEntry] = {
    "hyperstyle": MethodEntry(
        graphs={"encoder": build_encoder, "hypernet": build_hypernet},
        half_graphs={
            "encoder": partial(build_encoder, precision="fp16"),
            "hypernet": partial(build_hypernet, precision="fp16"),
        },
        phases=lambda iterations: (Phase("encoder"), Phase("hypernet", iterations)),
    ),
}

RENDERING_GRAPHS: Mapping[str, GraphWriter] = {
    "weights": build_weights,
    "generator": build_generator,
    "mapping": build_mapping,
}
"""Role -> builder, of what every method of a generator shares; in the order they are written."""

GRAPHS: Mapping[str, GraphWriter] = {**METHODS["hyperstyle"].graphs, **RENDERING_GRAPHS}
"""The graphs that have data files of their own; plans are built of these."""

STYLED_GRAPHS: Mapping[str, GraphWriter] = {
    "styled_generator": build_styled_generator,
    "noise": build_noise,
}
"""What renders edits of styles and fresh noise; they read the tensors of `generator`."""

OBJECTIVES: Mapping[str, tuple[str, ...]] = {
    "objective": (),
    "latents_objective": (NOISE,),
    "joint_objective": (NOISE,),
    "synthesis_objective": (NOISE, FEATURE_OFFSET, PARAMETERS),
}
"""Role -> what its generator has as inputs beside latents and kernels."""


def descent_graphs(lpips: Lpips | None = None) -> dict[str, GraphWriter]:
    """Builders of `features` and the objectives.

    Parameters
    ----------
    lpips:
        The perceptual term; None for the encoder's features.
    """
    graphs: dict[str, GraphWriter] = {
        "features": lambda model: build_features(perceptual_term(model, lpips))
    }
    for role, extras in OBJECTIVES.items():
        graphs[role] = partial(_objective, role, extras, lpips)
    return graphs


def _objective(
    role: str, extras: tuple[str, ...], lpips: Lpips | None, model: HyperStyle
) -> ir.Model:
    return build_objective(
        role, build_single_generator(model, extras), perceptual_term(model, lpips)
    )


REFINEMENT_GRAPHS: Mapping[str, GraphWriter] = {
    **descent_graphs(),
    "weights_adjoint": build_weights_adjoint,
    "channel_offsets": build_channel_offsets,
    "channel_offsets_adjoint": build_channel_offsets_adjoint,
    "parameters": build_parameters,
    "parametric_generator": build_parametric_generator,
}
"""What optimises inversions and renders optimised ones; they read the tensors of all above."""

HALF_GRAPHS: Mapping[str, GraphWriter] = {
    **METHODS["hyperstyle"].half_graphs,
    "weights": partial(build_weights, precision="fp16"),
    "generator": build_half_generator,
}
"""Graphs that compute in fp16 and have data files of their own; weight.<layer> is fp16, too."""

HALF_SHARING_GRAPHS: Mapping[str, GraphWriter] = {
    "styled_generator": build_half_styled_generator,
    "channel_offsets": partial(build_channel_offsets, precision="fp16"),
}
"""The same for graphs that read the tensors of these; refining takes float32."""


def sharing_graphs(
    model: HyperStyle, lpips: Lpips | None = None, *, refinement: bool = True
) -> dict[str, GraphWriter]:
    """Graphs of a bundle that read tensors from the data files of `GRAPHS`.

    Parameters
    ----------
    lpips:
        The perceptual term of the objective; None for the encoder's features.
    refinement:
        Whether those that optimise are wanted.
    """
    graphs = dict(STYLED_GRAPHS)
    state = model.state_dict()
    if not any(has_noise(state, layer) for layer in model.config.generator.layers):
        del graphs["noise"]
    if refinement:
        graphs |= {**REFINEMENT_GRAPHS, **descent_graphs(lpips)}
    return graphs


def bundle_methods(roles: Iterable[str], iterations: int) -> dict[str, Method]:
    """Give the methods whose graphs are all among `roles`."""
    known = set(roles)
    return {
        name: Method(entry.phases(iterations))
        for name, entry in METHODS.items()
        if known.issuperset(entry.graphs)
    }
