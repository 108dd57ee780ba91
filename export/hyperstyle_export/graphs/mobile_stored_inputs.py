"""MobileStyleGAN's graphs `noise` and `parameters`: what is stored of general inputs."""

from __future__ import annotations

import onnx_ir as ir
from hyperstyle_rt.formats.optional_inputs import NoiseLayer, OptionalInputs, StyleLayer
from hyperstyle_rt.formats.parametric_inputs import FeatureMap, Parameter, ParametricInputs

from ..networks.mobilestylegan import MobileStyleGan
from .builder import GraphBuilder
from .mobile_tensors import (
    StoredMobileTensors,
    feature_shape,
    mobile_feature_layer,
    mobile_parameters,
    noise_strength,
    stored_noises,
)
from .storage import STORED_NOISE
from .synthesis_tensors import PARAMETER


def build_mobile_noise(model: MobileStyleGan) -> ir.Model:
    """(nothing) -> noise.<layer> [1,1,h,h], the stored noise in units of its deviation."""
    b = GraphBuilder("noise")
    for name, noise in stored_noises(model).items():
        b.scoped(f"noise.{name}")
        strength = noise_strength(noise)
        value = b.op("Identity", b.constant(f"{STORED_NOISE}{name}", noise / strength))
        b.output(f"noise.{name}", value, noise.shape)
    return b.build()


def build_mobile_parameters(model: MobileStyleGan) -> ir.Model:
    """weight.<layer> of all tunable layers -> parameter.<name>, all `mobile_parameters`.

    The layers' kernels are the given ones, so that `parametric_generator` renders with these
    parameters what `generator` renders with the kernels.
    """
    b = GraphBuilder("parameters")
    given = {
        f"{layer.name}.weight": b.input(f"weight.{layer.name}", layer.weight_shape)
        for layer in model.config.tunable
    }
    stored = StoredMobileTensors(b, model)
    for parameter in mobile_parameters(model):
        b.scoped(parameter.name)
        value = given.get(parameter.name) or stored.tensor(parameter.name)
        value = b.op("Mul", value, b.scalar(1 / parameter.factor))
        b.output(f"{PARAMETER}{parameter.name}", value, parameter.shape)
    return b.build()


def mobile_optional_inputs(model: MobileStyleGan) -> OptionalInputs:
    """What the manifest says of the inputs that `styled_generator` has and `generator` has not."""
    return OptionalInputs(
        tuple(StyleLayer(style.name, style.channels) for style in model.config.styles),
        tuple(NoiseLayer(name, noise.shape[-1]) for name, noise in stored_noises(model).items()),
    )


def mobile_parametric_inputs(model: MobileStyleGan) -> ParametricInputs:
    """What the manifest says of the inputs that `parametric_generator` has besides."""
    layer = mobile_feature_layer(model.config)
    parameters = (Parameter(p.name, p.shape) for p in mobile_parameters(model))
    return ParametricInputs(tuple(parameters), FeatureMap(layer.name, feature_shape(model.config)))
