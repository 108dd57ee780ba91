"""What a machine with a GPU can show in ten minutes, as one Markdown page and one JSON file.

Parity of ONNX Runtime's CUDA provider with its CPU provider in fp32 and fp16, times of every graph
and of whole inversions beside the official form in eager PyTorch on the same card, the share of the
card's measured peak, and `pytest -m gpu`. Every stage is a process with a time limit of its own:
one that fails, hangs or crashes is reported, and the others go on; both files are written anew
after each, so that whatever ends the command leaves what was found. Weights are synthetic, of the
official layout, unless checkpoints are given.

    python tools/gpu_report.py --out gpu-report
    python tools/gpu_report.py --checkpoint hyperstyle.pt --w-encoder w_encoder.pt
    python tools/gpu_report.py --device cpu --size 256     # the same without a GPU, to try it
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from hyperstyle_rt.cli.outputs import check_writable, write_report
from hyperstyle_rt.cli.terminal import print_line
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import write_atomically
from mistakes import one_sentence

Device = Literal["cuda", "cpu"]
MODULE = "benchmarking.gpu_stages"
LAST_WORDS = 400  # characters of what a failed stage said last


@dataclass(frozen=True)
class Stage:
    """A part of the report.

    Attributes
    ----------
    name:
        Of the function in `gpu_stages`, and what it needs from the stages before it.
    seconds:
        What it may take at most.
    argument:
        What the function is given.
    """

    name: str
    seconds: float
    argument: str = ""

    @property
    def title(self) -> str:
        """For people and as a key of the report."""
        return f"{self.name} {self.argument}".strip()


STAGES = (
    Stage("bundle", 180),
    Stage("peak", 60),
    Stage("accuracy", 60, "fp32"),
    Stage("times", 120, "fp32"),
    Stage("official", 120),
    Stage("accuracy", 60, "fp16"),
    Stage("times", 120, "fp16"),
    Stage("tests", 120),
)
"""In the order of what one most wants to know; all together share the time that is given."""


@dataclass(frozen=True)
class Request:
    """What is to be reported on; the stages read it from a file.

    Attributes
    ----------
    device:
        Where the runtime and torch compute.
    size:
        Of the synthetic generator.
    checkpoint, w_encoder:
        Files of a model to take instead; None for synthetic ones.
    folder:
        Where the stages leave what others need.
    rounds:
        Timed runs after the first.
    """

    device: Device
    size: int
    checkpoint: str | None
    w_encoder: str | None
    folder: str
    rounds: int


def run_stage(stage: Stage, request: Path, seconds: float) -> dict[str, Any]:
    """Run a stage in a process of its own.

    Returns
    -------
    ``ok``, ``seconds``, and what it found; or ``error``, a sentence.
    """
    result = request.with_name(f"{stage.title.replace(' ', '-')}.json")
    command = [sys.executable, "-m", MODULE, stage.name, stage.argument, str(request), str(result)]
    began = time.perf_counter()
    status, said = run_group(command, max(seconds, 0))
    took = round(time.perf_counter() - began, 1)
    if status is None:
        return {"ok": False, "seconds": took, "error": f"not done within {seconds:.0f} s"}
    if status or not result.is_file():
        words = " ".join(said.split())[-LAST_WORDS:]
        return {"ok": False, "seconds": took, "error": f"exit status {status}: {words}"}
    found = json.loads(result.read_text(encoding="utf-8"))
    return {"ok": True, "seconds": took, "found": found}


def run_group(command: Sequence[str], seconds: float) -> tuple[int | None, str]:
    """Run a command, and end it with all that it has started if it takes longer.

    Returns
    -------
    Its exit status, None if it was ended, and what it said.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(
            command,
            stdout=said,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[1],
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:  # also where this command itself is interrupted
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said.seek(0)
        return status, said.read()


def run_stages(
    stages: Sequence[Stage],
    request: Path,
    seconds: float,
    on_results: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> dict[str, dict[str, Any]]:
    """Run stages one after another within so many seconds in all; title -> what it gave.

    Parameters
    ----------
    on_results:
        Called after every stage with what there is so far.
    """
    end = time.monotonic() + seconds
    results: dict[str, dict[str, Any]] = {}
    for stage in stages:
        left = end - time.monotonic()
        if left <= 0:
            results[stage.title] = {"ok": False, "error": "no time was left"}
        else:
            print_line(f"{stage.title}: at most {min(left, stage.seconds):.0f} s")
            results[stage.title] = run_stage(stage, request, min(left, stage.seconds))
        if not results[stage.title]["ok"]:
            print_line(f"{stage.title}: {results[stage.title]['error']}")
        on_results(results)
    return results


def save_report(out: Path, document: Mapping[str, Any], page: str) -> None:
    """Write OUT.json and OUT.md, each whole or not at all."""
    write_report(out.with_name(f"{out.name}.json"), document)
    write_atomically(out.with_name(f"{out.name}.md"), page.encode(), HyperStyleError)


@one_sentence()
def main(
    device: Annotated[str, typer.Option(help="cuda, or cpu to try it.")] = "cuda",
    size: Annotated[int, typer.Option(help="Generator size of the synthetic weights.")] = 1024,
    checkpoint: Annotated[Path | None, typer.Option(help="HyperStyle checkpoint.")] = None,
    w_encoder: Annotated[Path | None, typer.Option(help="W-encoder checkpoint.")] = None,
    out: Annotated[Path, typer.Option(help="Report without its suffix.")] = Path("gpu-report"),
    minutes: Annotated[float, typer.Option(min=0.1, help="For all stages together.")] = 10.0,
    rounds: Annotated[int, typer.Option(min=1, help="Timed runs after the first.")] = 5,
    without: Annotated[str, typer.Option(help="Stages to leave out, with commas.")] = "",
) -> None:
    """Write OUT.md and OUT.json; exits with 1 if a stage failed."""
    if device not in ("cuda", "cpu") or (checkpoint is None) != (w_encoder is None):
        raise typer.BadParameter("--device is cuda or cpu; give both checkpoints or none")
    check_writable(out.parent)
    left_out = {name.strip() for name in without.split(",") if name.strip()}
    unknown = left_out - {stage.name for stage in STAGES}
    if unknown:
        raise typer.BadParameter(f"there is no stage {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="hyperstyle-rt-") as folder:
        files = [None if path is None else str(path.resolve()) for path in (checkpoint, w_encoder)]
        chosen: Device = "cuda" if device == "cuda" else "cpu"
        request = Request(chosen, size, files[0], files[1], folder, rounds)
        written = Path(folder, "request.json")
        written.write_text(json.dumps(asdict(request)), encoding="utf-8")
        stages = [stage for stage in STAGES if stage.name not in left_out]

        def save(found: Mapping[str, Any]) -> None:
            report = {"device": device, "machine": platform.platform(), "stages": found}
            save_report(out, report, as_markdown(report))

        results = run_stages(stages, written, 60 * minutes, save)
    print_line(f"{out}.md")
    if not all(result["ok"] for result in results.values()):
        raise typer.Exit(1)


def as_markdown(report: Mapping[str, Any]) -> str:
    """The report for people: one section a stage, failed ones with their sentence."""
    lines = [f"# Report of {report['device']}", "", report["machine"], ""]
    stages = report["stages"]
    peaks = stages.get("peak", {}).get("found", {})
    for title, result in stages.items():
        took = f", {result['seconds']} s" if "seconds" in result else ""
        lines += [f"## {title} ({'done' if result['ok'] else 'failed'}{took})", ""]
        if not result["ok"]:
            lines += [result["error"], ""]
            continue
        name, found = title.split()[0], result["found"]
        if name == "times":
            lines += _times(found, peaks)
        elif name == "official":
            lines += _beside_torch(found, stages)
        else:
            lines += [f"- {key}: {_shown(value)}" for key, value in found.items()]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _times(found: Mapping[str, Any], peaks: Mapping[str, float]) -> list[str]:
    """Milliseconds of tasks and graphs; of graphs the share of the peak of that precision."""
    peak = peaks.get(f"{found['graph_precision']} macs_per_second")
    lines = [f"{found['provider']}, {found['precision']}; medians in milliseconds", ""]
    lines += ["| | ms | GMAC | share of peak |", "|---|---:|---:|---:|"]
    for kind in ("tasks", "graphs"):
        for name, timing in found[kind].items():
            seconds = timing["median"] if timing["median"] is not None else timing["first"]
            macs = timing.get("macs")
            gmac = "" if macs is None else f"{macs / 1e9:.2f}"
            share = "" if macs is None or not peak else f"{macs / seconds / peak:.1%}"
            lines.append(f"| {name} | {1e3 * seconds:.2f} | {gmac} | {share} |")
    return lines


def _beside_torch(found: Mapping[str, Any], stages: Mapping[str, Any]) -> list[str]:
    """Milliseconds of the official form, and how many times ours an inversion takes."""
    lines = ["The official form in eager PyTorch, medians in milliseconds", ""]
    stages_of = list(next(iter(found.values())))
    lines += [f"| | {' | '.join(stages_of)} |", f"|---|{'---:|' * len(stages_of)}"]
    for form, seconds in found.items():
        cells = " | ".join(f"{1e3 * seconds[stage]:.2f}" for stage in stages_of)
        lines.append(f"| {form} | {cells} |")
    for precision in ("fp32", "fp16"):
        times = stages.get(f"times {precision}", {}).get("found")
        if times is None:
            continue
        ours = times["tasks"]["inversion"]["median"]
        ratios = (f"{form} {seconds['inversion'] / ours:.2f} x" for form, seconds in found.items())
        lines += ["", f"An inversion of ours in {precision} takes {1e3 * ours:.2f} ms: "]
        lines[-1] += ", ".join(ratios)
    return lines


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
