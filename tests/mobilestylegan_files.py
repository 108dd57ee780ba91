"""A tiny MobileStyleGAN as OpenVINO would store it, written without OpenVINO."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

import fakeweights
import numpy as np
import torch
from hyperstyle_export.networks.mobilestylegan import (
    MobileStyleGan,
    MobileStyleGanConfig,
    model_from_state,
)
from numpy.typing import NDArray

TINY = MobileStyleGanConfig(channels=(16, 16, 8, 8), style_width=12, mapping_depth=3)
STYLE_FACTOR = 0.25  # the models scale a style by a number; here one that folds exactly

Array = NDArray[np.generic]
Port = tuple[int, int, tuple[int, ...]]
"""A layer's number, which of its outputs, and that output's shape."""


def tiny_model(config: MobileStyleGanConfig = TINY) -> MobileStyleGan:
    """The networks with reproducible weights, noise included."""
    state = {}
    for key, value in MobileStyleGan(config).state_dict().items():
        fan_in = value[0].numel() if value.ndim > 1 else 25
        scale = 1.0 if key.endswith("const") else 0.2 if "noise" in key else fan_in**-0.5
        array = np.float32(fakeweights.normal(key, tuple(value.shape)) * scale)
        offset = 1.0 if key.endswith("style.bias") else 0.0
        state[key] = torch.from_numpy(array + np.float32(offset))
    return model_from_state(state, config)


class IrWriter:
    """Layers and edges of one model."""

    def __init__(self, name: str) -> None:
        self.net = ElementTree.Element("net", name=name, version="10")
        self._layers = ElementTree.SubElement(self.net, "layers")
        self._edges = ElementTree.SubElement(self.net, "edges")
        self._data = b""

    def op(
        self,
        kind: str,
        inputs: Sequence[Port],
        shapes: Sequence[tuple[int, ...]],
        version: str = "opset1",
        **attributes: str,
    ) -> list[Port]:
        """A layer; gives its outputs."""
        number = len(self._layers)
        layer = ElementTree.SubElement(
            self._layers, "layer", id=str(number), name=f"{kind}_{number}", type=kind
        )
        layer.set("version", version)
        if attributes:
            ElementTree.SubElement(layer, "data", attributes)
        self._ports(layer, "input", 0, [shape for _, _, shape in inputs], "")
        precision = "I64" if attributes.get("element_type") == "i64" else "FP32"
        self._ports(layer, "output", len(inputs), shapes, precision)
        for port, (source, output, _) in enumerate(inputs):
            edge = ElementTree.SubElement(self._edges, "edge")
            first = len(self._layers[source].findall("input/port"))
            edge.set("from-layer", str(source))
            edge.set("from-port", str(first + output))
            edge.set("to-layer", str(number))
            edge.set("to-port", str(port))
        return [(number, output, shape) for output, shape in enumerate(shapes)]

    def _ports(
        self,
        layer: ElementTree.Element,
        kind: str,
        first: int,
        shapes: Sequence[tuple[int, ...]],
        precision: str,
    ) -> None:
        if not shapes:
            return
        parent = ElementTree.SubElement(layer, kind)
        for number, shape in enumerate(shapes, start=first):
            port = ElementTree.SubElement(parent, "port", id=str(number))
            if precision:
                port.set("precision", precision)
            for dim in shape:
                ElementTree.SubElement(port, "dim").text = str(dim)

    def constant(self, array: Array) -> Port:
        """A constant of f32 or i64."""
        kind = "i64" if array.dtype == np.int64 else "f32"
        data = {"element_type": kind, "shape": ", ".join(map(str, array.shape))}
        data |= {"offset": str(len(self._data)), "size": str(array.nbytes)}
        self._data += array.tobytes()
        return self.op("Const", [], [array.shape], **data)[0]

    def binary(self, kind: str, a: Port, b: Port, shape: tuple[int, ...]) -> Port:
        """A sum, product or power."""
        return self.op(kind, [a, b], [shape], auto_broadcast="numpy")[0]

    def numbers(self, *values: int) -> Port:
        """A list of i64."""
        return self.constant(np.array(values, np.int64))

    def reshape(self, x: Port, shape: tuple[int, ...]) -> Port:
        """The same numbers in another shape."""
        return self.op("Reshape", [x, self.numbers(*shape)], [shape], special_zero="true")[0]

    def linear(self, x: Port, weight: Array, bias: Array) -> Port:
        """A linear layer."""
        shape = (1, weight.shape[0])
        options = {"transpose_a": "false", "transpose_b": "true"}
        product = self.op("MatMul", [x, self.constant(weight)], [shape], **options)[0]
        return self.binary("Add", product, self.constant(bias.reshape(shape)), shape)

    def leaky_relu(self, x: Port, slope: float = 0.2) -> Port:
        """PReLU of one slope."""
        return self.op("PReLU", [x, self.constant(np.array([slope], np.float32))], [x[2]])[0]

    def finish(self, output: Port) -> tuple[bytes, bytes]:
        """The contents of the two files."""
        self.op("Result", [output], [])
        return ElementTree.tostring(self.net, xml_declaration=True), self._data


def mapping_files(model: MobileStyleGan) -> tuple[bytes, bytes]:
    """The mapping network's XML and constants."""
    width = model.config.style_width
    ir, shape, one = IrWriter("MappingNetwork"), (1, width), (1, 1)

    def number(value: float) -> Port:
        return ir.constant(np.full(one, value, np.float32))

    z = ir.op("Parameter", [], [shape], shape=f"1, {width}", element_type="f32")[0]
    squared = ir.binary("Power", z, number(2), shape)
    axes = [squared, ir.numbers(1)]
    mean = ir.op("ReduceMean", axes, [one], keep_dims="true")[0]
    shifted = ir.binary("Add", mean, number(1e-8), one)
    root = ir.binary("Power", shifted, number(0.5), one)
    reciprocal = ir.binary("Power", root, number(-1), one)
    x = ir.binary("Multiply", z, ir.binary("Multiply", number(1), reciprocal, one), shape)
    for layer in model.mapping.layers:
        x = ir.leaky_relu(ir.linear(x, layer.weight.numpy(), layer.bias.numpy()))
        x = ir.binary("Multiply", x, number(2**0.5), shape)
    return ir.finish(x)


