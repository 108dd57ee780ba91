"""`noise` and `parameters` graphs: what is stored of a general generator's inputs."""

from __future__ import annotations

import onnx_ir as ir
from hyperstyle_rt.formats.optional_inputs import NoiseLayer, OptionalInputs, StyleLayer
from hyperstyle_rt.formats.parametric_inputs import FeatureMap, Parameter, ParametricInputs

from ..networks.hyperstyle import HyperStyle
from .builder import GraphBuilder
from .generator import feature_layer, noise_shape, stored_noise
from .synthesis_tensors import (
    PARAMETER,
    StoredTensors,
    has_noise,
    synthesis_parameters,
    weight_parameter,
)
from .weights import base_weight


def build_noise(model: HyperStyle) -> ir.Model:
    """(nothing) -> noise.<layer> [1,1,h,w], the stored noise of every layer that has some."""
    state = model.state_dict()
    b = GraphBuilder("noise")
    for spec in model.config.generator.layers:
        if has_noise(state, spec):
            b.scoped(f"noise.{spec.name}")
            noise = b.op("Identity", stored_noise(b, state, spec))
            b.output(f"noise.{spec.name}", noise, noise_shape(spec))
    return b.build()


def build_parameters(model: HyperStyle) -> ir.Model:
    """weight.<layer> of all tuned layers -> parameter.<name>, all `synthesis_parameters`.

    Those of the tuned layers' kernels are the given ones; so `parametric_generator` renders with
    these parameters what `generator` renders with the kernels.
    """
    b = GraphBuilder("parameters")
    tensors = StoredTensors(b, model.state_dict(), base_weight)
    tuned = {
        weight_parameter(layer): b.input(f"weight.{layer.name}", layer.weight_shape)
        for layer in model.config.tuned
    }
    for parameter in synthesis_parameters(model):
        b.scoped(parameter.name)
        is_given = parameter.name in tuned
        value = tuned[parameter.name] if is_given else parameter.folded(tensors)
        if parameter.factor != 1:
            value = b.op("Mul", value, b.scalar(1 / parameter.factor))
        value = b.reshape(value, *parameter.shape)
        b.output(f"{PARAMETER}{parameter.name}", value, parameter.shape)
    return b.build()


def optional_inputs(model: HyperStyle) -> OptionalInputs:
    """What the manifest says of the inputs that `styled_generator` has and `generator` has not."""
    state, layers = model.state_dict(), model.config.generator.layers
    return OptionalInputs(
        tuple(StyleLayer(layer.name, layer.in_channels) for layer in layers),
        tuple(NoiseLayer(spec.name, spec.resolution) for spec in layers if has_noise(state, spec)),
    )


def parametric_inputs(model: HyperStyle) -> ParametricInputs:
    """The same of the inputs that `parametric_generator` has besides."""
    layer = feature_layer(model.config.generator)
    return ParametricInputs(
        tuple(Parameter(p.name, p.shape) for p in synthesis_parameters(model)),
        FeatureMap(layer.name, (layer.out_channels, layer.resolution, layer.resolution)),
    )
