"""pSp, e4e, ReStyle and IDInvert: the runtime against their networks as published, in torch.

All run in processes of their own, on the same weights and the same picture, turn by turn: from the
target to the picture that its latents give. ReStyle does five iterations from the average latents,
which all have rendered before, as the published code does. The figures are medians of CPU
seconds, which other work on the machine does not change much, and of seconds, peak memory, and how
they compare with those of torch.

    python -m benchmarking.encoders --type ProgressiveBackboneEncoder --size 256
    python -m benchmarking.encoders --backend cpu,openvino,openvino-bf16 --threads 2
    python -m benchmarking.encoders --type IDInvert --threads 2
    python -m benchmarking.encoders --file restyle_e4e_ffhq_encode.pt
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from hyperstyle_rt.cli.outputs import check_writable, write_report
from hyperstyle_rt.errors import HyperStyleError
from mistakes import one_sentence
from rich.console import Console
from rich.table import Table

from .inversion import Contender, Seconds, Unavailable, picture_input, picture_u8

ITERATIONS = 5  # of ReStyle
IDINVERT = "IDInvert"
TORCH = "torch"


def torch_encoder(file: Path, threads: int = 1) -> Callable[[], Seconds]:
    """The reference: the encoder, and the generator as one grouped convolution per layer."""
    import torch
    from hyperstyle_export.readers.encoders import EncoderSource
    from hyperstyle_export.readers.family import Sources, load_family

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    family = load_family(Sources(encoders=(EncoderSource(file),)))
    (method,) = family.encoders.values()
    model = family.model
    x = torch.from_numpy(picture_input(model.config.input_size))
    average = method.latent_avg[None]
    _, rendered = model.generate(average)

    def run() -> Seconds:
        start = time.process_time()
        if not method.kind.is_iterative:
            model.generate(method.encode(x))
            return {"cpu": time.process_time() - start}
        latents, reconstruction = average, rendered
        for _ in range(ITERATIONS):
            latents = method.refine(x, reconstruction, latents)
            _, reconstruction = model.generate(latents)
        return {"cpu": time.process_time() - start}

    return run


def torch_idinvert(files: Mapping[str, Path], threads: int = 1) -> Callable[[], Seconds]:
    """The reference of IDInvert: its encoder and its generator."""
    import torch
    from hyperstyle_export.readers.idinvert import read_idinvert

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    model = read_idinvert(files["generator"], files["encoder"])
    side = model.encoder.config.resolution
    x = torch.from_numpy(picture_input((side, side)))

    def run() -> Seconds:
        start = time.process_time()
        model.generator.synthesis(model.encoder(x))
        return {"cpu": time.process_time() - start}

    return run


def runtime_encoder(bundle: Path, threads: int = 1, backend: str = "cpu") -> Callable[[], Seconds]:
    """The runtime on a backend, as `bench` names it.

    Raises
    ------
    Unavailable
        If the backend cannot be used here.
    """
    from hyperstyle_rt.checking.comparison import open_contender
    from hyperstyle_rt.formats.bundle import Bundle
    from hyperstyle_rt.model import Model

    opened = Bundle.open(bundle)
    try:
        model = Model(opened, open_contender(backend, opened, threads).backend)
    except HyperStyleError as error:
        raise Unavailable(str(error)) from error
    picture = picture_u8(model.bundle.manifest.input_size)

    def run() -> Seconds:
        start = time.process_time()
        model.invert(picture, align="never", effort="fast")
        return {"cpu": time.process_time() - start}

    return run


@one_sentence()
def main(
    encoder_type: Annotated[
        str, typer.Option("--type", help="Official class of the synthetic weights, or IDInvert.")
    ] = "Encoder4Editing",
    size: Annotated[int, typer.Option(help="Generator size of the synthetic weights.")] = 256,
    file: Annotated[Path | None, typer.Option(help="Checkpoint of an encoder.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each contender.")] = 1,
    backend: Annotated[str, typer.Option(help="Of the runtime, as `bench` names them.")] = "cpu",
    repeats: Annotated[int, typer.Option(min=1, help="Recorded turns.")] = 3,
    output: Annotated[Path | None, typer.Option("--json", help="Also write the figures.")] = None,
) -> None:
    """Compare time and memory of one encoder's inversions."""
    if output is not None:
        check_writable(output.parent, "--json")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = folder / "bundle"
        bundle.mkdir()
        if file is None and encoder_type == IDINVERT:
            described, reference = _write_idinvert(folder, bundle)
        else:
            described, reference = _write_encoder(folder, bundle, encoder_type, size, file)
        contenders = {
            TORCH: Contender(*reference, threads),
            **{
                name: Contender(runtime_encoder, bundle, threads, name)
                for name in backend.split(",")
            },
        }
        figures = {**described, "threads": threads, **compare(contenders, repeats)}
    Console(stderr=True).print(as_table(figures))
    if output is not None:
        write_report(output, figures)


