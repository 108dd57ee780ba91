"""Large 3x3 convolutions and their gradients by tiles, against torch in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from hyperstyle_export.adjoint.pull_back import pull_back
from hyperstyle_export.adjoint.tiles import FEWEST_FOR_INPUT, POINTS, tiling, tiling_of
from hyperstyle_export.graphs import tiled
from hyperstyle_export.graphs.builder import GraphBuilder, save_model
from hyperstyle_export.graphs.inlining import inline, with_shapes
from hyperstyle_export.graphs.tiled import with_large_tiles, with_tiles

KERNEL = (65, 64, 3, 3)
SIZES = {2: (16, 18), 4: (32, 36)}
ERROR = {2: 1e-6, 4: 4e-6}  # of the norm; a sum of products is off by 3e-7


def differentiated(size: tuple[int, int]) -> ir.Model:
    """x, k, dy -> dx, dk of a convolution with padding."""
    forward = GraphBuilder("forward")
    before, after = [1, KERNEL[1], *size], [1, KERNEL[0], *size]
    x, kernel = forward.input("x", before), forward.input("k", KERNEL)
    forward.output("y", forward.conv(x, kernel, padding=(1, 1)), after)
    b = GraphBuilder("adjoint")
    inputs = {"x": b.input("x", before), "k": b.input("k", KERNEL)}
    values = inline(b, with_shapes(forward.build()), inputs)
    gradients = pull_back(b, {values["y"]: b.input("dy", after)}, list(inputs.values()))
    for name, value, shape in zip(("dx", "dk"), gradients, (before, KERNEL), strict=True):
        b.output(name, value, shape)
    return b.build()


def convolved(channels: int, size: tuple[int, int]) -> ir.Model:
    """x, k, bias -> y of a convolution with padding."""
    b = GraphBuilder("forward")
    x, bias = b.input("x", [1, channels, *size]), b.input("bias", [channels])
    kernel = b.input("k", [channels, channels, 3, 3])
    b.output("y", b.conv(x, kernel, bias, padding=(1, 1)), [1, channels, *size])
    return with_shapes(b.build())


def run(model: ir.Model, path: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    save_model(model, path)
    names = [str(value.name) for value in model.graph.outputs]
    found: list[np.ndarray] = ort.InferenceSession(path).run(names, inputs)
    return found


@pytest.mark.parametrize("side", POINTS)
def test_a_tile_is_the_convolution(side: int) -> None:
    tiles, source = tiling(side), np.random.default_rng(side)
    x, kernel = source.standard_normal((tiles.reach, tiles.reach)), source.standard_normal((3, 3))
    products = (tiles.input @ x @ tiles.input.T) * (tiles.kernel @ kernel @ tiles.kernel.T)
    planes = [torch.from_numpy(array)[None, None] for array in (x, kernel)]
    expected = F.conv2d(planes[0], planes[1]).numpy()[0, 0]
    assert np.abs(tiles.output @ products @ tiles.output.T - expected).max() <= 1e-13


@pytest.mark.parametrize("side", SIZES)
def test_gradients_by_tiles_equal_autograds(side: int, tmp_path: Path) -> None:
    size, source = SIZES[side], np.random.default_rng(side)
    chosen = tiling_of(KERNEL, size, 1, (1, 1), FEWEST_FOR_INPUT)
    assert chosen is not None
    assert chosen.side == side
    shapes = {"x": (1, KERNEL[1], *size), "k": KERNEL, "dy": (1, KERNEL[0], *size)}
    arrays = {n: source.standard_normal(s, dtype=np.float32) for n, s in shapes.items()}
    leaves = [torch.from_numpy(arrays[name]).double().requires_grad_() for name in ("x", "k")]
    y = F.conv2d(leaves[0], leaves[1], padding=1)
    y.backward(torch.from_numpy(arrays["dy"]).double())
    model = differentiated(size)
    products = [node for node in model.graph if node.op_type in ("Conv", "Gemm")]
    assert {len(node.inputs) for node in products} == {2}
    assert "Gemm" not in {node.op_type for node in products}  # one product per tap without tiles
    for leaf, actual in zip(leaves, run(model, tmp_path / "adjoint.onnx", arrays), strict=True):
        assert leaf.grad is not None
        expected = leaf.grad.numpy()
        error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
        assert error <= ERROR[side]


def test_a_forward_pass_by_tiles_is_the_convolution(tmp_path: Path) -> None:
    model, source = with_tiles(convolved(256, (32, 36))), np.random.default_rng(0)
    kernels = [
        node.attributes["kernel_shape"].value for node in model.graph if node.op_type == "Conv"
    ]
    assert kernels == [(4, 4)]  # small tiles, whose errors are those of a sum of products
    shapes = {"x": (1, 256, 32, 36), "k": (256, 256, 3, 3), "bias": (256,)}
    arrays = {n: source.standard_normal(s, dtype=np.float32) for n, s in shapes.items()}
    (actual,) = run(model, tmp_path / "forward.onnx", arrays)
    tensors = [torch.from_numpy(array).double() for array in arrays.values()]
    expected = F.conv2d(tensors[0], tensors[1], tensors[2], padding=1).numpy()
    assert np.linalg.norm(actual - expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("bands", [1, 4])
def test_large_tiles_are_the_convolution_in_bands(
    bands: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 32, 36
    monkeypatch.setattr(tiled, "LARGEST_BAND", 128 * size[0] * size[1] // bands)
    model, source = with_large_tiles(convolved(128, size)), np.random.default_rng(0)
    kernels = [
        node.attributes["kernel_shape"].value for node in model.graph if node.op_type == "Conv"
    ]
    assert kernels == [(6, 6)] * bands
    shapes = {"x": (1, 128, *size), "k": (128, 128, 3, 3), "bias": (128,)}
    arrays = {n: source.standard_normal(s, dtype=np.float32) for n, s in shapes.items()}
    (actual,) = run(model, tmp_path / "forward.onnx", arrays)
    tensors = [torch.from_numpy(array).double() for array in arrays.values()]
    expected = F.conv2d(tensors[0], tensors[1], tensors[2], padding=1).numpy()
    assert np.linalg.norm(actual - expected) <= ERROR[4] * np.linalg.norm(expected)


def test_other_nodes_of_a_forward_pass_stay() -> None:
    model = with_tiles(convolved(255, (32, 32)))
    assert [(node.op_type, len(node.inputs)) for node in model.graph] == [("Conv", 3)]


@pytest.mark.parametrize(
    "case",
    [
        ((64, 64, 1, 1), (32, 32), 1, (0, 0)),
        ((64, 64, 3, 3), (32, 32), 2, (1, 1)),
        ((64, 64, 3, 3), (32, 32), 1, (0, 0)),
        ((64, 64, 3, 3), (34, 32), 1, (1, 1)),
        ((64, 64, 3, 3), (8, 8), 1, (1, 1)),
        ((64, 32, 3, 3), (32, 32), 1, (1, 1)),
        ((64, 64, 3, 3), (1024, 512), 1, (1, 1)),
    ],
    ids=[
        "one tap",
        "stride",
        "no padding",
        "no whole tiles",
        "small plane",
        "few channels",
        "large tensor",
    ],
)
def test_other_convolutions_have_no_tiles(
    case: tuple[tuple[int, ...], tuple[int, int], int, tuple[int, int]],
) -> None:
    assert tiling_of(*case, FEWEST_FOR_INPUT) is None
