"""The rules of differentiation against torch autograd, operator by operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from hyperstyle_export.adjoint.pull_back import pull_back
from hyperstyle_export.adjoint.rules import shape_of
from hyperstyle_export.graphs.builder import GraphBuilder, save_model
from hyperstyle_export.graphs.inlining import inline, prune, with_shapes

Builder = Callable[..., ir.Value]
TOLERANCE = 2e-6


@dataclass(frozen=True)
class Case:
    """An expression as nodes and in torch, of inputs of these shapes."""

    shapes: tuple[tuple[int, ...], ...]
    nodes: Builder
    reference: Callable[..., torch.Tensor]
    positive: bool = False  # inputs from 0.5 up


def conv(stride: int = 1, padding: int = 1, group: int = 1) -> Builder:
    return lambda b, x, w: b.conv(x, w, stride=stride, padding=(padding, padding), group=group)


def slope(b: GraphBuilder) -> ir.Value:
    return b.constant("slope", np.array([0.3, -0.2, 1.5], np.float32).reshape(3, 1, 1))


def row(b: GraphBuilder, *values: int) -> ir.Value:
    return b.integers(*values)


def taps(b: GraphBuilder, *shape: int) -> ir.Value:
    """A filter of every channel along one axis."""
    numbers = np.arange(1, np.prod(shape[2:]) + 1, dtype=np.float32) / 4
    return b.constant("taps", np.tile(numbers.reshape(1, 1, *shape[2:]), (shape[0], 1, 1, 1)))


def up_along_rows(b: GraphBuilder, x: ir.Value) -> ir.Value:
    return b.op(
        "ConvTranspose",
        x,
        taps(b, 3, 1, 1, 6),
        kernel_shape=[1, 6],
        strides=[1, 2],
        pads=[0, 3, 0, 3],
        group=3,
    )


CASES: dict[str, Case] = {
    "add, repeated rows": Case(
        ((2, 3, 4), (3, 1)), lambda b, x, y: b.op("Add", x, y), lambda x, y: x + y
    ),
    "subtract, both repeated": Case(
        ((1, 3, 1), (2, 1, 4)), lambda b, x, y: b.op("Sub", x, y), lambda x, y: x - y
    ),
    "multiply by itself": Case(((3, 4),), lambda b, x: b.op("Mul", x, x), lambda x: x * x),
    "multiply by a scalar": Case(
        ((2, 3), ()), lambda b, x, y: b.op("Mul", x, y), lambda x, y: x * y
    ),
    "divide": Case(
        ((2, 3), (3,)), lambda b, x, y: b.op("Div", x, y), lambda x, y: x / y, positive=True
    ),
    "square root": Case(((5,),), lambda b, x: b.op("Sqrt", x), torch.sqrt, positive=True),
    "negative": Case(((2, 3),), lambda b, x: b.op("Neg", x), torch.neg),
    "sine": Case(((2, 3),), lambda b, x: b.op("Sin", x), torch.sin),
    "hyperbolic tangent": Case(((2, 3),), lambda b, x: b.op("Tanh", x), torch.tanh),
    "clip": Case(
        ((4, 5),),
        lambda b, x: b.op("Clip", x, b.scalar(-0.5), b.scalar(0.7)),
        lambda x: x.clip(-0.5, 0.7),
    ),
    "sigmoid": Case(((2, 3),), lambda b, x: b.op("Sigmoid", x), torch.sigmoid),
    "relu": Case(((4, 5),), lambda b, x: b.op("Relu", x), F.relu),
    "leaky relu": Case(
        ((4, 5),), lambda b, x: b.op("LeakyRelu", x, alpha=0.2), lambda x: F.leaky_relu(x, 0.2)
    ),
    "prelu with slopes of any size": Case(
        ((1, 3, 2, 2),),
        lambda b, x: b.op("PRelu", x, slope(b)),
        lambda x: F.prelu(x, torch.tensor([0.3, -0.2, 1.5])),
    ),
    "filter along rows, enlarging": Case(
        ((1, 3, 4, 5),),
        up_along_rows,
        lambda x: F.conv_transpose2d(
            x,
            torch.arange(1, 7).reshape(1, 1, 1, 6).expand(3, 1, 1, 6) / 4,
            stride=(1, 2),
            padding=(0, 3),
            groups=3,
        ),
    ),
    "filter along columns, every second": Case(
        ((1, 3, 9, 4),),
        lambda b, x: b.conv(x, taps(b, 3, 1, 6, 1), stride=(2, 1), group=3),
        lambda x: F.conv2d(
            x,
            torch.arange(1, 7).reshape(1, 1, 6, 1).expand(3, 1, 6, 1) / 4,
            stride=(2, 1),
            groups=3,
        ),
    ),
    "transpose": Case(
        ((2, 3, 4),),
        lambda b, x: b.op("Transpose", x, perm=[2, 0, 1]),
        lambda x: x.permute(2, 0, 1),
    ),
    "reshape and unsqueeze": Case(
        ((6, 2),),
        lambda b, x: b.op("Unsqueeze", b.reshape(x, 3, 4), b.integers(1)),
        lambda x: x.reshape(3, 1, 4),
    ),
    "concat of unequal parts": Case(
        ((2, 1), (2, 3)),
        lambda b, x, y: b.op("Concat", x, y, x, axis=1),
        lambda x, y: torch.cat([x, y, x], 1),
    ),
    "slice from the end": Case(
        ((3, 5),),
        lambda b, x: b.op("Slice", x, row(b, 1, -3), row(b, 3, 99), row(b, 0, 1)),
        lambda x: x[1:3, -3:],
    ),
    "gather of rows": Case(
        ((2, 5, 3),),
        lambda b, x: b.op("Gather", x, row(b, 4, 1), axis=1),
        lambda x: x[:, [4, 1]],
    ),
    "gather that drops the axis": Case(
        ((2, 5, 3),), lambda b, x: b.op("Gather", x, b.index(2), axis=1), lambda x: x[:, 2]
    ),
    "expand": Case(
        ((2, 1, 3),),
        lambda b, x: b.op("Expand", x, row(b, 2, 4, 3)),
        lambda x: x.expand(2, 4, 3),
    ),
    "mean of all": Case(((2, 3),), lambda b, x: b.op("ReduceMean", x, keepdims=0), torch.mean),
    "mean over an axis": Case(
        ((2, 3, 4),),
        lambda b, x: b.op("ReduceMean", x, b.integers(1), keepdims=1),
        lambda x: x.mean(1, keepdim=True),
    ),
    "sum of all": Case(((2, 3),), lambda b, x: b.op("ReduceSum", x, keepdims=0), torch.sum),
    "sum over axes": Case(
        ((2, 3, 4),),
        lambda b, x: b.op("ReduceSum", x, b.integers(0, 2), keepdims=1),
        lambda x: x.sum((0, 2), keepdim=True),
    ),
    "mean over the plane, axes dropped": Case(
        ((1, 2, 3, 4),),
        lambda b, x: b.op("ReduceMean", x, b.integers(2, 3), keepdims=0),
        lambda x: x.mean((2, 3)),
    ),
    "instance norm": Case(
        ((1, 3, 4, 5), (3,), (3,)),
        lambda b, x, s, c: b.op("InstanceNormalization", x, s, c, epsilon=1e-2),
        lambda x, s, c: F.instance_norm(x, weight=s, bias=c, eps=1e-2),
    ),
    "repeated pixels": Case(
        ((1, 2, 3, 4),),
        lambda b, x: b.op(
            "Resize",
            x,
            None,
            b.constant("scales", np.array([1, 1, 2, 2], np.float32)),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    ),
    "sum of squares over taps": Case(
        ((2, 3, 3, 3),),
        lambda b, x: b.op("ReduceSumSquare", x, b.integers(2, 3), keepdims=0),
        lambda x: x.square().sum((2, 3)),
    ),
    "product of matrices": Case(
        ((2, 3), (3, 4)), lambda b, x, y: b.op("MatMul", x, y), lambda x, y: x @ y
    ),
    "products of stacks": Case(
        ((2, 2, 3), (2, 3, 4)), lambda b, x, y: b.op("MatMul", x, y), lambda x, y: x @ y
    ),
    **{
        f"gemm {a}{t}": Case(
            (((3, 2) if a else (2, 3)), ((4, 3) if t else (3, 4)), (4,)),
            lambda b, x, y, c, a=a, t=t: b.op("Gemm", x, y, c, transA=a, transB=t),
            lambda x, y, c, a=a, t=t: (x.T if a else x) @ (y.T if t else y) + c,
        )
        for a in (0, 1)
        for t in (0, 1)
    },
    "convolution": Case(
        ((1, 3, 5, 6), (4, 3, 3, 3)), conv(), lambda x, w: F.conv2d(x, w, padding=1)
    ),
    "convolution of a picture large against its kernel": Case(
        ((1, 3, 9, 8), (2, 3, 3, 3)), conv(), lambda x, w: F.conv2d(x, w, padding=1)
    ),
    "convolution without padding": Case(
        ((1, 3, 5, 6), (4, 3, 3, 3)), conv(padding=0), lambda x, w: F.conv2d(x, w)
    ),
    "strided convolution that skips the last row": Case(
        ((1, 3, 6, 7), (4, 3, 3, 3)),
        conv(stride=2, padding=0),
        lambda x, w: F.conv2d(x, w, stride=2),
    ),
    "strided convolution with padding": Case(
        ((1, 2, 8, 6), (3, 2, 3, 3)),
        conv(stride=2),
        lambda x, w: F.conv2d(x, w, stride=2, padding=1),
    ),
    "convolution with a bias": Case(
        ((1, 3, 5, 6), (4, 3, 3, 3), (4,)),
        lambda b, x, w, c: b.conv(x, w, c, padding=(1, 1)),
        lambda x, w, c: F.conv2d(x, w, c, padding=1),
    ),
    "depthwise kernel": Case(
        ((1, 3, 5, 6), (3, 1, 3, 2)),
        conv(padding=1, group=3),
        lambda x, w: F.conv2d(x, w, padding=1, groups=3),
    ),
    "strided depthwise kernel": Case(
        ((1, 3, 6, 6), (3, 1, 2, 2)),
        conv(stride=2, padding=0, group=3),
        lambda x, w: F.conv2d(x, w, stride=2, groups=3),
    ),
    "one-pixel kernel": Case(
        ((1, 3, 4, 4), (2, 3, 1, 1)), conv(padding=0), lambda x, w: F.conv2d(x, w)
    ),
    "transposed convolution": Case(
        ((1, 3, 4, 5), (3, 2, 3, 3)),
        lambda b, x, w: b.conv_transpose(x, w, 3, stride=2),
        lambda x, w: F.conv_transpose2d(x, w, stride=2),
    ),
    "mean over windows": Case(
        ((1, 2, 4, 6),),
        lambda b, x: b.op("AveragePool", x, kernel_shape=[2, 3], strides=[2, 3]),
        lambda x: F.avg_pool2d(x, (2, 3)),
    ),
    "mean over the plane": Case(
        ((1, 2, 3, 4),),
        lambda b, x: b.op("GlobalAveragePool", x),
        lambda x: x.mean((2, 3), keepdim=True),
    ),
    **{
        f"every second pixel of {size}": Case(
            ((1, 2, size, size + 1),),
            lambda b, x: b.op("MaxPool", x, kernel_shape=[1, 1], strides=[2, 2]),
            lambda x: F.max_pool2d(x, 1, 2),
        )
        for size in (4, 5)
    },
    "largest of windows that overlap": Case(
        ((1, 2, 8, 7),),
        lambda b, x: b.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2]),
        lambda x: F.max_pool2d(x, 3, 2),
    ),
    "largest of windows side by side": Case(
        ((1, 3, 4, 6),),
        lambda b, x: b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]),
        lambda x: F.max_pool2d(x, 2, 2),
    ),
    "largest of windows that are all alike": Case(
        ((1, 2, 1, 1),),
        lambda b, x: b.op(
            "MaxPool", b.op("Expand", x, row(b, 1, 2, 5, 4)), kernel_shape=[3, 2], strides=[2, 2]
        ),
        lambda x: F.max_pool2d(x.expand(1, 2, 5, 4), (3, 2), 2),
    ),
}

# With a constant kernel: depthwise, strided, transposed.
KERNEL = np.random.default_rng(9).standard_normal((3, 1, 4, 2)).astype(np.float32)
CONSTANT_KERNELS: dict[str, Case] = {
    "depthwise filter": Case(
        ((1, 3, 6, 5),),
        lambda b, x: b.conv(x, b.constant("k", KERNEL), padding=(1, 0), group=3),
        lambda x: F.conv2d(x, torch.from_numpy(KERNEL), padding=(1, 0), groups=3),
    ),
    "zero insertion and filter": Case(
        ((1, 3, 4, 4),),
        lambda b, x: b.conv_transpose(
            x, b.constant("k", KERNEL[..., :1].repeat(4, -1)), 4, stride=2, padding=1, group=3
        ),
        lambda x: F.conv_transpose2d(
            x, torch.from_numpy(KERNEL[..., :1].repeat(4, -1)), stride=2, padding=1, groups=3
        ),
    ),
    "dense": Case(
        ((1, 1, 6, 5),),
        lambda b, x: b.conv(x, b.constant("k", KERNEL)),
        lambda x: F.conv2d(x, torch.from_numpy(KERNEL)),
    ),
}


def forward_graph(case: Case) -> ir.Model:
    b = GraphBuilder("forward")
    inputs = [b.input(f"x{n}", shape) for n, shape in enumerate(case.shapes)]
    forward = case.nodes(b, *inputs)
    b.output("y", forward, case.reference(*(torch.ones(s) for s in case.shapes)).shape)
    return with_shapes(b.build())


def adjoint_graph(forward: ir.Model) -> ir.Model:
    """Inputs of the forward graph and dy -> dx of each of them."""
    b = GraphBuilder("adjoint")
    inputs = {str(v.name): b.input(str(v.name), shape_of(v)) for v in forward.graph.inputs}
    values = inline(b, forward, inputs)
    cotangent = b.input("dy", shape_of(forward.graph.outputs[0]))
    gradients = pull_back(b, {values["y"]: cotangent}, list(inputs.values()))
    for (name, value), gradient in zip(inputs.items(), gradients, strict=True):
        b.output(f"d{name}", gradient, shape_of(value))
    return prune(b.build())


def run(model: ir.Model, path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    save_model(model, path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # the graphs are small
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    fed = {i.name: inputs[i.name] for i in session.get_inputs()}
    return dict(zip(names, session.run(names, fed), strict=True))


@pytest.mark.parametrize("name", [*CASES, *CONSTANT_KERNELS])
def test_rule_equals_autograd(name: str, tmp_path: Path) -> None:
    case = {**CASES, **CONSTANT_KERNELS}[name]
    random = np.random.default_rng(len(name))
    arrays = [random.standard_normal(shape).astype(np.float32) for shape in case.shapes]
    if case.positive:
        arrays = [np.abs(array) + np.float32(0.5) for array in arrays]
    tensors = [torch.from_numpy(array).requires_grad_() for array in arrays]
    forward = case.reference(*tensors)
    cotangent = random.standard_normal(tuple(forward.shape)).astype(np.float32)
    forward.backward(torch.from_numpy(cotangent))
    inputs = {f"x{n}": array for n, array in enumerate(arrays)} | {"dy": cotangent}
    gradients = run(adjoint_graph(forward_graph(case)), tmp_path / "adjoint.onnx", inputs)
    for n, tensor in enumerate(tensors):
        expected = tensor.grad.numpy()
        assert gradients[f"dx{n}"].shape == expected.shape
        error = np.abs(gradients[f"dx{n}"] - expected).max()
        assert error <= TOLERANCE * max(1, np.abs(expected).max()), f"input {n}"


LONG = (1, 8, 256, 256)


@pytest.mark.parametrize(
    ("shapes", "nodes", "of"),
    [
        ((LONG, (1, 8, 1, 1)), lambda b, x, s: b.op("Mul", x, s), "dx1"),
        (
            (LONG, (8,), (8,)),
            lambda b, x, s, c: b.op("InstanceNormalization", x, s, c, epsilon=1e-2),
            "dx2",
        ),
        ((LONG, (8, 8, 1, 1), (8,)), lambda b, x, k, c: b.conv(x, k, c), "dx2"),
    ],
    ids=["style", "instance_norm", "bias"],
)
def test_sums_over_pixels_are_exact(
    shapes: tuple[tuple[int, ...], ...], nodes: Builder, of: str, tmp_path: Path
) -> None:
    """Of 65,536 numbers: within 3e-7. Added one after another they are wrong by 1e-6."""
    random = np.random.default_rng(0)
    arrays = {f"x{n}": np.ones(shape, np.float32) for n, shape in enumerate(shapes)}
    cotangent = random.random(LONG, np.float32)
    graph = adjoint_graph(forward_graph(Case(shapes, nodes, lambda x, *_: x)))
    gradient = run(graph, tmp_path / "adjoint.onnx", arrays | {"dy": cotangent})[of]
    expected = cotangent.sum((0, 2, 3), np.float64)
    assert np.abs(gradient.ravel() / expected - 1).max() <= 3e-7


def test_sums_over_channels_are_products(tmp_path: Path) -> None:
    """Of a noise map's gradient: ONNX Runtime's own sum takes ten times as long."""
    shapes = (LONG, (1, 1, *LONG[2:]))
    graph = adjoint_graph(forward_graph(Case(shapes, lambda b, x, n: b.op("Add", x, n), torch.add)))
    assert "ReduceSum" not in {node.op_type for node in graph.graph}
    arrays = {f"x{n}": np.zeros(shape, np.float32) for n, shape in enumerate(shapes)}
    cotangent = np.random.default_rng(0).standard_normal(LONG, np.float32)
    gradient = run(graph, tmp_path / "adjoint.onnx", arrays | {"dy": cotangent})["dx1"]
    assert gradient.shape == shapes[1]
    assert np.abs(gradient - cotangent.sum(1, np.float64, keepdims=True)).max() <= 2e-6


def test_short_axes_are_summed_together(tmp_path: Path) -> None:
    """Of a kernel's factor: ONNX Runtime takes longer for one axis of 3 than for 3 x 3."""
    shapes = ((128, 8, 3, 3), (1, 8, 1, 1))
    graph = adjoint_graph(forward_graph(Case(shapes, lambda b, x, s: b.op("Mul", x, s), torch.mul)))
    sums = [node for node in graph.graph if node.op_type == "ReduceSum"]
    axes = [node.inputs[1].const_value.numpy().tolist() for node in sums]
    assert axes == [[2, 3], [0]]
    random = np.random.default_rng(0)
    arrays = {f"x{n}": np.ones(shape, np.float32) for n, shape in enumerate(shapes)}
    cotangent = random.standard_normal(shapes[0], np.float32)
    gradient = run(graph, tmp_path / "adjoint.onnx", arrays | {"dy": cotangent})["dx1"]
    expected = cotangent.sum((0, 2, 3), np.float64, keepdims=True)
    assert np.abs(gradient - expected).max() <= 5e-5  # of sums of 1152 numbers


