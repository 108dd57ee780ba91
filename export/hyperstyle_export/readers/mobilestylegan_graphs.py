"""Recognising MobileStyleGAN's two graphs: from the output back to the input, layer by layer."""

from __future__ import annotations

import numpy as np

from ..networks.layers import ACTIVATION_GAIN, ACTIVATION_SLOPE
from ..networks.mobilestylegan import BANDS, NORM_EPS, RGB, START_SIDE
from .openvino_ir import Array, IrError, IrGraph, IrNode

MAX_BLOCKS = 12
MAX_DEPTH = 64
HAAR = np.float32(np.sqrt(0.5))
TOLERANCE = 1e-6

# Operations that neither change nor move a number: they only carry shapes along.
SHAPING = ("Reshape", "Unsqueeze", "Squeeze", "Tile", "Broadcast")
STRIDE_1 = {"strides": "1, 1", "dilations": "1, 1"}


class Walker:
    """Steps from a layer to what it reads, refusing whatever is not expected."""

    def __init__(self, graph: IrGraph) -> None:
        self.graph = graph

    def refuse(self, node: IrNode, wanted: str) -> IrError:
        """The error for a layer that is not what the network has at that place."""
        return IrError(
            f"{self.graph.subject} is no MobileStyleGAN: {wanted} is expected where it has "
            f"{node.kind} '{node.name}'"
        )

    def step(self, node: IrNode, kind: str, wanted: str, count: int = 2) -> list[IrNode]:
        """What a layer of the kind reads."""
        inputs = self.graph.inputs(node)
        if node.kind != kind or len(inputs) < count:
            raise self.refuse(node, wanted)
        return [self.origin(node, number)[0] for number in range(len(inputs))]

    def origin(self, node: IrNode, number: int) -> tuple[IrNode, int]:
        """Whose numbers an input gets through any reshapes: a layer and which of its outputs."""
        source, output = self.graph.sources(node)[number]
        for _ in range(MAX_DEPTH):
            if source.kind not in SHAPING or not source.inputs:
                break
            source, output = self.graph.sources(source)[0]
        return source, output

    def with_constant(self, node: IrNode, kind: str, wanted: str) -> tuple[IrNode, Array]:
        """The two operands of a sum or product of which the second is a constant."""
        inputs = self.step(node, kind, wanted)
        for x, constant in (inputs[:2], inputs[1::-1]):
            if constant.kind == "Const":
                return x, self.graph.constant(constant)
        raise self.refuse(node, f"{wanted} with a constant")

    def scalar(self, node: IrNode, kind: str, wanted: str) -> tuple[IrNode, float]:
        """The same with a constant of one number."""
        x, constant = self.with_constant(node, kind, wanted)
        if constant.size != 1:
            raise self.refuse(node, f"{wanted} with one number")
        return x, float(constant.reshape(()))

    def activated(self, node: IrNode) -> IrNode:
        """What a leaky ReLU of slope 0.2 reads."""
        x, slope = self.scalar(node, "PReLU", "a leaky ReLU")
        if abs(slope - ACTIVATION_SLOPE) > TOLERANCE:
            raise self.refuse(node, f"a leaky ReLU of slope {ACTIVATION_SLOPE}")
        return x

    def linear(self, node: IrNode) -> tuple[IrNode, Array, Array]:
        """Input, weight [O,I] and bias [O] of a linear layer."""
        product, bias = self.with_constant(node, "Add", "a bias")
        x, weight = self.with_constant(product, "MatMul", "a linear layer")
        transposed = product.attributes.get("transpose_b") == "true"
        if product.attributes.get("transpose_a", "false") != "false" or weight.ndim != 2:
            raise self.refuse(product, "a linear layer")
        weight = weight if transposed else weight.T
        if bias.size != weight.shape[0]:
            raise self.refuse(node, f"a bias of {weight.shape[0]} numbers")
        return x, np.ascontiguousarray(weight), bias.reshape(-1)

    def convolution(self, node: IrNode, kind: str) -> tuple[IrNode, Array]:
        """Input and kernel of a convolution of stride 1 that keeps the side."""
        x, kernel = self.with_constant(node, kind, "a convolution")
        side = kernel.shape[-1] if kernel.ndim else 0
        pads = f"{side // 2}, {side // 2}"
        same = {**STRIDE_1, "pads_begin": pads, "pads_end": pads}
        keeps = all(node.attributes.get(key) == value for key, value in same.items())
        if not keeps or kernel.ndim not in (4, 5) or side % 2 == 0 or kernel.shape[-2] != side:
            raise self.refuse(node, "a convolution that keeps the side")
        return x, kernel


