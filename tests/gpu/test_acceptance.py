"""What a machine with an NVIDIA GPU has to show: `make test-gpu`.

Builds the plans of the bundle portraits (or of HYPERSTYLE_RT_BUNDLE), compares them with ONNX
Runtime on the CPU, measures, and writes one JSON report (HYPERSTYLE_RT_REPORT, gpu-report.json).
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hyperstyle_rt import BackendError, Inversion, Model
from hyperstyle_rt.backends.cuda.driver import find_gpu
from hyperstyle_rt.backends.cuda.memory import cuda_runtime
from hyperstyle_rt.backends.plans.build import EngineOptions, classic_target
from hyperstyle_rt.checking.comparison import compare, open_contender, sample_picture
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.imaging.pictures import to_input
from hyperstyle_rt.session import Session

pytestmark = pytest.mark.gpu

PRECISIONS = ("fp32", "fp16")
RUNS = 20  # of which the median is reported
INVERSIONS = 200
ALLOWED_GROWTH = 1 << 20  # bytes over all of them
EDITS = 8  # the largest batch of the generator's plans


@pytest.fixture(scope="session")
def report() -> Iterator[dict[str, Any]]:
    """What is measured; written when all tests are done."""
    try:
        gpu = find_gpu()
    except BackendError as error:
        pytest.skip(f"no GPU: {error}")
    figures: dict[str, Any] = {"gpu": gpu.name, "sm": gpu.sm}
    yield figures
    path = Path(os.environ.get("HYPERSTYLE_RT_REPORT", "gpu-report.json"))
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def bundle(report: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A copy of the bundle with plans for this GPU, in fp32 and fp16."""
    from hyperstyle_export.bundles.half_graphs import add_half_graphs
    from hyperstyle_export.bundles.recovery import recover_model
    from hyperstyle_export.engines.plans import add_plans

    source = find_bundle(os.environ.get("HYPERSTYLE_RT_BUNDLE", "portraits"))
    copy = tmp_path_factory.mktemp("engines") / source.name
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("tensorrt"))
    opened, target = Bundle.open(copy), classic_target()
    if "fp16" not in opened.manifest.precisions:
        opened = add_half_graphs(recover_model(opened), opened, lambda _step: None)
    report["tensorrt"], report["bundle"] = target.title, opened.manifest.name
    report["plans"] = {}
    for precision in PRECISIONS:
        opened, plans = add_plans(opened, target, precision, EngineOptions(), lambda _step: None)
        report["plans"][precision] = {
            role: {
                "bytes": plan.size,
                "layers": plan.layers,
                "build_seconds": round(plan.seconds, 1),
            }
            for role, plan in plans.items()
        }
    return opened


