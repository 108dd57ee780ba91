"""What a GPU's half precision does to a graph, shown on a CPU.

ONNX Runtime's CPU provider has no fp16 convolution: it computes in float32 and removes the casts
between neighbours, so that an fp16 graph neither rounds nor overflows there, even with all its
optimisations switched off. In a graph rewritten here every half tensor is really rounded: what an
operator gives is what a GPU gives that multiplies halves and adds in float32, as tensor cores do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from hyperstyle_rt.files import sha256
from hyperstyle_rt.formats.bundle import DATA_SUFFIX, Bundle
from hyperstyle_rt.formats.manifest_entries import BundleFile, GraphFile
from onnx import TensorProto, helper, numpy_helper

from .writer import data_files, write_manifest


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


@contextmanager
def rounded_half(bundle: Bundle) -> Iterator[Bundle]:
    """Give :func:`write_rounded_half` in a directory beside the bundle, which is then removed.

    It may take more room than the bundle: gigabytes, that the system's own temporary directory may
    not have.
    """
    with TemporaryDirectory(prefix=".hyperstyle-rt-", dir=bundle.directory.parent) as directory:
        yield write_rounded_half(bundle, Path(directory))


def write_rounded_half(bundle: Bundle, directory: Path) -> Bundle:
    """Write a bundle whose fp16 graphs are those of `bundle` with every half really rounded.

    Parameters
    ----------
    directory:
        An empty directory. The other files become links into `bundle`.

    Returns
    -------
    Bundle
        To be opened on the CPU with precision ``fp16``; its kernels are halves as before.

    Raises
    ------
    BundleError
        If a graph is altered.
    """
    manifest = bundle.manifest
    files, graphs = dict(manifest.files), {}
    for role, graph in manifest.precisions.get("fp16", {}).items():
        model = round_half_tensors(onnx.load(bundle.verified_path(role, "fp16")))
        path = directory / graph.file
        data = f"{graph.file}{DATA_SUFFIX}"
        onnx.save(model, path, save_as_external_data=True, location=data)
        graphs[role] = GraphFile(graph.file, data_files(path))
        for name in (graph.file, *graphs[role].data):
            written = directory / name
            files[name] = BundleFile(sha256(written), written.stat().st_size, "fp32")
    for name in files:
        if not (directory / name).exists():
            (directory / name).symlink_to(bundle.directory / name)
    write_manifest(directory, replace(manifest, files=files, precisions={"fp16": graphs}, plans={}))
    return Bundle.open(directory)
