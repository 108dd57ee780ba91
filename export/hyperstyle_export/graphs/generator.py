"""`generator` graphs: latents and run-time kernels -> rendering (docs/architecture.md, section 2).

The tuned convolutions' kernels are graph inputs. Style modulation is put on the activations and
demodulation on the outputs, so that one face's kernels serve a batch of latents as ordinary
convolutions. sqrt(2) of the activation is folded into demodulation, noise and bias.

`generator` has the stored noise in it. `styled_generator` is the same network with two more kinds
of input, what edits add to the styles and the noise; `noise` gives the stored one.
`parametric_generator` has all that descent may change as inputs, and `parameters` gives what is
stored of it. Inputs with a default (an initializer of the same name) would make these graphs
needless, but hosts warn of them and OpenVINO refuses them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from hyperstyle_rt.types import Array

from ..networks.config import GeneratorConfig, LayerSpec
from ..networks.hyperstyle import HyperStyle
from ..networks.layers import ACTIVATION_GAIN, ACTIVATION_SLOPE, DEMODULATION_EPS, fir_kernel
from .builder import BATCH, Dim, GraphBuilder, State, to_array
from .storage import STORED_NOISE
from .synthesis_tensors import (
    InputTensors,
    StoredTensors,
    SynthesisTensors,
    bias_shape,
    has_noise,
)
from .weights import base_weight

# Inputs that not all generators have.
STYLE_OFFSETS = "style_offsets"  # what edits add to the styles
NOISE = "noise"  # in place of the stored noise
FEATURE_OFFSET = "feature_offset"  # added to the features of one layer
PARAMETERS = "parameters"  # in place of all stored tensors and kernels

ACTIVATION_LIMIT = "activation_limit"
"""Name of the constant; networks are recovered from the graphs of a bundle."""

EDITS = "edits"  # axis of the style offsets: one row for all latents, or one for each
FEATURE_SIDE = 64  # of the features that may be offset, where the picture is larger than twice that

MAX_PRODUCTS = 38_000_000  # floats a transposed convolution may hold at once: 152 MB


@dataclass(frozen=True)
class StyledLayer:
    """A layer and what it is computed from beside its activations.

    Attributes
    ----------
    spec:
        Its place in the network and its sizes.
    state:
        The stored tensors of the model.
    tensors:
        Where the graph has them from.
    style:
        [N,I] in float32, times the weight's factor.
    weight:
        [O,I,k,k] in the builder's compute type.
    noise:
        [1,1,h,w] in float32, before its strength; None for a layer that adds none.
    limit:
        Largest magnitude of what it gives; None without one.
    """

    spec: LayerSpec
    state: State
    tensors: SynthesisTensors
    style: ir.Value
    weight: ir.Value
    noise: ir.Value | None
    limit: float | None = None


LayerForm = Callable[[GraphBuilder, ir.Value, StyledLayer], ir.Value]


@dataclass(frozen=True)
class LayerForms:
    """How a generator computes its layers; `generator_half` has the forms of fp16.

    Attributes
    ----------
    base_weight:
        The weight [O,I,k,k] of a layer that is not tuned.
    styled_conv:
        x [N,I,h,w] and a 3x3 layer -> [N,O,H,W].
    to_rgb:
        The same for a 1x1 layer -> [N,3,h,w] in float32, without the skip image.
    """

    base_weight: Callable[[State, LayerSpec], Array]
    styled_conv: LayerForm
    to_rgb: LayerForm


def build_generator(model: HyperStyle) -> ir.Model:
    """Latents [N,L,W] and all weight.<layer> -> rendering [N,3,H,W], reconstruction [N,3,h,w]."""
    return assemble_generator(GraphBuilder("generator"), model, FP32_FORMS)


def build_styled_generator(model: HyperStyle) -> ir.Model:
    """`generator` with style offsets and noise as inputs."""
    b = GraphBuilder("styled_generator")
    return assemble_generator(b, model, FP32_FORMS, (STYLE_OFFSETS, NOISE))


def build_parametric_generator(model: HyperStyle) -> ir.Model:
    """The forward pass with all that may vary as inputs: tuned generators and features."""
    b, extras = GraphBuilder("parametric_generator"), (STYLE_OFFSETS, NOISE, FEATURE_OFFSET)
    return assemble_generator(b, model, FP32_FORMS, (*extras, PARAMETERS))


def assemble_generator(
    b: GraphBuilder, model: HyperStyle, forms: LayerForms, extras: Collection[str] = ()
) -> ir.Model:
    """The whole graph; weight.<layer> in the builder's compute type, all else outside float32.

    Parameters
    ----------
    extras:
        More inputs, of any of these kinds:

        - STYLE_OFFSETS: style_offsets [1 or N,S], added to the styles of all layers after one
          another (order of the offset index, toRGB included);
        - NOISE: noise.<layer> [1,1,h,w] of every layer that has some, before its strength;
        - FEATURE_OFFSET: feature_offset [1,C,h,h], added to the output of `feature_layer`;
        - PARAMETERS: parameter.<name>, all `synthesis_parameters`; in place of weight.<layer>.
    """
    config, state = model.config, model.state_dict()
    rows, width = config.generator.num_latents, config.generator.style_width
    latents = b.input("latents", [BATCH, rows, width])
    given: dict[int, ir.Value] = {}
    if PARAMETERS not in extras:
        given = {
            layer.index: b.compute_input(f"weight.{layer.name}", layer.weight_shape)
            for layer in config.tuned
        }
    inputs = _extra_inputs(b, state, config.generator, extras)
    tensors: SynthesisTensors
    if PARAMETERS in extras:
        tensors = InputTensors(b, model)
    else:
        tensors = StoredTensors(b, state, forms.base_weight)
    weights = {
        layer.index: given[layer.index] if layer.index in given else tensors.weight(layer)
        for layer in config.generator.layers
    }
    rgb = _synthesise(b, latents, inputs, weights, tensors, state, config.generator, forms)

    height, width = config.image_size
    if config.crop_rows is not None:
        top, bottom = config.crop_rows
        rgb = b.op("Slice", rgb, b.integers(top), b.integers(bottom), b.integers(2))
    b.output("rendering", rgb, [BATCH, 3, height, width])
    pooled = face_pool(b, rgb, config.image_size, config.input_size)
    b.output("reconstruction", pooled, [BATCH, 3, *config.input_size])
    return b.build()


def feature_layer(config: GeneratorConfig) -> LayerSpec:
    """The layer whose output may be offset: the last of 64 px, or of half the resolution."""
    side = min(FEATURE_SIDE, config.resolution // 2)
    layers = [spec for spec in config.layers if not spec.is_to_rgb and spec.resolution == side]
    return layers[-1]


def feature_shape(layer: LayerSpec) -> list[Dim]:
    """[1,C,h,h] of what is added to the output of a layer."""
    return [1, layer.out_channels, layer.resolution, layer.resolution]


def _extra_inputs(
    b: GraphBuilder, state: State, config: GeneratorConfig, extras: Collection[str]
) -> Mapping[str, ir.Value]:
    """Declare the inputs beside latents and kernels; those not wanted are not among them."""
    inputs: dict[str, ir.Value] = {}
    if STYLE_OFFSETS in extras:
        channels = sum(spec.in_channels for spec in config.layers)
        inputs[STYLE_OFFSETS] = b.input(STYLE_OFFSETS, [EDITS, channels])
    if NOISE in extras:
        for spec in config.layers:
            if has_noise(state, spec):
                inputs[f"noise.{spec.name}"] = b.input(f"noise.{spec.name}", noise_shape(spec))
    if FEATURE_OFFSET in extras:
        shape = feature_shape(feature_layer(config))
        inputs[FEATURE_OFFSET] = b.input(FEATURE_OFFSET, shape)
    return inputs


def _synthesise(
    b: GraphBuilder,
    latents: ir.Value,
    inputs: Mapping[str, ir.Value],
    weights: Mapping[int, ir.Value],
    tensors: SynthesisTensors,
    state: State,
    config: GeneratorConfig,
    forms: LayerForms,
) -> ir.Value:
    """All layers in order; gives the sum of the RGB images, [N,3,S,S]."""
    x = tensors.constant()  # [1,C,4,4]
    rgb: ir.Value | None = None
    rows: dict[int, ir.Value] = {}
    start = 0
    for spec in config.layers:
        b.scoped(spec.name)
        if spec.latent_row not in rows:  # [N,W]
            rows[spec.latent_row] = b.op("Gather", latents, b.index(spec.latent_row), axis=1)
        style = b.op("Gemm", rows[spec.latent_row], *tensors.affine(spec), transB=1)  # [N,I]
        stop = start + spec.in_channels
        if STYLE_OFFSETS in inputs:
            bounds = b.integers(start), b.integers(stop), b.integers(1)
            style = b.op("Add", style, b.op("Slice", inputs[STYLE_OFFSETS], *bounds))
        if tensors.weight_factor(spec) != 1:
            style = b.op("Mul", style, b.scalar(tensors.weight_factor(spec)))
        start = stop
        noise = inputs.get(f"noise.{spec.name}")
        if noise is None and has_noise(state, spec):
            noise = stored_noise(b, state, spec)
        layer = StyledLayer(
            spec, state, tensors, style, weights[spec.index], noise, config.activation_limit
        )
        if spec.is_to_rgb:
            new = forms.to_rgb(b, x, layer)
            rgb = new if rgb is None else b.op("Add", new, _enlarged(b, rgb))
            continue
        x = forms.styled_conv(b, x, layer)
        if FEATURE_OFFSET in inputs and spec == feature_layer(config):
            x = b.op("Add", x, inputs[FEATURE_OFFSET])
    assert rgb is not None
    return rgb


def _styled_conv(b: GraphBuilder, x: ir.Value, layer: StyledLayer) -> ir.Value:
    """Modulate, convolve, demodulate, add noise and bias, activate: [N,I,h,w] -> [N,O,H,W]."""
    spec = layer.spec
    x = b.op("Mul", x, b.reshape(layer.style, 0, spec.in_channels, 1, 1))
    factor = demodulation(b, layer, output_power(b, layer), b.scalar(DEMODULATION_EPS))  # [N,O,1,1]
    if spec.upsample:
        x = b.op("Mul", up_conv(b, x, layer), factor)
        bias = layer.tensors.bias(spec, bias_shape(spec))
        x = blur(b, x, spec.out_channels, bias)
    else:
        x = b.op("Mul", b.conv(x, layer.weight, padding=(1, 1)), factor)
        x = b.op("Add", x, layer.tensors.bias(spec, bias_shape(spec)))
    return activate(b, x, layer)


def noise_shape(layer: LayerSpec) -> list[Dim]:
    """[1,1,h,w] of a layer's noise."""
    return [1, 1, layer.resolution, layer.resolution]