@pytest.fixture(params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def model(bundle: Bundle, precision: str) -> Iterator[Model]:
    with Model.load(bundle.directory, "tensorrt", precision=precision) as opened:
        yield opened


@pytest.fixture(scope="session")
def picture(bundle: Bundle) -> np.ndarray:
    return sample_picture(bundle, 0)


def invert(of: Model | Session, picture: np.ndarray, *arguments: Any, **options: Any) -> Inversion:
    """Invert a picture as it is."""
    return of.invert(picture, *arguments, align="never", **options)


def median_ms(work: Callable[[], Any], wait: Callable[[], None]) -> float:
    """Median time of some work, waited for, in milliseconds."""
    times = []
    for _ in range(RUNS):
        wait()
        start = time.perf_counter()
        work()
        wait()
        times.append(1e3 * (time.perf_counter() - start))
    return round(statistics.median(times), 3)


@pytest.mark.parametrize("backend", ["tensorrt", "cuda", "ort-tensorrt"])
def test_accuracy(backend: str, precision: str, bundle: Bundle, report: dict[str, Any]) -> None:
    name = backend if precision == "fp32" else f"{backend}-{precision}"
    try:
        candidate = open_contender(name, bundle)
    except BackendError as error:
        if backend == "tensorrt":
            raise
        pytest.skip(str(error))
    pictures = [sample_picture(bundle, seed) for seed in (0, 1)]
    reference = open_contender("cpu", bundle)
    found = compare(reference, candidate, bundle, pictures, None, lambda _step: None)
    for contender in (reference, candidate):
        contender.backend.close()
    report.setdefault("accuracy", {})[name] = found.to_json()
    assert not found.outside()


def test_graph_gives_what_the_plain_path_gives(model: Model, picture: np.ndarray) -> None:
    captured = invert(model, picture)
    plain = invert(model, picture, on_iteration=lambda *_: None)
    again = invert(model, picture)
    assert np.array_equal(captured.output, again.output)
    assert np.abs(captured.output - plain.output).max() < 1e-2


def test_until_stops_where_the_cpu_stops(model: Model, precision: str, picture: np.ndarray) -> None:
    expected = Model.load(model.bundle.directory, "cpu", precision=precision)
    for until in (0.0, 2.0):
        assert (
            invert(model, picture, 4, until).iterations
            == invert(expected, picture, 4, until).iterations
        )


def test_device_arrays_in_and_out(model: Model, picture: np.ndarray) -> None:
    backend = model.backend
    expected = invert(model, picture)
    x = backend.upload(to_input(picture, model.bundle.manifest.input_size))  # has __dlpack__
    rendering = model.invert_on_device(x).tensors["rendering"]
    assert np.array_equal(backend.download(rendering)[0], expected.output)
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        assert np.array_equal(torch.from_dlpack(rendering)[0].cpu().numpy(), expected.output)


def test_pycuda_arrays_in_and_out(bundle: Bundle, picture: np.ndarray) -> None:
    pytest.importorskip("pycuda")
    gpuarray = pytest.importorskip("pycuda.gpuarray", exc_type=ImportError)
    with Model.load(bundle.directory, "tensorrt-pycuda") as model:
        expected = invert(model, picture)
        x = gpuarray.to_gpu(to_input(picture, model.bundle.manifest.input_size))
        rendering = model.invert_on_device(x).tensors["rendering"]
        assert np.array_equal(rendering.get()[0], expected.output)


def test_the_runtime_builds_the_plans_a_bundle_lacks(
    bundle: Bundle, picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERSTYLE_RT_PLANS", str(tmp_path / "plans"))
    from hyperstyle_export.bundles.writer import write_manifest

    plain = tmp_path / "plain"
    shutil.copytree(bundle.directory, plain, ignore=shutil.ignore_patterns("tensorrt"))
    write_manifest(plain, replace(bundle.manifest, plans={}))
    expected = invert(Model.load(plain, "cpu"), picture)
    for _ in range(2):
        with Model.load(plain, "tensorrt") as model:
            assert np.abs(invert(model, picture).output - expected.output).max() < 1e-2
    assert len(list((tmp_path / "plans").glob("*/*.plan"))) == 4


def test_latency(model: Model, precision: str, picture: np.ndarray, report: dict[str, Any]) -> None:
    session = model.session()
    backend, inversion = session.backend, invert(session, picture)
    wait = partial(backend.share, backend.upload(np.zeros(1, np.float32)))
    kernels: dict[str, Any] = {}

    def feed(role: str) -> dict[str, Any]:
        """Ones in the shapes of a graph's signature, a batch of one; kernels as they are."""
        specs = backend.signature(role).inputs
        return {
            name: kernels.get(name)
            or backend.upload(np.ones([length or 1 for length in spec.shape], np.float32))
            for name, spec in specs.items()
        }

    roles = [phase.graph for phase in model.bundle.manifest.method().phases]
    stages = {}
    for role in dict.fromkeys([*roles, "weights", "generator"]):
        feeds = feed(role)
        kernels |= backend.run("weights", feeds) if role == "weights" else {}
        stages[role] = median_ms(partial(backend.run, role, feeds), wait)
    edits = np.repeat(inversion.latents[None], EDITS, axis=0)
    report.setdefault("milliseconds", {})[precision] = {
        **stages,
        "inversion": median_ms(lambda: invert(session, picture), wait),
        "inversion with until": median_ms(lambda: invert(session, picture, until=0.0), wait),
        "inversion without CUDA graph": median_ms(
            lambda: invert(session, picture, on_iteration=lambda *_: None), wait
        ),
        f"{EDITS} edits": median_ms(lambda: session.synthesise(inversion, edits), wait),
    }
    session.close()


def test_many_inversions_do_not_grow(
    model: Model, precision: str, picture: np.ndarray, report: dict[str, Any]
) -> None:
    def used() -> int:
        status, free, total = cuda_runtime().cudaMemGetInfo()
        assert int(status) == 0
        return int(total - free)

    invert(model, picture)
    before = used()
    for _ in range(INVERSIONS):
        invert(model, picture)
    growth = used() - before
    report.setdefault("memory", {})[precision] = {"bytes": before, "growth": growth}
    assert growth <= ALLOWED_GROWTH
