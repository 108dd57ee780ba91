"""The stages of `gpu_report`: each is run in a process of its own and writes one JSON document.

python -m benchmarking.gpu_stages times fp16 request.json times-fp16.json
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hyperstyle_rt.checking.comparison import compare, open_contender, sample_picture
from hyperstyle_rt.checking.timing import time_contenders
from hyperstyle_rt.formats.bundle import Bundle

from .gpu_report import Request
from .inversion import Form, torch_inversion

ROOT = Path(__file__).parents[2]
PRODUCT_SIDES = {"cuda": 8192, "cpu": 256}  # of the matrices whose product gives the peak
PRODUCTS = 5
EDITS = 8
NAMED = 5  # tensors that are out of bounds

# Compiling takes longer than all else together; most CPUs have no half type.
FORMS_TIMED: dict[str, tuple[Form, ...]] = {"cuda": ("torch", "torch half"), "cpu": ("torch",)}


def bundle(request: Request, _argument: str) -> dict[str, Any]:
    """Write the bundle in fp32 and fp16, of the checkpoints given or of synthetic ones."""
    from hyperstyle_export.bundles.half_graphs import add_half_graphs
    from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
    from hyperstyle_export.readers.official import load_model
    from synthetic import official_config, write_checkpoints

    if request.checkpoint is None:
        write_checkpoints(official_config(request.size), Path(request.folder))
    model = load_model(*_checkpoints(request))
    directory = _bundle_folder(request)
    directory.mkdir()
    written = write_bundle(model, directory, BundleFacts("gpu-report"), "fp32", lambda _step: None)
    add_half_graphs(model, written, lambda _step: None)
    weights = "synthetic" if request.checkpoint is None else "given"
    return {"resolution": model.config.generator.resolution, "weights": weights}


def peak(request: Request, _argument: str) -> dict[str, Any]:
    """Rates of a large product of matrices in torch: the peak in practice."""
    import torch

    found: dict[str, Any] = {"torch": torch.__version__}
    if request.device == "cuda":
        found["card"] = torch.cuda.get_device_name()
        found["compute capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
        found["memory in GB"] = torch.cuda.get_device_properties(0).total_memory / 1e9
    side = PRODUCT_SIDES[request.device]
    kinds = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    for name, dtype in kinds.items():
        x = torch.randn(side, side, dtype=torch.float32).to(request.device, dtype)
        seconds = []
        for _ in range(PRODUCTS):
            began = time.perf_counter()
            x @ x
            _wait(request)
            seconds.append(time.perf_counter() - began)
        found[f"{name} macs_per_second"] = side**3 / min(seconds)
    found["products of float32"] = (
        "TensorFloat-32" if torch.backends.cuda.matmul.allow_tf32 else "full"
    )
    return found


def accuracy(request: Request, argument: str) -> dict[str, Any]:
    """Parity of the device's provider with the CPU's, within the bounds of `hyperstyle-rt check`.

    Raises
    ------
    SystemExit
        If a tensor is out of bounds; the sentence names it.
    """
    opened = Bundle.open(_bundle_folder(request))
    reference = open_contender("cpu", opened)
    candidate = open_contender(_name(request, argument), opened)
    pictures = [sample_picture(opened, 0)]
    found = compare(reference, candidate, opened, pictures, None, lambda _step: None)
    for contender in (reference, candidate):
        contender.backend.close()
    if outside := found.outside():
        named = (f"{each.stage} {each.tensor} {each.relative:.2e}" for each in outside[:NAMED])
        sys.exit(f"{len(outside)} tensors off by more of their largest: {', '.join(named)}")
    worst = max(found.differences, key=lambda difference: difference.relative)
    return {
        "reference": found.reference,
        "candidate": found.candidate,
        "tensors": len(found.differences),
        "largest difference": f"{worst.relative:.2e} of the largest value",
        "where": f"{worst.stage} {worst.tensor}",
    }


def times(request: Request, argument: str) -> dict[str, Any]:
    """Times of every graph, of an inversion and of edits, as `hyperstyle-rt bench` takes them."""
    opened = Bundle.open(_bundle_folder(request))
    name = _name(request, argument)
    openers = {name: partial(open_contender, name, opened)}
    picture = sample_picture(opened, 0)
    (timings,) = time_contenders(
        openers, opened, picture, request.rounds, EDITS, lambda _step: None
    )
    return {**timings.to_json(), "graph_precision": argument}


def official(request: Request, _argument: str) -> dict[str, Any]:
    """Median seconds of the official form in eager torch, by form and stage."""
    from os import cpu_count

    found: dict[str, Any] = {}
    for form in FORMS_TIMED[request.device]:
        run = torch_inversion(*_checkpoints(request), cpu_count() or 1, form, request.device)
        run()
        runs = []
        for _ in range(request.rounds):
            began = time.perf_counter()
            stages = run()
            runs.append({**stages, "inversion": time.perf_counter() - began})
        found[form] = {key: statistics.median(one[key] for one in runs) for key in runs[0]}
    return found


def tests(_request: Request, _argument: str) -> dict[str, Any]:
    """`pytest -m gpu`: what can answer here, and what is skipped with its reason.

    Raises
    ------
    SystemExit
        If a test fails.
    """
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "-q", "-rfs"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode not in (0, 5):
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        sys.exit(" ".join([lines[-1], *failed]))
    return {"result": lines[-1], "skipped": [line for line in lines if line.startswith("SKIPPED")]}


STAGES: dict[str, Callable[[Request, str], dict[str, Any]]] = {
    function.__name__: function for function in (bundle, peak, accuracy, times, official, tests)
}


def _name(request: Request, precision: str) -> str:
    """Contender of `check` and `bench`."""
    return request.device if precision == "fp32" else f"{request.device}-{precision}"


def _bundle_folder(request: Request) -> Path:
    return Path(request.folder, "bundle")


def _checkpoints(request: Request) -> tuple[Path, Path]:
    if request.checkpoint is not None and request.w_encoder is not None:
        return Path(request.checkpoint), Path(request.w_encoder)
    return Path(request.folder, "hyperstyle.pt"), Path(request.folder, "w_encoder.pt")


def _wait(request: Request) -> None:
    if request.device == "cuda":
        import torch

        torch.cuda.synchronize()


def run(name: str, argument: str, request: str, result: str) -> None:
    """Run a stage on a request's file and write what it found."""
    read = Request(**json.loads(Path(request).read_text(encoding="utf-8")))
    found = STAGES[name](read, argument)
    Path(result).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    run(*sys.argv[1:])