def stored_noise(b: GraphBuilder, state: State, layer: LayerSpec) -> ir.Value:
    """The noise of a layer that training has left: [1,1,h,w]."""
    noise = to_array(state[f"decoder.noises.noise_{layer.noise}"])
    return b.constant(f"{STORED_NOISE}{layer.name}", noise)


def activate(b: GraphBuilder, x: ir.Value, layer: StyledLayer) -> ir.Value:
    """Add the noise, if it has any strength, and apply the leaky ReLU; the gain is in x already."""
    if layer.noise is not None:
        strength = layer.tensors.noise_strength(layer.spec)
        x = b.op("Add", x, b.op("Mul", layer.noise, strength))
    return _limited(b, b.op("LeakyRelu", x, alpha=ACTIVATION_SLOPE), layer.limit)


def _limited(b: GraphBuilder, x: ir.Value, limit: float | None) -> ir.Value:
    """Clamp to [-limit,limit]; None leaves x as it is."""
    if limit is None:
        return x
    largest = b.constant(ACTIVATION_LIMIT, np.array(limit, np.float32))
    return b.op("Clip", x, b.scalar(-limit), largest)


def output_power(b: GraphBuilder, layer: StyledLayer) -> ir.Value:
    """Squared norm of every output channel's modulated weights, sum_ik (s_i W_oik)^2: [N,O]."""
    weight, style = b.to_float(layer.weight), layer.style
    energy = b.op("ReduceSumSquare", weight, b.integers(2, 3), keepdims=0)  # [O,I]
    return b.op("Gemm", b.op("Mul", style, style), energy, transB=1)


