"""Runtime against the torch reference in its published form: time and peak memory, side by side.

The reference runs as it is in fp32, under `torch.autocast("cpu", bfloat16)`, and through
`torch.compile` where there is a compiler; the runtime on ONNX Runtime's CPU provider, and with
--backend on others, as `hyperstyle-rt bench` names them. All run in processes of their own, on the
same weights and the same picture, turn by turn; the figures are medians and their ratios to the
runtime's. Without --checkpoint the weights are synthetic, in any official size. The reference's FIR
filter is the one-channel convolution of rosinality's CPU form.

    python tools/benchmark.py --size 1024
    python tools/benchmark.py --size 1024 --backend openvino,openvino-bf16
    python tools/benchmark.py --checkpoint hyperstyle.pt --w-encoder w_encoder.pt --json out.json
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from hyperstyle_rt.cli.outputs import check_writable, write_report
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import make_directory
from mistakes import one_sentence
from processes import how_it_ended, peak_memory
from rich.console import Console
from rich.table import Table

ITERATIONS = 5
STAGES = ("encoder", "hypernet", "generator")
Seconds = dict[str, float]

RUNTIME = "runtime"
Form = Literal["torch", "torch half", "torch compiled"]
FORMS: tuple[Form, ...] = ("torch", "torch half", "torch compiled")
"""How the reference runs: eager in fp32, under autocast (bfloat16; fp16 on a GPU), compiled."""


def measure(times: Seconds, stage: str, function: Callable[[], Any]) -> Any:
    """Run `function`, adding its seconds to a stage's."""
    start = time.perf_counter()
    result = function()
    times[stage] = times.get(stage, 0.0) + time.perf_counter() - start
    return result


class Unavailable(HyperStyleError):
    """A contender cannot run here; the message is a sentence that says why."""


def torch_inversion(
    checkpoint: Path, w_encoder: Path, threads: int, form: Form = "torch", device: str = "cpu"
) -> Callable[[], Seconds]:
    """The reference: offsets expanded every iteration, one grouped convolution per layer.

    Parameters
    ----------
    device:
        Of torch; results are waited for on it.

    Raises
    ------
    Unavailable
        If it is to be compiled and there is no compiler.
    """
    import torch
    from hyperstyle_export.readers.official import load_model

    if form == "torch compiled":
        require_compiler()
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    model = load_model(checkpoint, w_encoder).to(device)
    x = torch.from_numpy(picture_input(model.config.input_size)).to(device)
    networks: list[Callable[..., Any]] = [model.encode, model.hypernet, model.generate]
    if form == "torch compiled":
        networks = [torch.compile(network) for network in networks]
    encode, hypernet, generate = networks
    kind = torch.device(device).type
    half = torch.bfloat16 if kind == "cpu" else torch.float16

    def waited(function: Callable[..., Any], *args: Any) -> Any:
        result = function(*args)
        if kind == "cuda":
            torch.cuda.synchronize()
        return result

    def run() -> Seconds:
        times: Seconds = {}
        with torch.autocast(kind, half, enabled=form == "torch half"):
            latents = measure(times, "encoder", partial(waited, encode, x))
            _, y = measure(times, "generator", partial(waited, generate, latents))
            total: dict[int, torch.Tensor] = {}
            for _ in range(ITERATIONS):
                new = measure(times, "hypernet", partial(waited, hypernet, x, y))
                total = {i: total[i] + d for i, d in new.items()} if total else new
                _, y = measure(times, "generator", partial(waited, generate, latents, total))
        return times

    return run