def _write_encoder(
    folder: Path, bundle: Path, encoder_type: str, size: int, file: Path | None
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Write the bundle of an encoder; gives what it is, and how its reference is made."""
    from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
    from hyperstyle_export.networks.encoder_kinds import ENCODER_KINDS
    from hyperstyle_export.readers.encoders import EncoderSource
    from hyperstyle_export.readers.family import Sources, load_family
    from synthetic import encoder_config, official_generator, write_encoder

    if file is None:
        if encoder_type not in ENCODER_KINDS:
            known = ", ".join((*ENCODER_KINDS, IDINVERT))
            raise HyperStyleError(f"there is no encoder {encoder_type!r}; choose one of {known}")
        generator = official_generator(size)
        config = encoder_config(encoder_type, generator)
        file = write_encoder(folder / "encoder.pt", encoder_type, config, generator)
    family = load_family(Sources(encoders=(EncoderSource(file),)))
    facts = BundleFacts("benchmark")
    write_bundle(family.model, bundle, facts, "fp32", lambda _step: None, encoders=family.encoders)
    ((method, encoder),) = family.encoders.items()
    size = family.model.config.generator.resolution
    described = {"method": method, "body": encoder.kind.body, "size": size}
    return described, (torch_encoder, file)


def _write_idinvert(folder: Path, bundle: Path) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """The same for IDInvert, of the official size."""
    from hyperstyle_export.bundles.idinvert_writer import write_idinvert_bundle
    from hyperstyle_export.bundles.writer import BundleFacts
    from hyperstyle_export.readers.idinvert import read_idinvert
    from synthetic.idinvert import OFFICIAL, write_files

    files = write_files(folder, OFFICIAL)
    model = read_idinvert(files["generator"], files["encoder"])
    write_idinvert_bundle(model, bundle, BundleFacts("benchmark"), "fp32", lambda _step: None)
    described = {"method": "idinvert", "body": "residual", "size": OFFICIAL.generator.resolution}
    return described, (torch_idinvert, files)


def compare(contenders: Mapping[str, Contender], repeats: int) -> dict[str, Any]:
    """Alternate the contenders' inversions; medians, peaks and ratios to torch's."""
    for contender in contenders.values():
        contender.run()
    for _ in range(repeats):
        for contender in contenders.values():
            contender.record()
    kinds = ("cpu", "inversion")
    medians = {
        name: {kind: statistics.median(run[kind] for run in contender.runs) for kind in kinds}
        for name, contender in contenders.items()
    }
    peaks = {name: contender.stop() for name, contender in contenders.items()}
    return {
        "contenders": {
            name: {
                "cpu_seconds": found["cpu"],
                "seconds": found["inversion"],
                "peak_bytes": peaks[name],
                "times_as_fast": {kind: medians[TORCH][kind] / found[kind] for kind in kinds},
                "memory_ratio": peaks[name] / peaks[TORCH],
            }
            for name, found in medians.items()
        }
    }


def as_table(figures: dict[str, Any]) -> Table:
    """The figures for a terminal, and in brackets how they compare with torch's."""
    threads = figures["threads"]
    title = (
        f"{figures['method']} ({figures['body']}), {figures['size']} px, "
        f"{'one thread' if threads == 1 else f'{threads} threads'}"
    )
    table = Table(title=title)
    for column in ("", "CPU s", "s", "peak memory, GB"):
        table.add_column(column, justify="right" if column else "left")
    for name, found in figures["contenders"].items():
        ratio = found["times_as_fast"]
        table.add_row(
            name,
            f"{found['cpu_seconds']:.2f} ({ratio['cpu']:.2f} x)",
            f"{found['seconds']:.2f} ({ratio['inversion']:.2f} x)",
            f"{found['peak_bytes'] / 1e9:.2f} ({found['memory_ratio']:.2f})",
        )
    return table


if __name__ == "__main__":
    typer.run(main)
