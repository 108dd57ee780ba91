"""pSp, e4e and ReStyle: the runtime against the networks in their published form in torch.

Both run in processes of their own, on the same weights and the same picture, turn by turn, one
thread each: from the target to the picture that its latents give. The figures are CPU seconds,
which other work on the machine does not change much, peak memory, and ratios.

    python -m benchmarking.encoders --type ProgressiveBackboneEncoder --size 256
    python -m benchmarking.encoders --file restyle_e4e_ffhq_encode.pt
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .inversion import Contender, Seconds, picture_input, picture_u8

ITERATIONS = 5  # of ReStyle


def torch_encoder(file: Path) -> Callable[[], Seconds]:
    """The reference: the encoder, and the generator as one grouped convolution per layer."""
    import torch
    from hyperstyle_export.readers.encoders import EncoderSource
    from hyperstyle_export.readers.family import Sources, load_family

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    family = load_family(Sources(encoders=(EncoderSource(file),)))
    (method,) = family.encoders.values()
    x = torch.from_numpy(picture_input(family.model.config.input_size))

    def run() -> Seconds:
        start = time.process_time()
        *_, latents = method.invert(family.model, x, ITERATIONS)
        family.model.generate(latents)
        return {"cpu": time.process_time() - start}

    return run


def runtime_encoder(bundle: Path) -> Callable[[], Seconds]:
    """The runtime on ONNX Runtime's CPU provider."""
    from hyperstyle_rt.model import Model

    model = Model.load(bundle, "cpu", threads=1)
    picture = picture_u8(model.bundle.manifest.input_size)

    def run() -> Seconds:
        start = time.process_time()
        model.invert(picture, align="never", effort="fast")
        return {"cpu": time.process_time() - start}

    return run


def main(
    encoder_type: Annotated[
        str, typer.Option("--type", help="Official class of the synthetic weights.")
    ] = "Encoder4Editing",
    size: Annotated[int, typer.Option(help="Generator size of the synthetic weights.")] = 256,
    file: Annotated[Path | None, typer.Option(help="Checkpoint of an encoder.")] = None,
    repeats: Annotated[int, typer.Option(help="Recorded inversions of each contender.")] = 3,
    output: Annotated[Path | None, typer.Option("--json", help="Also write the figures.")] = None,
) -> None:
    """Compare CPU time and memory of one encoder's inversions."""
    from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
    from hyperstyle_export.networks.config import GeneratorConfig
    from hyperstyle_export.readers.encoders import EncoderSource
    from hyperstyle_export.readers.family import Sources, load_family
    from synthetic import OFFICIAL_CHANNELS, encoder_config, write_encoder

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if file is None:
            generator = GeneratorConfig(OFFICIAL_CHANNELS[: size.bit_length() - 2])
            config = encoder_config(encoder_type, generator)
            file = write_encoder(folder / "encoder.pt", encoder_type, config, generator)
        family = load_family(Sources(encoders=(EncoderSource(file),)))
        bundle = folder / "bundle"
        bundle.mkdir()
        write_bundle(
            family.model,
            bundle,
            BundleFacts("benchmark"),
            "fp32",
            lambda _step: None,
            encoders=family.encoders,
        )
        (method,), size = family.encoders, family.model.config.generator.resolution
        del family
        figures = {"method": method, "size": size, **compare(file, bundle, repeats)}
    Console(stderr=True).print(as_table(figures))
    if output is not None:
        output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def compare(file: Path, bundle: Path, repeats: int) -> dict[str, Any]:
    """Alternate the contenders' inversions; medians, peaks and ratios."""
    contenders = {
        "torch": Contender(torch_encoder, file),
        "runtime": Contender(runtime_encoder, bundle),
    }
    for contender in contenders.values():
        contender.run()
    for _ in range(repeats):
        for contender in contenders.values():
            contender.record()
    seconds = {
        name: statistics.median(run["cpu"] for run in contender.runs)
        for name, contender in contenders.items()
    }
    peaks = {name: contender.stop() for name, contender in contenders.items()}
    return {
        "cpu_seconds": seconds,
        "peak_bytes": peaks,
        "times_as_fast": seconds["torch"] / seconds["runtime"],
        "memory_ratio": peaks["runtime"] / peaks["torch"],
    }


def as_table(figures: dict[str, Any]) -> Table:
    """The figures for a terminal."""
    table = Table(title=f"{figures['method']}, {figures['size']} px, one thread")
    for column in ("", "CPU s", "peak memory, GB"):
        table.add_column(column, justify="right" if column else "left")
    for name, seconds in figures["cpu_seconds"].items():
        table.add_row(name, f"{seconds:.2f}", f"{figures['peak_bytes'][name] / 1e9:.2f}")
    table.add_row("ratio", f"{figures['times_as_fast']:.2f} x", f"{figures['memory_ratio']:.2f}")
    return table


if __name__ == "__main__":
    typer.run(main)
