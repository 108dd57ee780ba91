"""What the C layer costs: its size, its share of an inversion, and its start beside Python's.

python tests/cpp/benchmark.py [--bundle DIRECTORY] [--rounds 5]      (after tests/cpp/run.sh)

Without --bundle the official layout at 256 px is used, and written first (1.5 GB, a minute). Both
programs run turn by turn in processes of their own, the bundle being in the page cache; a start
lasts from there to the picture. The C layer is what an inversion spends outside ONNX Runtime's
session runs. Figures are medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import capi

BUILD = Path(os.environ.get("HSRT_BUILD_DIR", capi.REPOSITORY / "build" / "cpp"))
ROUNDS = 5
MILESTONES = ("the picture before the iterations", "the first inversion")

PYTHON = """
import sys, numpy
from hyperstyle_rt import Model
picture = (numpy.arange(3 * 1024 * 1024) >> 6).astype(numpy.uint8).reshape(1024, 1024, 3)
model = Model.load(sys.argv[1], "cpu")
for iterations in (0, None):
    model.invert(picture, iterations).image
    print("drawn", flush=True)
"""


def milestones(command: list[str]) -> tuple[list[float], list[str]]:
    """Seconds from the start of a process to each "drawn" it prints, and its other lines."""
    start = time.perf_counter()
    seconds, others = [], []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("drawn"):
                seconds.append(time.perf_counter() - start)
            else:
                others.append(line)
    if process.returncode != 0:
        sys.exit(f"{command[0]} failed")
    return seconds, others


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=BUILD / "bundles" / "official")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    if not arguments.bundle.exists():
        maker = Path(__file__).with_name("make_bundle.py")
        environment = os.environ | {"PYTHONPATH": str(capi.REPOSITORY / "tests")}
        command = [sys.executable, maker, BUILD / "bundles", "official"]
        subprocess.run(command, check=True, env=environment)
    for path in arguments.bundle.iterdir():
        path.read_bytes()
    bundle = str(arguments.bundle)
    starts: dict[str, list[list[float]]] = {"C": [], "Python": []}
    shares: list[float] = []
    for _ in range(arguments.rounds):
        seconds, lines = milestones([str(BUILD / "tests" / "bench_overhead"), bundle])
        starts["C"].append(seconds)
        shares += [float(line) for line in lines]
        starts["Python"].append(milestones([sys.executable, "-c", PYTHON, bundle])[0])
    library = (BUILD / "libhyperstyle_rt.so").resolve()
    print(f"library: {library.stat().st_size / 1e6:.2f} MB")
    print(f"C layer: {statistics.median(shares):.2%} of an inversion (at most {max(shares):.2%})")
    for at, milestone in enumerate(MILESTONES):
        c, python = (statistics.median(run[at] for run in starts[name]) for name in starts)
        print(f"start to {milestone}: C {c:.2f} s, Python {python:.2f} s, ratio {c / python:.2f}")


if __name__ == "__main__":
    main()
