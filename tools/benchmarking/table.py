"""The whole table of speed on CPUs, unattended: every figure beside what it should at least be.

Inversions at 1024 and 256 pixels by the official form in PyTorch (fp32, autocast to bfloat16,
compiled), ONNX Runtime and OpenVINO, in turns; steps of refinement and edits by every backend; how
far bfloat16 is from float32. Parts that cannot run here (a CPU without bfloat16, no OpenVINO) are
left out with a sentence. Every part is a process with a time limit, and both files are written
after each. On two cores with AMX it should take less than an hour; the machine should be idle.

    python -m benchmarking.table --out speed
    python -m benchmarking.table --sizes 256 --repeats 1 --out try
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from hyperstyle_rt.cli.outputs import check_writable
from hyperstyle_rt.cli.terminal import print_line
from hyperstyle_rt.errors import HyperStyleError
from mistakes import one_sentence
from synthetic import official_generator

from .gpu_report import LAST_WORDS, run_group, save_report

BF16, FP32 = "openvino-bf16", "runtime"
RUNTIME_COMMAND = ("-m", "hyperstyle_rt")
BACKENDS = ("openvino", BF16)
EDITS = 8
ITERATIONS = 5


@dataclass(frozen=True)
class Part:
    """A command whose JSON is a part of the report.

    Attributes
    ----------
    title:
        Its key in the report.
    words:
        Of the command, after the interpreter.
    minutes:
        What it may take at most.
    written:
        The file that it writes the JSON to; None where it prints it.
    """

    title: str
    words: tuple[str, ...]
    minutes: float
    written: Path | None = None


@dataclass(frozen=True)
class Aim:
    """A figure of the table, and what it should at least (or at most) be.

    Attributes
    ----------
    title:
        For people.
    figure:
        Report -> the figure; raises KeyError where a part lacks what it takes.
    bound:
        What it is compared with.
    is_upper:
        Whether it should be no more than that.
    """

    title: str
    figure: Callable[[Mapping[str, Any]], float]
    bound: float
    is_upper: bool = False

    def row(self, report: Mapping[str, Any]) -> str:
        """A line of Markdown."""
        sign = "at most" if self.is_upper else "at least"
        try:
            found = self.figure(report)
        except (KeyError, TypeError, ZeroDivisionError):
            return f"| {self.title} | not measured | {sign} {self.bound:g} |  |"
        holds = found <= self.bound if self.is_upper else found >= self.bound
        verdict = "yes" if holds else "no"
        return f"| {self.title} | {found:.2f} | {sign} {self.bound:g} | {verdict} |"


def times_as_fast(size: int, ours: str, theirs: str) -> Callable[[Mapping[str, Any]], float]:
    """How many times as long an inversion takes by `theirs` as by `ours`."""

    def figure(report: Mapping[str, Any]) -> float:
        seconds = report[f"inversion {size}"]["seconds"]
        return float(seconds[theirs]["inversion"] / seconds[ours]["inversion"])

    return figure


def memory(size: int, ours: str) -> Callable[[Mapping[str, Any]], float]:
    """The peak of `ours` by that of the official form."""

    def figure(report: Mapping[str, Any]) -> float:
        peaks = report[f"inversion {size}"]["peak_bytes"]
        return float(peaks[ours] / peaks["torch"])

    return figure


def task(size: int, name: str, backend: str) -> Callable[[Mapping[str, Any]], float]:
    """Median seconds of a task of `hyperstyle-rt bench`."""

    def figure(report: Mapping[str, Any]) -> float:
        results = {each["contender"]: each for each in report[f"bench {size}"]["results"]}
        return float(results[backend]["tasks"][name]["median"])

    return figure


def edits(size: int) -> Callable[[Mapping[str, Any]], float]:
    """How many times as long as many official renders take as edits in bfloat16."""

    def figure(report: Mapping[str, Any]) -> float:
        official = report[f"inversion {size}"]["seconds"]["torch"]["generator"] / (ITERATIONS + 1)
        return EDITS * float(official) / task(size, f"{EDITS} edits", BF16)(report)

    return figure


def aims() -> list[Aim]:
    """All figures of the table, in its order."""
    large, small = 1024, 256
    steps = [task(large, "refinement step", name) for name in ("cpu", BF16)]
    return [
        Aim("1024: bf16 against the official form", times_as_fast(large, BF16, "torch"), 9),
        Aim("1024: ... under bf16 autocast", times_as_fast(large, BF16, "torch half"), 8),
        Aim("1024: ... against ONNX Runtime in fp32", times_as_fast(large, BF16, FP32), 3),
        Aim("1024: ONNX Runtime in fp32, official form", times_as_fast(large, FP32, "torch"), 4),
        Aim("1024: peak memory of bf16, official form 1", memory(large, BF16), 0.5, True),
        Aim("1024: ... of ONNX Runtime", memory(large, FP32), 0.45, True),
        Aim("1024: a step of refinement, bf16", lambda r: steps[0](r) / steps[1](r), 2),
        Aim(f"1024: {EDITS} edits in bf16, official renders", edits(large), 3),
        Aim("256: bf16 against the official form", times_as_fast(small, BF16, "torch"), 5),
        Aim("256: ONNX Runtime in fp32", times_as_fast(small, FP32, "torch"), 2.5),
    ]


def parts(sizes: Sequence[int], repeats: int, threads: int, folder: Path) -> list[Part]:
    """What is run for those sizes.

    Parameters
    ----------
    folder:
        Where bundles, and what commands write, are left.
    """
    runs = ("--repeats", str(repeats), "--threads", str(threads))
    rounds = ("--rounds", str(repeats), "--threads", str(threads), "--edits", str(EDITS))
    found = []
    for size in sizes:
        bundle, written = folder / f"bundle-{size}", folder / f"inversion-{size}.json"
        into = ("--keep", str(bundle), "--json", str(written), "--backend", ",".join(BACKENDS))
        compared = ("benchmark.py", "--size", str(size), *runs, *into)
        found.append(Part(f"inversion {size}", compared, 30, written))
        timed = ("bench", "--bundle", str(bundle), "--backend", "all", *rounds, "--json")
        found.append(Part(f"bench {size}", (*RUNTIME_COMMAND, *timed), 15))
    checked = (*RUNTIME_COMMAND, "check", "--bundle", "portraits", "--candidate", BF16, "--json")
    return [*found, Part("bf16 beside fp32", checked, 5)]


def run_part(part: Part) -> dict[str, Any]:
    """What a command gives as JSON, or ``error`` and what it said last."""
    status, said = run_group([sys.executable, *part.words], 60 * part.minutes)
    if status == 0:
        text = said if part.written is None else part.written.read_text(encoding="utf-8")
        found: dict[str, Any] = json.loads(text[text.index("{") :])
        return found
    ended = f"not done within {part.minutes:g} minutes" if status is None else f"status {status}"
    return {"error": f"{ended}: {' '.join(said.split())[-LAST_WORDS:]}"}


def as_markdown(report: Mapping[str, Any]) -> str:
    """The table, what computed it, and what was left out."""
    lines = ["| inversion of 5 iterations | here | wanted | holds |", "|---|---:|---:|---|"]
    lines += [aim.row(report) for aim in aims()]
    for title, found in report.items():
        reasons = found.get("left_out", {}) | {k: v for k, v in found.items() if k == "error"}
        lines += ["", *(f"- {title}, {name}: {reason}" for name, reason in reasons.items())]
        for each in found.get("results", ()):
            graphs = each["graphs"].items()
            lines += [f"- {title}, {each['contender']}: {each['provider']}, {each['precision']}"]
            rates = (f"{role} {g['macs_per_second'] / 1e9:.1f}" for role, g in graphs if g["macs"])
            lines[-1] += f"; GMAC/s: {', '.join(rates)}"
    return "\n".join(lines) + "\n"


def sizes_of(text: str) -> list[int]:
    """Read ``1024,256``.

    Raises
    ------
    HyperStyleError
        If a size is none of a generator.
    """
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        raise HyperStyleError(
            f"--sizes is numbers with commas, e.g. 1024,256, not {text!r}"
        ) from None
    for size in sizes:
        official_generator(size)
    return sizes


@one_sentence()
def main(
    out: Annotated[Path, typer.Option(help="Report without its suffix.")] = Path("speed"),
    sizes: Annotated[str, typer.Option(help="Of the generator, by commas.")] = "1024,256",
    repeats: Annotated[int, typer.Option(min=1, help="Medians are over so many turns.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each contender.")] = 2,
) -> None:
    """Write OUT.md and OUT.json; whatever ends the command leaves the parts that were done."""
    wanted = sizes_of(sizes)
    check_writable(out.parent)
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="hyperstyle-rt-") as scratch:
        for part in parts(wanted, repeats, threads, Path(scratch)):
            print_line(f"{part.title}: at most {part.minutes:g} minutes")
            report[part.title] = run_part(part)
            document = {"machine": platform.platform(), "threads": threads, "parts": report}
            save_report(out, document, as_markdown(report))
    print_line(as_markdown(report))


if __name__ == "__main__":
    typer.run(main)
