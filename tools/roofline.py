#!/usr/bin/env python
"""What a GPU could do at best on a bundle's graphs: the figures of docs/gpu.md.

Counts multiplications and bytes of every convolution and matrix product; whatever lies between two
of them is taken to be fused, and free. A node takes at least the longer of its arithmetic at the
GPU's peak and its bytes at the memory's; a graph takes the sum.

    python tools/roofline.py engines/faces --precision fp16
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import onnx
import typer

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "runtime"))

from hyperstyle_rt.formats.bundle import Bundle, find_bundle

ROLES = ("encoder", "hypernet", "weights", "generator")
HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Gpu:
    """Peaks of NVIDIA's data sheets: dense fp16 tensor-core operations and bytes per second."""

    name: str
    operations: float
    bandwidth: float


GPUS = (
    Gpu("T4", 65e12, 320e9),
    Gpu("L4", 121e12, 300e9),
    Gpu("A100 40 GB", 312e12, 1555e9),
    Gpu("H100 SXM", 989e12, 3350e9),
)


@dataclass(frozen=True)
class Work:
    """A node's multiply-accumulates, and the bytes it reads and writes at least."""

    macs: int
    size: int

    def seconds(self, gpu: Gpu) -> float:
        """The shortest time a GPU can take for it."""
        return max(2 * self.macs / gpu.operations, self.size / gpu.bandwidth)


def count(model: onnx.ModelProto) -> list[Work]:
    """Work of every convolution and matrix product for a batch of one."""
    for value in [*model.graph.input, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes: dict[str, list[int]] = {t.name: list(t.dims) for t in graph.initializer}
    types = {t.name: t.data_type for t in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        tensor = value.type.tensor_type
        shapes[value.name] = [dim.dim_value for dim in tensor.shape.dim]
        types[value.name] = tensor.elem_type

    def size(name: str) -> int:
        width = 2 if types[name] == onnx.TensorProto.FLOAT16 else 4
        return math.prod(shapes[name]) * width

    works = []
    for node in graph.node:
        if node.op_type in HEAVY:
            names = [name for name in [*node.input, *node.output] if name]
            works.append(Work(_macs(node, shapes), sum(size(name) for name in names)))
    return works


def _macs(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """Every output is a sum over the kernel; of a transposed convolution every input is spread."""
    kernel, out = shapes[node.input[1]], shapes[node.output[0]]
    if node.op_type == "Conv":
        return math.prod(out) * math.prod(kernel[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(shapes[node.input[0]]) * math.prod(kernel[1:])
    inner = shapes[node.input[0]][-1]
    return math.prod(out) * inner


def table(bundle: Bundle, precision: str) -> str:
    """Markdown: work per graph, and the shortest time per graph and inversion in milliseconds."""
    iterations = bundle.manifest.method().iterations
    header = ["stage", "GMAC", "MB", *(gpu.name for gpu in GPUS)]
    lines = [" | ".join(header), " | ".join(["---"] + ["---:"] * (len(header) - 1))]
    total = [0.0] * len(GPUS)
    for role in ROLES:
        path = bundle.verified_path(role, precision)
        works = count(onnx.load(path, load_external_data=False))
        times = [1e3 * sum(work.seconds(gpu) for work in works) for gpu in GPUS]
        runs = {"encoder": 1, "hypernet": iterations}.get(role, iterations + 1)
        total = [t + runs * time for t, time in zip(total, times, strict=True)]
        macs, size = (sum(getattr(work, key) for work in works) for key in ("macs", "size"))
        cells = [role, f"{macs / 1e9:.1f}", f"{size / 1e6:.0f}", *(f"{t:.2f}" for t in times)]
        lines.append(" | ".join(cells))
    inversion = [f"inversion, {iterations} iterations", "", "", *(f"{t:.1f}" for t in total)]
    lines.append(" | ".join(inversion))
    return "\n".join(f"| {line} |" for line in lines)


def main(
    bundle: Annotated[str | None, typer.Argument(help="Directory or name; default: embedded.")] = (
        None
    ),
    precision: Annotated[str, typer.Option(help="fp32 or fp16.")] = "fp16",
) -> None:
    """Print the table."""
    typer.echo(table(Bundle.open(find_bundle(bundle)), precision))


if __name__ == "__main__":
    typer.run(main)