def demodulation(b: GraphBuilder, layer: StyledLayer, power: ir.Value, eps: ir.Value) -> ir.Value:
    """sqrt(2) / sqrt(power [N,O] + eps), where the sqrt(2) is the activation's: [N,O,1,1]."""
    norm = b.op("Sqrt", b.op("Add", power, eps))
    norm = b.op("Div", b.scalar(ACTIVATION_GAIN), norm)
    return b.reshape(norm, 0, layer.spec.out_channels, 1, 1)


def _to_rgb(b: GraphBuilder, x: ir.Value, layer: StyledLayer) -> ir.Value:
    """A 1x1 modulated convolution: [N,3,h,w]."""
    return with_rgb_bias(b, rgb_product(b, x, layer), layer)


def rgb_product(b: GraphBuilder, x: ir.Value, layer: StyledLayer) -> ir.Value:
    """The 1x1 convolution as one small product per sample: [N,3,h*w] in the compute type."""
    side, width = layer.spec.resolution, layer.spec.in_channels
    kernel = b.to_float(b.reshape(layer.weight, 1, 3, width))
    kernel = b.op("Mul", kernel, b.op("Unsqueeze", layer.style, b.integers(1)))  # [N,3,I]
    return b.op("MatMul", b.to_compute(kernel), b.reshape(x, 0, width, side * side))


