"""`encoder` graph of the photographic generator: target -> latents."""

from __future__ import annotations

import onnx_ir as ir
from torch import Tensor

from ..networks.latent_encoder import COARSE_LAYER, LatentEncoder
from ..networks.lpips import ALEXNET, POOL_STRIDE
from .builder import BATCH, GraphBuilder, to_array


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
    config, state = encoder.config, encoder.state_dict()
    b = GraphBuilder("encoder")
    target = b.input("target", [BATCH, 3, *input_size])
    x = _pooled(b, target, input_size[0] // config.side)
    flat = [_flat(b, _pooled(b, x, config.pixel_cell))]
    mean, std = (b.constant(name, to_array(getattr(encoder, name))) for name in ("mean", "std"))
    x = b.op("Div", b.op("Sub", x, mean), std)
    for number, layer in enumerate(ALEXNET):
        b.scoped(f"convs.{number}")
        if layer.pool:
            window = [layer.pool] * 2
            x = b.op("MaxPool", x, kernel_shape=window, strides=[POOL_STRIDE] * 2)
        kernel, bias = (b.parameter(state, f"convs.{number}.{n}") for n in ("weight", "bias"))
        padding = (layer.padding, layer.padding)
        x = b.op("Relu", b.conv(x, kernel, bias, stride=layer.stride, padding=padding))
        if number == COARSE_LAYER:
            flat.append(_flat(b, _pooled(b, x, config.coarse_cell)))
    b.scoped("latent")
    features = b.op("Concat", *flat, _flat(b, x), axis=1)
    weight, bias = (b.parameter(state, f"latent.{name}") for name in ("weight", "bias"))
    w = b.op("Unsqueeze", b.op("Gemm", features, weight, bias, transB=1), b.integers(1))
    base = b.constant("latent_avg", to_array(average.expand(1, rows, -1).contiguous()))
    b.output("latents", b.op("Add", w, base), [BATCH, rows, config.style_width])
    return b.build()


def _pooled(b: GraphBuilder, x: ir.Value, cell: int) -> ir.Value:
    if cell == 1:
        return x
    return b.op("AveragePool", x, kernel_shape=[cell] * 2, strides=[cell] * 2)


def _flat(b: GraphBuilder, x: ir.Value) -> ir.Value:
    return b.reshape(x, 0, -1)