def require_compiler() -> None:
    """Refuse to compile where torch finds no C++ compiler.

    Raises
    ------
    Unavailable
        If it finds none.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        found = shutil.which(get_cpp_compiler())
    except Exception as error:  # torch raises its own types, which change
        raise Unavailable(f"torch finds no C++ compiler ({type(error).__name__})") from error
    if found is None:
        raise Unavailable("torch finds no C++ compiler; install g++ or name one in CXX")


def runtime_inversion(bundle: Path, threads: int, backend: str = "cpu") -> Callable[[], Seconds]:
    """The runtime on a backend, as `bench` names it; `weights` counts as the hypernetwork's.

    Raises
    ------
    Unavailable
        If the backend cannot be used here.
    """
    from hyperstyle_rt.checking.comparison import open_contender
    from hyperstyle_rt.checking.timing import TimedBackend
    from hyperstyle_rt.formats.bundle import Bundle
    from hyperstyle_rt.model import Model

    opened = Bundle.open(bundle)
    try:
        watched = open_contender(backend, opened, threads).backend
    except HyperStyleError as error:
        raise Unavailable(str(error)) from error
    times: Seconds = {}

    def add(role: str, seconds: float) -> None:
        stage = "hypernet" if role == "weights" else role
        times[stage] = times.get(stage, 0.0) + seconds

    model = Model(opened, TimedBackend(watched, add))
    picture = picture_u8(opened.manifest.input_size)

    def run() -> Seconds:
        times.clear()
        model.invert(picture, ITERATIONS, align="never")
        return dict(times)

    return run


def picture_u8(size: tuple[int, int]) -> np.ndarray:
    import fakeweights

    return fakeweights.image_u8(1, *size)


def picture_input(size: tuple[int, int]) -> np.ndarray:
    import fakeweights

    return fakeweights.to_input(picture_u8(size))


def worker(
    pipe: multiprocessing.connection.Connection, make: Callable[..., Any], *args: Any
) -> None:
    """Serve inversions on request; the answer to None is the peak memory in bytes.

    First comes None, or the sentence that says why there are none.
    """
    try:
        run = make(*args)
    except HyperStyleError as error:
        pipe.send(str(error))
        return
    pipe.send(None)
    while pipe.recv():
        start = time.perf_counter()
        stages = run()
        pipe.send({**stages, "inversion": time.perf_counter() - start})
    pipe.send(peak_memory())


class Contender:
    """One implementation in its own process.

    Raises
    ------
    Unavailable
        If it cannot run here; of every method, too, where its process has ended.
    """

    def __init__(self, make: Callable[..., Any], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=worker, args=(theirs, make, *args), daemon=True)
        self._process.start()
        theirs.close()
        self.runs: list[Seconds] = []
        reason = self._answer()
        if reason is not None:
            self._process.join()
            raise Unavailable(reason)

    def run(self) -> Seconds:
        """One inversion, not recorded."""
        return self._answer(True)

    def record(self) -> None:
        """One inversion, recorded."""
        self.runs.append(self.run())

    def medians(self) -> Seconds:
        """Median seconds of every stage and of the whole."""
        return {k: statistics.median(r[k] for r in self.runs) for k in (*STAGES, "inversion")}

    def stop(self) -> int:
        """End the process; its peak resident memory in bytes."""
        peak = self._answer(None)
        self._process.join()
        return peak

    def _answer(self, *asked: bool | None) -> Any:
        try:
            for each in asked:
                self._pipe.send(each)
            return self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            ended = how_it_ended(self._process.exitcode or 0)
            raise Unavailable(f"its process {ended}; what it said is above") from None


def matmul_rate(threads: int) -> float:
    """Multiply-accumulates a second of a large fp32 matrix product: the practical peak."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2048**3 / statistics.median(seconds)