def test_a_kernel_of_one_pixel_reads_maps_as_they_are() -> None:
    """Nothing is cut out of a map that is read whole: that would copy it."""
    shapes = ((1, 4, 6, 5), (3, 4, 1, 1))
    graph = adjoint_graph(forward_graph(Case(shapes, conv(padding=0), F.conv2d)))
    assert not {"Slice", "Pad"} & {node.op_type for node in graph.graph}


def test_the_rules_are_those_that_are_tested() -> None:
    from hyperstyle_export.adjoint.pull_back import ALL_RULES

    used = {
        n.op_type
        for case in {**CASES, **CONSTANT_KERNELS}.values()
        for n in forward_graph(case).graph
    }
    assert set(ALL_RULES) - used <= {"Identity"}


def test_no_rule_is_an_error_that_names_the_operator() -> None:
    case = Case(((2, 2),), lambda b, x: b.op("Erf", x), torch.erf)
    with pytest.raises(ValueError, match=r"Erf .* no rule"):
        adjoint_graph(forward_graph(case))


def test_what_no_output_depends_on_is_an_error() -> None:
    case = Case(((2,), (2,)), lambda b, x, y: b.op("Neg", x), lambda x, y: -x)
    b = GraphBuilder("adjoint")
    inputs = {name: b.input(name, [2]) for name in ("x0", "x1")}
    values = inline(b, forward_graph(case), inputs)
    with pytest.raises(ValueError, match="x1"):
        pull_back(b, {values["y"]: b.input("dy", [2])}, [inputs["x1"]])


def test_nothing_is_made_for_what_is_not_wanted() -> None:
    """A constant operand's gradient, and all before it, is left out."""
    b = GraphBuilder("adjoint")
    x, k = b.input("x", [1, 2, 4, 4]), b.input("k", [2, 2, 3, 3])
    case = Case(((1, 2, 4, 4), (2, 2, 3, 3)), conv(), lambda x, w: F.conv2d(x, w, padding=1))
    values = inline(b, forward_graph(case), {"x0": x, "x1": k})
    (gradient,) = pull_back(b, {values["y"]: b.input("dy", [1, 2, 4, 4])}, [x])
    b.output("dx", gradient, [1, 2, 4, 4])
    model = prune(b.build())
    assert "Gemm" not in {node.op_type for node in model.graph}
    assert [value.name for value in model.graph.inputs] == ["k", "dy"]


def test_a_shape_that_is_not_fixed_is_an_error() -> None:
    b = GraphBuilder("forward")
    b.output("y", b.op("Neg", b.input("x", ["batch", 2])), ["batch", 2])
    with pytest.raises(ValueError, match="not fixed"):
        with_shapes(b.build())
