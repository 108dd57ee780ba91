"""`encoder` graph of the photographic generator: target -> latents."""

from __future__ import annotations

import onnx_ir as ir
from torch import Tensor

from ..networks.face_trunk import POOL, STEM_POOL, FaceBlock, FaceTrunk
from ..networks.latent_encoder import (
    LAYERS,
    FeaturesConfig,
    LatentEncoder,
    PictureFeatures,
)
from ..networks.lpips import POOL_STRIDE
from .builder import BATCH, GraphBuilder, State, to_array


def build_latent_encoder(
    encoder: LatentEncoder, average: Tensor, rows: int, input_size: tuple[int, int]
) -> ir.Model:
    """Target [N,3,h,w] -> latents [N,L,W] with the average added.

    Parameters
    ----------
    encoder:
        The network.
    average:
        Average latent, [W].
    rows:
        L: rows of the generator's latents, all of which get the one w.
    input_size:
        (height, width) of the target: equal multiples of the side the network reads, to which it is
        averaged.
    """
    state = encoder.state_dict()
    b = GraphBuilder("encoder")
    target = b.input("target", [BATCH, 3, *input_size])
    features = _FeatureWriter(b, encoder.features, state).write(target, input_size)
    weight, bias = (b.parameter(state, f"latent.{name}") for name in ("weight", "bias"))
    w = b.op("Unsqueeze", b.op("Gemm", features, weight, bias, transB=1), b.integers(1))
    base = b.constant("latent_avg", to_array(average.expand(1, rows, -1).contiguous()))
    b.output("latents", b.op("Add", w, base), [BATCH, rows, average.numel()])
    return b.build()


class _FeatureWriter:
    """Writes `PictureFeatures` into a graph, as often as pictures are read.

    Parameters
    ----------
    b:
        The graph.
    features:
        The network.
    state:
        Of the network that it is the part `features` of.
    """

    def __init__(self, b: GraphBuilder, features: PictureFeatures, state: State) -> None:
        self._b, self._state, self._face = b, state, features.face
        self._config: FeaturesConfig = features.config
        self._mean, self._std = (
            b.constant(name, to_array(getattr(features, name))) for name in ("mean", "std")
        )
        face: FaceTrunk = features.face
        self._rows, self._columns, self._face_mean = (
            b.constant(f"face_{name}", to_array(getattr(face, name)))
            for name in ("rows", "columns", "mean")
        )

    def write(self, image: ir.Value, input_size: tuple[int, int]) -> ir.Value:
        """Image [N,3,h,w] -> features [N,F]."""
        b, config = self._b.scoped("features"), self._config
        image = _pooled(b, image, input_size[0] // config.side)
        flat = [_flat(b, _pooled(b, image, config.pixel_cell))]
        x = b.op("Div", b.op("Sub", image, self._mean), self._std)
        for number, layer in enumerate(LAYERS):
            if layer.pool:
                window = [layer.pool] * 2
                x = b.op("MaxPool", x, kernel_shape=window, strides=[POOL_STRIDE] * 2)
            x = self._conv(x, f"convs.{number}", layer.stride, layer.padding)
            x = b.op("Relu", x)
        flat.append(_flat(b, _pooled(b, x, config.coarse_cell)))
        return b.op("Concat", *flat, self._face_features(image), axis=1)

    def _face_features(self, image: ir.Value) -> ir.Value:
        b = self._b.scoped("features.face")
        chip = b.op("MatMul", b.op("MatMul", self._rows, image), self._columns)
        x = b.op("Mul", b.op("Sub", chip, self._face_mean), b.scalar(127.5 / 256))
        x = b.op("Relu", self._conv(x, "face.stem", 2, 0))
        x = b.op("MaxPool", x, kernel_shape=[STEM_POOL] * 2, strides=[2, 2])
        for number, block in enumerate(self._face.blocks):
            assert isinstance(block, FaceBlock)
            x = self._face_block(x, block, f"face.blocks.{number}")
        return _flat(b, _pooled(b, x, POOL))

    def _face_block(self, x: ir.Value, block: FaceBlock, name: str) -> ir.Value:
        b = self._b
        stride, padding = (POOL, 0) if block.halves else (1, 1)
        y = b.op("Relu", self._conv(x, f"{name}.conv1", stride, padding))
        y = self._conv(y, f"{name}.conv2", 1, 1)
        if block.halves:
            x = _pooled(b, x, POOL)
            more = block.conv1.out_channels - block.conv1.in_channels
            x = b.op("Pad", x, b.integers(0, 0, 0, 0, 0, more, 0, 0))
        return b.op("Relu", b.op("Add", x, y))

    def _conv(self, x: ir.Value, name: str, stride: int, padding: int) -> ir.Value:
        kernel, bias = (
            self._b.parameter(self._state, f"features.{name}.{n}") for n in ("weight", "bias")
        )
        return self._b.conv(x, kernel, bias, stride=stride, padding=(padding, padding))


def _pooled(b: GraphBuilder, x: ir.Value, cell: int) -> ir.Value:
    if cell == 1:
        return x
    return b.op("AveragePool", x, kernel_shape=[cell] * 2, strides=[cell] * 2)


def _flat(b: GraphBuilder, x: ir.Value) -> ir.Value:
    return b.reshape(x, 0, -1)
