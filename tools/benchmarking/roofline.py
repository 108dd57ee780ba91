"""What a GPU could do at best on a bundle's graphs: the figures of docs/gpu.md.

Counts multiplications and bytes of every convolution and matrix product; whatever lies between two
of them is taken to be fused, and free. A node takes at least the longer of its arithmetic at the
GPU's peak and its bytes at the memory's; a graph takes the sum.

    python -m benchmarking.roofline engines/faces --precision fp16
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import onnx
import typer
from hyperstyle_export.graphs.costs import Work, work_of
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from mistakes import one_sentence


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


def seconds(work: Work, gpu: Gpu) -> float:
    """The shortest time a GPU can take for a node."""
    return max(2 * work.macs / gpu.operations, work.size / gpu.bandwidth)


def table(bundle: Bundle, precision: str, name: str | None = None) -> str:
    """Markdown: work per graph, and the shortest time per graph and inversion in milliseconds.

    Parameters
    ----------
    name:
        Of a method; None for the bundle's default.
    """
    method = bundle.manifest.method(name)
    runs = dict(method.graph_runs)
    rendering = [role for role in ("weights", "generator") if role in bundle.manifest.graphs]
    runs |= dict.fromkeys(rendering, method.renderings)
    header = ["stage", "GMAC", "MB", *(gpu.name for gpu in GPUS)]
    lines = [" | ".join(header), " | ".join(["---"] + ["---:"] * (len(header) - 1))]
    total = [0.0] * len(GPUS)
    for role, count in runs.items():
        path = bundle.verified_path(role, precision)
        works = work_of(onnx.load(path, load_external_data=False))
        times = [1e3 * sum(seconds(work, gpu) for work in works) for gpu in GPUS]
        total = [t + count * time for t, time in zip(total, times, strict=True)]
        macs, size = (sum(getattr(work, key) for work in works) for key in ("macs", "size"))
        cells = [role, f"{macs / 1e9:.1f}", f"{size / 1e6:.0f}", *(f"{t:.2f}" for t in times)]
        lines.append(" | ".join(cells))
    inversion = [f"inversion, {method.iterations} iterations", "", "", *(f"{t:.1f}" for t in total)]
    lines.append(" | ".join(inversion))
    return "\n".join(f"| {line} |" for line in lines)


@one_sentence()
def main(
    bundle: Annotated[str | None, typer.Argument(help="Directory or name; default: embedded.")] = (
        None
    ),
    precision: Annotated[str, typer.Option(help="fp32 or fp16.")] = "fp16",
    method: Annotated[str | None, typer.Option(help="By name; default: the bundle's.")] = None,
) -> None:
    """Print the table."""
    typer.echo(table(Bundle.open(find_bundle(bundle)), precision, method))


if __name__ == "__main__":
    typer.run(main)
