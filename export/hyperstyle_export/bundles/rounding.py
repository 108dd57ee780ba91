"""What a GPU's half precision does to a graph, shown on a CPU.

ONNX Runtime's CPU provider has no fp16 convolution: it computes in float32 and removes the casts
between neighbours, so that an fp16 graph neither rounds nor overflows there, even with all its
optimisations switched off. In a graph rewritten here every half tensor is really rounded: what an
operator gives is what a GPU gives that multiplies halves and adds in float32, as tensor cores do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx
from hyperstyle_rt.backends.ort import OnnxRuntimeBackend
from hyperstyle_rt.formats.bundle import Bundle
from onnx import TensorProto, helper, numpy_helper


def round_half_tensors(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite an fp16 graph: float32 operators, every half result cast to fp16 and back.

    Inputs and outputs keep their names and types. The model must hold its weights; it is changed
    in place and returned.
    """
    graph = model.graph
    half = _half_values(model)
    single: dict[str, str] = {}  # half value -> its name in float32
    for initializer in graph.initializer:
        if initializer.data_type == TensorProto.FLOAT16:
            widened = numpy_helper.to_array(initializer).astype("float32")
            initializer.CopyFrom(numpy_helper.from_array(widened, initializer.name))
    nodes = []
    for value in graph.input:
        if value.name in half:
            single[value.name] = f"{value.name}/single"
            nodes.append(_cast(value.name, single[value.name], TensorProto.FLOAT))
    for node in graph.node:
        node.input[:] = [single.get(name, name) for name in node.input]
        nodes += _rounded(node, half, single)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return model


def _half_values(model: onnx.ModelProto) -> set[str]:
    """Names of the inputs and results of type fp16."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    return {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT16}


def _rounded(
    node: onnx.NodeProto, half: set[str], single: dict[str, str]
) -> Iterator[onnx.NodeProto]:
    """A node with one output, and the casts that round it if that was a half."""
    (output,) = node.output
    if output not in half:
        yield node
        return
    if node.op_type == "Cast":  # the rounding itself
        yield node
    else:
        node.output[0] = f"{output}/exact"
        yield node
        yield _cast(node.output[0], output, TensorProto.FLOAT16)
    single[output] = f"{output}/single"
    yield _cast(output, single[output], TensorProto.FLOAT)


def _cast(source: str, target: str, dtype: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=dtype)


class RoundedHalfBackend(OnnxRuntimeBackend):
    """The CPU provider on the fp16 graphs of a bundle, each rewritten as it is opened.

    Raises
    ------
    BundleError
        If the bundle has no fp16 graphs, or one is altered.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        self._rounded = tempfile.TemporaryDirectory(prefix="hyperstyle-rt-")
        super().__init__(bundle, "cpu", threads, "fp16")

    @property
    def provider(self) -> str:
        """What runs the graphs."""
        return f"{super().provider}, every fp16 tensor rounded"

    def _graph(self, role: str) -> Path:
        source = super()._graph(role)
        if role not in self._bundle.manifest.precisions[self.precision]:
            return source
        path = Path(self._rounded.name) / f"{role}.onnx"
        model = round_half_tensors(onnx.load(source))
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")
        return path