def synthesis_files(model: MobileStyleGan) -> tuple[bytes, bytes]:
    """The synthesis network's XML and constants."""
    return _SynthesisWriter(model).write()


def tiny_files(model: MobileStyleGan | None = None) -> dict[str, bytes]:
    """The contents of all four files by name."""
    model = model or tiny_model()
    files = {}
    for name, (xml, data) in (
        ("MappingNetwork", mapping_files(model)),
        ("SynthesisNetwork", synthesis_files(model)),
    ):
        files |= {f"{name}.xml": xml, f"{name}.bin": data}
    return files


class _SynthesisWriter:
    def __init__(self, model: MobileStyleGan) -> None:
        self.model, self.ir = model, IrWriter("SynthesisNetwork")
        self.state = {k: v.numpy() for k, v in model.synthesis.state_dict().items()}
        width = model.config.style_width
        options = {"shape": f"1, {width}", "element_type": "f32"}
        self.w = self.ir.op("Parameter", [], [(1, width)], **options)[0]

    def write(self) -> tuple[bytes, bytes]:
        ir, config = self.ir, self.model.config
        const = ir.constant(self.state["const"])
        repeats = ir.numbers(1, 1, 1, 1)
        x = ir.op("Tile", [const, repeats], [const[2]])[0]
        x = self._styled_conv(x, "conv1")
        for number in range(config.blocks):
            x = self._wavelet(self._scaled(x, f"layers.{number}.up", factor=False))
            for name in ("conv1", "conv2"):
                x = self._styled_conv(x, f"layers.{number}.{name}")
        x = self._convolution(self._scaled(x, "to_img"), "to_img", "Convolution")
        x = ir.binary("Add", x, self._channels("to_img.bias"), x[2])
        return ir.finish(self._wavelet(x))

    def _channels(self, key: str) -> Port:
        return self.ir.constant(self.state[key].reshape(1, -1, 1, 1))

    def _scaled(self, x: Port, name: str, factor: bool = True) -> Port:
        weight, bias = (self.state[f"{name}.style.{part}"] for part in ("weight", "bias"))
        divisor = np.float32(STYLE_FACTOR if factor else 1)
        style = self.ir.linear(self.w, weight / divisor, bias / divisor)
        style = self.ir.reshape(style, (1, weight.shape[0], 1, 1))
        if factor:
            number = self.ir.constant(np.full((1, 1, 1, 1), STYLE_FACTOR, np.float32))
            style = self.ir.binary("Multiply", style, number, style[2])
        return self.ir.binary("Multiply", style, x, x[2])

    def _styled_conv(self, x: Port, name: str) -> Port:
        x = self._scaled(x, name)
        if f"{name}.depthwise" in self.state:
            x = self._convolution(x, name, "GroupConvolution")
        x = self._convolution(x, name, "Convolution")
        noise = self.ir.constant(self.state[f"{name}.noise"])
        x = self.ir.binary("Add", x, noise, x[2])
        return self.ir.leaky_relu(self.ir.binary("Add", x, self._channels(f"{name}.bias"), x[2]))

    def _convolution(self, x: Port, name: str, kind: str) -> Port:
        if kind == "GroupConvolution":
            kernel = self.state[f"{name}.depthwise"][:, None]
            channels = x[2][1]
        else:
            kernel = self.state[f"{name}.weight"]
            channels = kernel.shape[0]
        pad = f"{kernel.shape[-1] // 2}, {kernel.shape[-1] // 2}"
        options = {"strides": "1, 1", "dilations": "1, 1", "auto_pad": "explicit"}
        options |= {"pads_begin": pad, "pads_end": pad}
        shape = (1, channels, *x[2][2:])
        return self.ir.op(kind, [x, self.ir.constant(kernel)], [shape], **options)[0]

    def _wavelet(self, x: Port) -> Port:
        ir, (_, channels, height, columns) = self.ir, x[2]
        width = channels // 4
        halves = [(1, width, height, columns), (1, 3 * width, height, columns)]
        lengths = ir.numbers(width, 3 * width)
        low, high = ir.op("VariadicSplit", [x, ir.numbers(1), lengths], halves)
        details = ir.reshape(high, (1, width, 3, height, columns))
        parts = ir.op(
            "VariadicSplit",
            [details, ir.numbers(2), ir.numbers(1, 1, 1)],
            [(1, width, 1, height, columns)] * 3,
        )
        bands = [low]
        for part in parts:
            bands.append(ir.op("Squeeze", [part, ir.numbers(2)], [halves[0]])[0])
        tall = (1, width, 2 * height, columns)
        sums = []
        for smooth, detail in (bands[:2], bands[2:]):
            pair = self._filtered(smooth, (2, 1), 1), self._filtered(detail, (2, 1), -1)
            sums.append(ir.binary("Add", *pair, tall))
        pair = self._filtered(sums[0], (1, 2), 1), self._filtered(sums[1], (1, 2), -1)
        return ir.binary("Add", *pair, (1, width, 2 * height, 2 * columns))

    def _filtered(self, x: Port, side: tuple[int, int], sign: int) -> Port:
        width, height, columns = x[2][1:]
        taps = np.array([1, sign], np.float32).reshape(side) * np.float32(np.sqrt(0.5))
        kernel = self.ir.constant(np.tile(taps, (width, 1, 1, 1, 1)).astype(np.float32))
        options = {"strides": f"{side[0]}, {side[1]}", "dilations": "1, 1"}
        options |= {"pads_begin": "0, 0", "pads_end": "0, 0", "auto_pad": "explicit"}
        shape = (1, width, height * side[0], columns * side[1])
        options["output_padding"] = "0, 0"
        return self.ir.op("GroupConvolutionBackpropData", [x, kernel], [shape], **options)[0]