class MappingReader(Walker):
    """Normalisation, then linear layers with leaky ReLU times sqrt(2)."""

    def read(self) -> dict[str, Array]:
        """Tensors under `MappingNetwork`'s keys."""
        node = self.graph.result()
        layers: list[tuple[Array, Array]] = []
        while len(layers) <= MAX_DEPTH:
            if node.kind != "Multiply" or not self._is_scalar(node):
                break
            x, gain = self.scalar(node, "Multiply", "the gain of the activation")
            if abs(gain - ACTIVATION_GAIN) > TOLERANCE:
                raise self.refuse(node, "a gain of sqrt(2)")
            node, weight, bias = self.linear(self.activated(x))
            layers.append((weight, bias))
        if not layers or any(weight.shape != layers[0][0].shape for weight, _ in layers):
            raise self.refuse(node, "linear layers of one width")
        self._check_normalisation(node)
        state = {}
        for number, (weight, bias) in enumerate(reversed(layers)):
            state[f"layers.{number}.weight"] = weight
            state[f"layers.{number}.bias"] = bias
        return state

    def _is_scalar(self, node: IrNode) -> bool:
        constants = [i for i in self.graph.inputs(node) if i.kind == "Const"]
        return any(self.graph.constant(i).size == 1 for i in constants)

    def _check_normalisation(self, node: IrNode) -> None:
        """Z times (1 / (mean of z^2 + 1e-8)^0.5)."""
        z, factor = self.step(node, "Multiply", "normalisation")
        if z.kind != "Parameter":
            z, factor = factor, z
        numbers = []
        if factor.kind == "Multiply":  # 1 times the reciprocal
            factor, number = self.scalar(factor, "Multiply", "a reciprocal")
            numbers.append(number - 1)
        root, power = self.scalar(factor, "Power", "a reciprocal")
        shifted, half = self.scalar(root, "Power", "a square root")
        mean, eps = self.scalar(shifted, "Add", "an epsilon")
        squared = self.step(mean, "ReduceMean", "a mean")[0]
        x, two = self.scalar(squared, "Power", "a square")
        numbers += [power + 1, half - 0.5, eps - NORM_EPS, two - 2]
        if z.kind != "Parameter" or x != z or any(abs(n) > TOLERANCE for n in numbers):
            raise self.refuse(node, "the normalisation of a random vector")