def with_rgb_bias(b: GraphBuilder, rgb: ir.Value, layer: StyledLayer) -> ir.Value:
    """The image that toRGB's product in float32, [N,3,h*w], stands for: [N,3,h,w]."""
    rgb = b.reshape(rgb, 0, 3, layer.spec.resolution, layer.spec.resolution)
    return _limited(b, b.op("Add", rgb, layer.tensors.rgb_bias(layer.spec)), layer.limit)


def _enlarged(b: GraphBuilder, rgb: ir.Value) -> ir.Value:
    """Zero insertion and FIR in one: a depthwise transposed convolution with the 4x4 kernel."""
    fir = np.tile(fir_kernel().numpy(), (3, 1, 1, 1))
    return b.conv_transpose(rgb, b.constant("rgb_fir", fir), 4, stride=2, padding=1, group=3)


def up_conv(b: GraphBuilder, x: ir.Value, layer: StyledLayer) -> ir.Value:
    """3x3 transposed convolution of stride 2, without padding: [N,I,h,w] -> [N,O,2h+1,2w+1].

    ONNX Runtime's CPU kernel holds all its products, 9 x O x h x w floats, at once: 302 MB in the
    last layer at 1024, more than anything else there. Large layers make their output channels in
    parts.
    """
    channels = layer.spec.out_channels
    kernel = b.op("Transpose", layer.weight, perm=[1, 0, 2, 3])  # [I,O,3,3]
    products = 9 * channels * (layer.spec.resolution // 2) ** 2
    if products <= MAX_PRODUCTS:
        return b.conv_transpose(x, kernel, 3, stride=2)
    step = channels * MAX_PRODUCTS // products
    parts = []
    for start in range(0, channels, step):
        stop = min(start + step, channels)
        part = b.op("Slice", kernel, b.integers(start), b.integers(stop), b.integers(1))
        parts.append(b.conv_transpose(x, part, 3, stride=2))
    return b.op("Concat", *parts, axis=1)


def blur(b: GraphBuilder, x: ir.Value, channels: int, bias: ir.Value | None) -> ir.Value:
    """[1,3,3,1] low-pass after a stride-2 transposed convolution, one axis after the other.

    The separable form needs 8 instead of 16 products per value and halves the time of the whole
    1024 generator on a CPU against one 4x4 depthwise convolution.
    """
    taps = np.array([0.25, 0.75, 0.75, 0.25], np.float32)  # sum 2 per axis
    vertical = np.tile(taps.reshape(1, 1, 4, 1), (channels, 1, 1, 1))
    horizontal = np.tile(taps.reshape(1, 1, 1, 4), (channels, 1, 1, 1))
    vertical_fir = b.compute_constant(f"fir_vertical_{channels}", vertical)
    horizontal_fir = b.compute_constant(f"fir_horizontal_{channels}", horizontal)
    x = b.conv(x, vertical_fir, padding=(1, 0), group=channels)
    return b.conv(x, horizontal_fir, bias, padding=(0, 1), group=channels)


def face_pool(
    b: GraphBuilder, x: ir.Value, image_size: tuple[int, int], pooled: tuple[int, int]
) -> ir.Value:
    """Adaptive average pooling between sizes in a whole ratio; repeats pixels when enlarging."""
    (height, width), (out_height, out_width) = image_size, pooled
    if (height, width) == (out_height, out_width):
        return b.op("Identity", x)
    if height % out_height == 0 and width % out_width == 0:
        window = [height // out_height, width // out_width]
        return b.op("AveragePool", x, kernel_shape=window, strides=window)
    rows, columns = out_height // height, out_width // width
    x = b.reshape(x, 0, 3, height, 1, width, 1)
    x = b.op("Expand", x, b.integers(1, 1, 1, rows, 1, columns))
    return b.reshape(x, 0, 3, out_height, out_width)


FP32_FORMS = LayerForms(base_weight, _styled_conv, _to_rgb)
"""Forms of layers in float32, for any batch."""
