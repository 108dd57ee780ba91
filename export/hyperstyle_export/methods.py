"""What the exporter writes: graphs by their roles, and methods as phases over them.

========================== ================================= ==========================
method                     read by, into                     its graphs
========================== ================================= ==========================
hyperstyle                 `readers.official`,               `graphs.encoder`,
                           `networks.hyperstyle`             `graphs.hypernet`
psp, psp-w, e4e, e4e-w     `readers.encoders`,               `graphs.style_encoder`
                           `networks.style_encoder`
restyle-psp, restyle-e4e   the same                          the same, on reconstructions
hyperstyle+<encoder>       hyperstyle and the encoder        theirs
idinvert                   `readers.idinvert`,               `graphs.idinvert`, written by
                           `networks.idinvert`               `bundles.idinvert_writer`
========================== ================================= ==========================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import onnx_ir as ir
from hyperstyle_rt.formats.methods import AVERAGE, Method, Phase

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
from .graphs.generator_tiled import ROLE as TILED_GENERATOR
from .graphs.generator_tiled import build_tiled_generator, gains_by_tiles
from .graphs.hypernet import build_hypernet
from .graphs.mapping import build_mapping
from .graphs.objective import build_features, build_objective
from .graphs.perceptual import perceptual_term
from .graphs.stored_inputs import build_noise, build_parameters
from .graphs.style_encoder import build_average, build_style_encoder
from .graphs.synthesis_tensors import has_noise
from .graphs.weights import build_weights
from .networks.encoder_method import RESTYLE_ITERATIONS, EncoderMethod
from .networks.hyperstyle import HyperStyle
from .networks.latent_layout import InvertibleModel
from .networks.lpips import Lpips

GraphWriter = Callable[[HyperStyle], ir.Model]
EncoderWriter = Callable[[InvertibleModel], ir.Model]

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


HYPERSTYLE = "hyperstyle"

METHODS: Mapping[str, MethodEntry] = {
    HYPERSTYLE: MethodEntry(
        graphs={"encoder": build_encoder, "hypernet": build_hypernet},
        half_graphs={
            "encoder": partial(build_encoder, precision="fp16"),
            "hypernet": partial(build_hypernet, precision="fp16"),
        },
        phases=lambda iterations: (Phase("encoder"), Phase("hypernet", iterations)),
    ),
}
"""The methods that are the same for all checkpoints."""

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
        Whether those that optimise are wanted; a model without a hypernetwork has none.
    """
    graphs = dict(STYLED_GRAPHS)
    state = model.state_dict()
    refinement = refinement and model.has_hypernetwork
    if not any(has_noise(state, layer) for layer in model.config.generator.layers):
        del graphs["noise"]
    if gains_by_tiles(model.config.tuned):
        graphs[TILED_GENERATOR] = build_tiled_generator
    if refinement:
        graphs |= {**REFINEMENT_GRAPHS, **descent_graphs(lpips)}
    return graphs


def encoder_entry(model: HyperStyle, encoder: EncoderMethod) -> MethodEntry:
    """The method of one encoder."""
    return MethodEntry(*encoder_graphs(model, encoder))


def encoder_graphs(
    model: InvertibleModel, encoder: EncoderMethod
) -> tuple[dict[str, EncoderWriter], dict[str, EncoderWriter], Callable[[int], tuple[Phase, ...]]]:
    """Graphs of one encoder, those in fp16, and its phases, as in :class:`MethodEntry`.

    ReStyle starts from an average of its own, which may be another than the model's.
    """
    role = encoder.role
    graphs: dict[str, EncoderWriter] = {role: partial(build_style_encoder, method=encoder)}
    half: dict[str, EncoderWriter] = {
        role: partial(build_style_encoder, method=encoder, precision="fp16")
    }
    if not encoder.kind.is_iterative:
        return graphs, half, lambda _iterations: (Phase(role),)
    start = Phase(f"{role}{AVERAGE}")
    graphs[start.graph] = partial(build_average, method=encoder)
    # The user's number of iterations is that of the last phase: of HyperStyle's where it follows.
    return graphs, half, lambda count: (start, Phase(role, count))


def method_entries(
    model: HyperStyle, encoders: Mapping[str, EncoderMethod]
) -> dict[str, MethodEntry]:
    """All methods of a bundle: HyperStyle, every encoder, and HyperStyle from its latents."""
    entries: dict[str, MethodEntry] = dict(METHODS) if model.has_hypernetwork else {}
    for name, encoder in encoders.items():
        entry = entries[name] = encoder_entry(model, encoder)
        if model.has_hypernetwork and encoder.reads_pictures:
            entries[f"{HYPERSTYLE}+{name}"] = MethodEntry({}, {}, partial(_continued, entry))
    return entries


def _continued(encoder: MethodEntry, iterations: int) -> tuple[Phase, ...]:
    return (*encoder.phases(RESTYLE_ITERATIONS), Phase("hypernet", iterations))


def bundle_methods(
    model: HyperStyle, encoders: Mapping[str, EncoderMethod], iterations: int
) -> dict[str, Method]:
    """All methods of a bundle, as its manifest lists them; the first is the default."""
    entries = method_entries(model, encoders)
    return {name: Method(entry.phases(iterations)) for name, entry in entries.items()}