def generator_macs(bundle: Path) -> float:
    """Multiply-accumulates of the generator's 3x3 convolutions; all else is below 3 % of them."""
    from hyperstyle_rt.formats.bundle import Bundle

    total = 0
    for layer in Bundle.open(bundle).manifest.tuned_layers:
        out_channels, in_channels, k, _ = layer.shape
        side = 4 * 2 ** (layer.index // 3)  # where the products are: before an up-sampling
        total += out_channels * in_channels * k * k * side * side
    return float(total)


@one_sentence()
def main(
    size: Annotated[int, typer.Option(help="Generator size of the synthetic weights.")] = 256,
    checkpoint: Annotated[Path | None, typer.Option(help="HyperStyle checkpoint.")] = None,
    w_encoder: Annotated[Path | None, typer.Option(help="W-encoder checkpoint.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each contender.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Recorded turns.")] = 5,
    backend: Annotated[str, typer.Option(help="Further ones of the runtime, by commas.")] = "",
    keep: Annotated[Path | None, typer.Option(help="Leave the bundle in this new folder.")] = None,
    output: Annotated[Path | None, typer.Option("--json", help="Also write the figures.")] = None,
) -> None:
    """Time 5-iteration inversions: our runtime beside the torch reference."""
    from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
    from hyperstyle_export.readers.official import load_model
    from synthetic import official_config, write_checkpoints

    if (checkpoint is None) != (w_encoder is None):
        raise HyperStyleError("a model has two files; give --checkpoint and --w-encoder")
    if keep is not None and keep.exists():
        raise HyperStyleError(f"{keep} exists; name a new folder with --keep")
    if output is not None:
        check_writable(output.parent, "--json")
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as scratch, console.status("") as status:
        folder = Path(scratch)
        if checkpoint is None or w_encoder is None:
            status.update("synthetic checkpoints")
            checkpoint, w_encoder = write_checkpoints(official_config(size), folder)
        model = load_model(checkpoint, w_encoder)
        bundle = keep or folder / "bundle"
        make_directory(bundle, HyperStyleError)
        size = model.config.generator.resolution
        write_bundle(model, bundle, BundleFacts("benchmark"), "fp32", status.update)
        del model
        backends = [name for name in backend.split(",") if name]
        figures = compare(checkpoint, w_encoder, bundle, threads, repeats, status.update, backends)
    figures = {"size": size, "iterations": ITERATIONS, "threads": threads, **figures}
    console.print(as_table(figures))
    if output is not None:
        write_report(output, figures)


def compare(
    checkpoint: Path,
    w_encoder: Path,
    bundle: Path,
    threads: int,
    repeats: int,
    on_progress: Callable[[str], None],
    backends: Sequence[str] = (),
) -> dict[str, Any]:
    """Alternate the contenders' inversions; medians, ratios to the runtime's, peaks.

    Parameters
    ----------
    backends:
        Of the runtime, beside ONNX Runtime's CPU provider.
    """
    contenders: dict[str, Contender] = {}
    left_out: dict[str, str] = {}
    makers: dict[str, tuple[Any, ...]] = {
        **{form: (torch_inversion, checkpoint, w_encoder, threads, form) for form in FORMS},
        RUNTIME: (runtime_inversion, bundle, threads),
        **{name: (runtime_inversion, bundle, threads, name) for name in backends},
    }
    for name, maker in makers.items():
        on_progress(f"opening {name}")
        try:
            contenders[name] = Contender(*maker)
        except Unavailable as error:
            left_out[name] = str(error)
    for name, contender in list(contenders.items()):
        on_progress(f"warm-up: {name}")
        try:
            contender.run()
        except Unavailable as error:  # torch compiles now, and memory may be short
            left_out[name] = str(error)
            del contenders[name]
    if RUNTIME in left_out:
        raise Unavailable(f"there is nothing to compare with: {left_out[RUNTIME]}")
    for turn in range(repeats):
        on_progress(f"inversion {turn + 1} of {repeats}")
        for contender in contenders.values():
            contender.record()
    seconds = {name: contender.medians() for name, contender in contenders.items()}
    peaks = {name: contender.stop() for name, contender in contenders.items()}
    on_progress("matrix product")
    ours = seconds[RUNTIME]
    rate = generator_macs(bundle) * (ITERATIONS + 1) / ours["generator"]
    others = [name for name in contenders if name != RUNTIME]
    return {
        "seconds": seconds,
        "left_out": left_out,
        "speed_up": {name: {k: seconds[name][k] / ours[k] for k in ours} for name in others},
        "peak_bytes": peaks,
        "peak_ratio": {name: peaks[RUNTIME] / peaks[name] for name in others},
        "generator_share_of_matmul_peak": rate / matmul_rate(threads),
    }


def as_table(figures: dict[str, Any]) -> Table:
    """The figures for people: seconds, and how many times the runtime's they are."""
    title = (
        f"{figures['size']} px, {figures['iterations']} iterations, {figures['threads']} threads"
    )
    forms = list(figures["speed_up"])
    table = Table("", RUNTIME, *forms, title=title)
    for stage in (*STAGES, "inversion"):
        cells = [
            f"{figures['seconds'][form][stage]:.2f} s, {figures['speed_up'][form][stage]:.2f} x"
            for form in forms
        ]
        table.add_row(stage, f"{figures['seconds'][RUNTIME][stage]:.2f} s", *cells)
    gib = {name: f"{size / 2**30:.2f} GiB" for name, size in figures["peak_bytes"].items()}
    shares = [f"{gib[form]}, runtime {figures['peak_ratio'][form]:.2f} of it" for form in forms]
    table.add_row("peak memory", gib[RUNTIME], *shares)
    share = figures["generator_share_of_matmul_peak"]
    notes = [f"the generator reaches {share:.0%} of a 2048^3 fp32 matrix product's rate"]
    notes += [f"without {form}: {reason}" for form, reason in figures["left_out"].items()]
    table.caption = "\n".join(notes)
    return table
