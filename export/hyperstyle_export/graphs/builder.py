"""A thin layer over onnx-ir for writing a graph node by node.

The graphs are written directly rather than traced: the number of nodes, the names, the constants
that are folded and the operators NVIDIA's parser wants to see are then ours to decide, and building
the 1.3 GB hypernetwork takes seconds. Every graph is tested against its torch reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
from hyperstyle_rt.types import Array
from numpy.typing import NDArray
from torch import Tensor

OPSET = 18
IR_VERSION = 10
BATCH = "batch"
EXTERNAL_ABOVE = 1 << 20  # bytes of weights that stay in the graph's own file
SMALLEST_EXTERNAL = 1024  # bytes of a tensor in a data file
SMALLEST_HALF = np.float32(2.0**-24)  # the smallest subnormal number

Dim = int | str
Precision = Literal["fp32", "fp16"]
"""Type of the large tensors of a graph; inputs, outputs and whatever is small stay float32."""

State = Mapping[str, Tensor]
"""Tensors of the reference networks under their checkpoint keys."""


def to_array(tensor: Tensor) -> Array:
    """A float32 view or copy of a parameter."""
    return tensor.float().numpy()


class GraphBuilder:
    """Collects the nodes, inputs, outputs and initializers of one graph.

    Precision is explicit, because TensorRT 11 knows no other: `to_compute` and `to_float` mark
    where a graph enters and leaves its compute type, and add nothing to a graph of fp32.
    """

    def __init__(self, name: str, precision: Precision = "fp32") -> None:
        self.name = name
        self.compute_type = ir.DataType.FLOAT16 if precision == "fp16" else ir.DataType.FLOAT
        self._tape = ir.tape.Tape()
        self._inputs: list[ir.Value] = []
        self._outputs: list[ir.Value] = []
        self._initializers: dict[str, ir.Value] = {}
        self._scope = name
        self._count = 0

    def scoped(self, scope: str) -> GraphBuilder:
        """Name what is built from here on after a layer of the checkpoint."""
        self._scope = scope
        return self

    def input(self, name: str, shape: Sequence[Dim]) -> ir.Value:
        """Declare a float32 graph input."""
        return self._input(name, shape, ir.DataType.FLOAT)

    def compute_input(self, name: str, shape: Sequence[Dim]) -> ir.Value:
        """Declare a graph input of the compute type."""
        return self._input(name, shape, self.compute_type)

    def _input(self, name: str, shape: Sequence[Dim], dtype: ir.DataType) -> ir.Value:
        value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
        self._inputs.append(value)
        return value

    def output(self, name: str, value: ir.Value, shape: Sequence[Dim]) -> None:
        """Declare `value` a float32 graph output under `name`."""
        self._output(name, value, shape, ir.DataType.FLOAT)

    def compute_output(self, name: str, value: ir.Value, shape: Sequence[Dim]) -> None:
        """Declare `value` a graph output of the compute type under `name`."""
        self._output(name, value, shape, self.compute_type)

    def _output(self, name: str, value: ir.Value, shape: Sequence[Dim], dtype: ir.DataType) -> None:
        if value in self._inputs or value in self._outputs:
            value = self.op("Identity", value)
        value.name = name
        value.type = ir.TensorType(dtype)
        value.shape = ir.Shape(shape)
        self._outputs.append(value)

    def to_compute(self, x: ir.Value) -> ir.Value:
        """Round a float32 tensor to the compute type."""
        return self._cast(x, self.compute_type)

    def to_float(self, x: ir.Value) -> ir.Value:
        """Widen a tensor of the compute type to float32."""
        return self._cast(x, ir.DataType.FLOAT)

    def _cast(self, x: ir.Value, dtype: ir.DataType) -> ir.Value:
        if self.compute_type == ir.DataType.FLOAT:
            return x
        return self.op("Cast", x, to=int(dtype))

    def constant(self, name: str, array: NDArray[Any]) -> ir.Value:
        """An initializer; asking for the same name again gives the same one."""
        if name not in self._initializers:
            array = array.astype(np.float32) if array.dtype == np.float64 else array
            tensor = ir.Tensor(np.require(array, requirements="C"), name=name)
            value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), const_value=tensor)
            value.shape = ir.Shape(array.shape)
            self._initializers[name] = value
        return self._initializers[name]

    def compute_constant(self, name: str, array: Array) -> ir.Value:
        """An initializer of the compute type.

        Raises
        ------
        ValueError
            If a value is too large for it.
        """
        if self.compute_type == ir.DataType.FLOAT16:
            return self.constant(name, to_half(name, array))
        return self.constant(name, array)

    def integers(self, *values: int) -> ir.Value:
        """A 1-D int64 constant: axes, shapes, indices."""
        name = "i64_" + "_".join(str(v) for v in values).replace("-", "m")
        return self.constant(name, np.array(values, np.int64))

    def scalar(self, value: float) -> ir.Value:
        """A 0-D float32 constant."""
        return self.constant(f"f32_{value:.9g}", np.array(value, np.float32))

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: object) -> ir.Value:
        """Append a node with one output and return that output."""
        name = f"{self._scope}/{op_type}_{self._count}"
        self._count += 1
        given = {key: _attribute(key, value) for key, value in attributes.items()}
        value = self._tape.op(op_type, inputs, given, name=name)
        value.name = f"{name}:0"
        return value

    def conv(
        self,
        x: ir.Value,
        weight: ir.Value,
        bias: ir.Value | None = None,
        *,
        stride: int | tuple[int, int] = 1,
        padding: tuple[int, int] = (0, 0),
        group: int = 1,
    ) -> ir.Value:
        """2-D convolution; writes `kernel_shape`, as TensorRT wants where a kernel is an input."""
        strides = [stride, stride] if isinstance(stride, int) else list(stride)
        vertical, horizontal = padding
        inputs = [x, weight] + ([bias] if bias is not None else [])
        return self.op(
            "Conv",
            *inputs,
            kernel_shape=kernel_shape(weight),
            strides=strides,
            pads=[vertical, horizontal, vertical, horizontal],
            group=group,
        )

    def conv_transpose(
        self,
        x: ir.Value,
        weight: ir.Value,
        kernel_size: int,
        *,
        stride: int,
        padding: int = 0,
        group: int = 1,
    ) -> ir.Value:
        """2-D transposed convolution; weight [I, O/group, k, k]."""
        return self.op(
            "ConvTranspose",
            x,
            weight,
            kernel_shape=[kernel_size, kernel_size],
            strides=[stride, stride],
            pads=[padding] * 4,
            group=group,
        )

    def reshape(self, x: ir.Value, *shape: int) -> ir.Value:
        """Reshape; 0 keeps an axis, -1 infers one."""
        return self.op("Reshape", x, self.integers(*shape))

    def mean_square(self, x: ir.Value) -> ir.Value:
        """Of all numbers, a scalar; of two axes at least."""
        return self.mean(self.op("Mul", x, x))

    def mean(self, x: ir.Value) -> ir.Value:
        """Of all numbers, a scalar; of two axes at least.

        Axis by axis: ONNX Runtime adds all numbers to eight sums, one after another, which for
        four million of them is wrong by 6e-5 of the mean.
        """
        for _ in range(2):
            x = self.op("ReduceMean", x, self.integers(-1), keepdims=0)
        return self.op("ReduceMean", x, keepdims=0)

    def index(self, value: int) -> ir.Value:
        """A 0-D int64 constant: a Gather that drops the axis."""
        return self.constant(f"i64_index_{value}", np.array(value, np.int64))

    def parameter(self, state: State, name: str) -> ir.Value:
        """A parameter as it is stored, in float32."""
        return self.constant(name, to_array(state[name]))

    def compute_parameter(self, state: State, name: str) -> ir.Value:
        """A parameter as it is stored, in the compute type."""
        return self.compute_constant(name, to_array(state[name]))

    def prelu(self, x: ir.Value, state: State, name: str) -> ir.Value:
        """Leaky ReLU with one learned slope per channel, in the compute type."""
        slope = to_array(state[f"{name}.weight"]).reshape(-1, 1, 1)
        return self.op("PRelu", x, self.compute_constant(f"{name}.weight", slope))

    def equal_linear(
        self, x: ir.Value, state: State, name: str, lr_mul: float = 1.0, gain: float = 1.0
    ) -> ir.Value:
        """Linear layer with equalised learning rate, times `gain`: [B,I] -> [B,O], in float32."""
        return self.op("Gemm", x, *self.equalised_linear(state, name, lr_mul, gain), transB=1)

    def equalised_linear(
        self, state: State, name: str, lr_mul: float = 1.0, gain: float = 1.0
    ) -> tuple[ir.Value, ir.Value]:
        """Weight [O,I] and bias [O] of such a layer."""
        weight = equalised(state[f"{name}.weight"], state[f"{name}.weight"].shape[1], lr_mul * gain)
        bias = (state[f"{name}.bias"].double() * (lr_mul * gain)).float().numpy()
        return self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)

    def build(self) -> ir.Model:
        """Give the finished model."""
        graph = ir.Graph(
            self._inputs,
            self._outputs,
            nodes=self._tape.nodes,
            initializers=list(self._initializers.values()),
            opset_imports={"": OPSET},
            name=self.name,
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="hyperstyle-rt")


def _attribute(name: str, value: object) -> Any:
    """An attribute of its kind; onnx-ir, if it is not told, looks through all kinds there are."""
    if isinstance(value, int):
        return ir.AttrInt64(name, value)
    if isinstance(value, float):
        return ir.AttrFloat32(name, value)
    if isinstance(value, list) and value and all(isinstance(each, int) for each in value):
        return ir.AttrInt64s(name, value)
    return value


def to_half(name: str, weight: Array) -> NDArray[np.float16]:
    """Round to fp16.

    A value too small for it becomes the smallest number instead of vanishing: a base weight must
    not be zero (see `base_weight`).

    Raises
    ------
    ValueError
        If a value is too large for it.
    """
    if np.abs(weight).max() > np.finfo(np.float16).max:
        raise ValueError(f"{name} does not fit into fp16")
    tiny = (weight != 0) & (np.abs(weight) < SMALLEST_HALF)
    return np.where(tiny, np.copysign(SMALLEST_HALF, weight), weight).astype(np.float16)


def kernel_shape(weight: ir.Value) -> list[int]:
    """The spatial shape of a kernel that is a graph input or a constant."""
    assert weight.shape is not None
    return [int(weight.shape[2]), int(weight.shape[3])]  # type: ignore[arg-type]


def equalised(weight: Tensor, fan_in: int, gain: float = 1.0) -> Array:
    """Fold the equalised learning rate gain / sqrt(fan_in) into a weight, in double precision."""
    return (weight.double() * (gain / math.sqrt(fan_in))).float().numpy()


def save_model(model: ir.Model, path: Path, external_above: int = EXTERNAL_ABOVE) -> list[Path]:
    """Write a model and check it; weights above `external_above` bytes in all go to `<path>.data`.

    Returns
    -------
    list of Path
        The files written: the graph, and its data file if there is one.
    """
    tensors = [v.const_value for v in model.graph.initializers.values() if v.const_value]
    sizes = [tensor.nbytes for tensor in tensors if tensor.nbytes > SMALLEST_EXTERNAL]
    data = path.with_name(path.name + ".data")
    external = sum(sizes) > external_above
    ir.save(
        model,
        path,
        external_data=data.name if external else None,
        size_threshold_bytes=SMALLEST_EXTERNAL,
    )
    onnx.checker.check_model(str(path), full_check=True)
    return [path, data] if external else [path]