class SynthesisReader(Walker):
    """A constant, a first convolution, blocks, and the picture's wavelet bands."""

    def read(self) -> tuple[dict[str, Array], tuple[int, ...]]:
        """Tensors under `SynthesisNetwork`'s keys, and the widths of the feature maps."""
        state: dict[str, Array] = {}
        bands = self._wavelet(self.graph.result())
        product, bias = self.with_constant(bands, "Add", "the bias of the picture")
        x, kernel = self.convolution(product, "Convolution")
        if kernel.shape[:1] + kernel.shape[2:] != (BANDS * RGB, 1, 1) or bias.size != BANDS * RGB:
            raise self.refuse(product, "a 1x1 convolution to twelve channels")
        state["to_img.weight"], state["to_img.bias"] = kernel, bias.reshape(-1)
        node = self._styled(x, "to_img", kernel.shape[1], state)
        blocks: list[dict[str, Array]] = []
        while not self._is_first(node):
            if len(blocks) == MAX_BLOCKS:
                raise self.refuse(node, f"at most {MAX_BLOCKS} blocks")
            node, block = self._block(node)
            blocks.append(block)
        self._first(node, state)
        widths = [state["conv1.weight"].shape[0]]
        for number, block in enumerate(reversed(blocks)):
            state |= {f"layers.{number}.{key}": value for key, value in block.items()}
            widths.append(block["conv2.weight"].shape[0])
        self._check_shapes(state, widths)
        return state, tuple(widths)

    def _block(self, node: IrNode) -> tuple[IrNode, dict[str, Array]]:
        """What a block reads, and its tensors."""
        block: dict[str, Array] = {}
        for name in ("conv2", "conv1"):
            node, kernel = self._activated_convolution(node, name, block)
            if kernel.shape[2:] != (1, 1):
                raise self.refuse(node, "a 1x1 convolution")
            node, depthwise = self.convolution(node, "GroupConvolution")
            channels = kernel.shape[1]
            if depthwise.shape != (channels, 1, 1, 3, 3):
                raise self.refuse(node, f"a depthwise 3x3 convolution of {channels} channels")
            block[f"{name}.depthwise"] = depthwise.reshape(channels, 1, 3, 3)
            node = self._styled(node, name, channels, block)
        node = self._wavelet(node)
        channels = node.shapes[0][1] if len(node.shapes[0]) == 4 else 0
        return self._styled(node, "up", channels, block), block

    def _is_first(self, node: IrNode) -> bool:
        """Whether the activation is that of the first convolution, a plain 3x3 one."""
        x = self.activated(node)
        for _ in range(2):
            x, _constant = self.with_constant(x, "Add", "bias and noise")
        return self.convolution(x, "Convolution")[1].shape[-1] == 3

    def _first(self, node: IrNode, state: dict[str, Array]) -> None:
        x, kernel = self._activated_convolution(node, "conv1", state)
        constant = self._styled(x, "conv1", kernel.shape[1], state)
        if constant.kind != "Const":
            raise self.refuse(constant, "the constant that synthesis starts from")
        state["const"] = self.graph.constant(constant)

    def _activated_convolution(
        self, node: IrNode, name: str, state: dict[str, Array]
    ) -> tuple[IrNode, Array]:
        """Leaky ReLU, bias, noise, convolution: its input and its kernel."""
        biased, bias = self.with_constant(self.activated(node), "Add", "a bias")
        noisy, noise = self.with_constant(biased, "Add", "the stored noise")
        x, kernel = self.convolution(noisy, "Convolution")
        if bias.size != kernel.shape[0] or noise.ndim != 4 or noise.shape[:2] != (1, 1):
            raise self.refuse(node, "a bias for each channel and noise for each pixel")
        state[f"{name}.bias"], state[f"{name}.noise"] = bias.reshape(-1), noise
        state[f"{name}.weight"] = kernel
        return x, kernel

    def _styled(self, node: IrNode, name: str, channels: int, state: dict[str, Array]) -> IrNode:
        """What is scaled by a style; a number the style is multiplied by goes into its affine map.

        The constant factor is folded in double precision: the scaled style stays that of the file
        to float32's last digit.
        """
        first, second = self.step(node, "Multiply", "a style's scaling")[:2]
        for scale, x in ((first, second), (second, first)):
            factor = 1.0
            if scale.kind == "Multiply" and any(i.kind == "Const" for i in self._operands(scale)):
                candidate, number = scale, 1.0
                operands = self._operands(candidate)
                constant = next(i for i in operands if i.kind == "Const")
                if self.graph.constant(constant).size == 1:
                    candidate, number = self.scalar(scale, "Multiply", "a style's factor")
                scale, factor = candidate, number
            if scale.kind == "Add" and self._reads_linear(scale):
                latent, weight, bias = self.linear(scale)
                if latent.kind != "Parameter" or weight.shape[0] != channels:
                    raise self.refuse(scale, f"a style of {channels} channels")
                state[f"{name}.style.weight"] = (weight.astype(np.float64) * factor).astype("f4")
                state[f"{name}.style.bias"] = (bias.astype(np.float64) * factor).astype("f4")
                return x
        raise self.refuse(node, "a style's scaling")

    def _operands(self, node: IrNode) -> list[IrNode]:
        return [self.origin(node, number)[0] for number in range(len(node.inputs))]

    def _reads_linear(self, node: IrNode) -> bool:
        return any(i.kind == "MatMul" for i in self._operands(node))

    def _wavelet(self, node: IrNode) -> IrNode:
        """What an inverse Haar step reads: four bands, enlarged vertically, then horizontally."""
        bands = []
        for half, horizontal in zip(self._halves(node), ((1, 1), (1, -1)), strict=True):
            pair = self._filtered(half, (1, 2), horizontal)[0]
            for band, vertical in zip(self._halves(pair), ((1, 1), (1, -1)), strict=True):
                bands.append(self._filtered(band, (2, 1), vertical))
        return self._split_source(node, bands)

    def _halves(self, node: IrNode) -> list[IrNode]:
        return self.step(node, "Add", "an inverse wavelet step")[:2]

    def _filtered(
        self, node: IrNode, side: tuple[int, int], signs: tuple[int, int]
    ) -> tuple[IrNode, int]:
        """What a transposed convolution with a Haar filter along one axis reads: an output."""
        _, kernel = self.with_constant(node, "GroupConvolutionBackpropData", "a Haar filter")
        attributes = {
            "strides": f"{side[0]}, {side[1]}",
            "pads_begin": "0, 0",
            "pads_end": "0, 0",
            "dilations": "1, 1",
            "output_padding": "0, 0",
        }
        matches = all(node.attributes.get(key) == value for key, value in attributes.items())
        expected = np.array(signs, np.float32).reshape(side) * HAAR
        if not matches or kernel.shape[1:] != (1, 1, *side):
            raise self.refuse(node, "a Haar filter")
        if np.abs(kernel - expected).max() > TOLERANCE:
            raise self.refuse(node, "a Haar filter")
        return self.origin(node, 0)

    def _split_source(self, node: IrNode, bands: list[tuple[IrNode, int]]) -> IrNode:
        """The feature map of which the low band is a quarter, the details the rest.

        One split gives the low channels and the high ones, another the three details of each.
        """
        (outer, low), (inner, _), *_ = bands
        if [band for band in bands[1:]] != [(inner, number) for number in range(BANDS - 1)]:
            raise self.refuse(node, "a wavelet step's split")
        source = self.step(outer, "VariadicSplit", "a wavelet step's split", 3)[0]
        self.step(inner, "VariadicSplit", "a wavelet step's split", 3)
        width, height, columns = outer.shapes[0][1:] if len(outer.shapes[0]) == 4 else (0, 0, 0)
        details = ((1, width, 1, height, columns),) * (BANDS - 1)
        halves = ((1, width, height, columns), (1, width * (BANDS - 1), height, columns))
        whole = self.graph.inputs(inner)[0].shapes
        fits = low == 0 and self.origin(inner, 0) == (outer, 1)
        fits &= outer.shapes == halves and inner.shapes == details
        if not fits or whole != ((1, width, BANDS - 1, height, columns),):
            raise self.refuse(node, "a wavelet step's split")
        return source

    def _check_shapes(self, state: dict[str, Array], widths: list[int]) -> None:
        """Whether the layers found fit one another."""
        side = START_SIDE
        fits = state["const"].shape == (1, state["conv1.weight"].shape[1], side, side)
        fits &= state["conv1.noise"].shape[2:] == (side, side)
        fits &= state["conv1.weight"].shape == (widths[0], widths[0], 3, 3)
        for number, width in enumerate(widths[1:]):
            side, name, reduced = 2 * side, f"layers.{number}", widths[number] // BANDS
            fits &= widths[number] % BANDS == 0
            fits &= state[f"{name}.up.style.weight"].shape[0] == widths[number]
            fits &= state[f"{name}.conv1.weight"].shape == (width, reduced, 1, 1)
            fits &= state[f"{name}.conv2.weight"].shape == (width, width, 1, 1)
            for layer in ("conv1", "conv2"):
                fits &= state[f"{name}.{layer}.noise"].shape[2:] == (side, side)
        fits &= state["to_img.weight"].shape[1] == widths[-1]
        if not fits:
            raise IrError(f"{self.graph.subject} has layers whose sizes do not fit one another")
