"""ONNX Runtime as a backend: threads, memory, verified files, and what it may say."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hyperstyle_rt import BackendError, BundleError
from hyperstyle_rt.backends import graph_files, processors
from hyperstyle_rt.backends.ort import OnnxRuntimeBackend
from hyperstyle_rt.backends.ort_library import load_onnxruntime, session_options
from hyperstyle_rt.backends.ort_providers import ChosenProvider
from hyperstyle_rt.backends.processors import Processors, useful_threads
from hyperstyle_rt.backends.registry import open_backend
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from opened_backends import OPEN, encode, python

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def open_cpu(directory: Path, threads: int | None = 1) -> OnnxRuntimeBackend:
    backend = open_backend("cpu", Bundle.open(directory), threads)
    assert isinstance(backend, OnnxRuntimeBackend)
    return backend


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """The encoder of the bundle portraits, whose tensors are in a file of their own."""
    directory = tmp_path / "encoder only"
    directory.mkdir()
    for name in ("manifest.json", "encoder.onnx", "encoder.onnx.data"):
        shutil.copy(find_bundle("portraits") / name, directory)
    return directory


# -------------------------------------------------------------------------------- threads


def test_threads_wait_without_spinning() -> None:
    options = session_options(1)
    assert options.intra_op_num_threads == 1
    for pool in ("intra_op", "inter_op"):
        assert options.get_session_config_entry(f"session.{pool}.allow_spinning") == "0"


def test_the_number_of_threads_is_what_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Always named: ONNX Runtime's own choice pins threads, and complains where it may not."""
    monkeypatch.setattr(processors, "find_processors", lambda: Processors(64, 16, 2.5))
    assert useful_threads(None) == 3
    for asked, given in ((None, 3), (2, 2), (64, 3)):
        assert session_options(asked).intra_op_num_threads == given


@LINUX
def test_nothing_but_ours_reaches_standard_error(tiny_bundle: Path) -> None:
    """On one of the machine's processors, as in a container with a cpuset."""
    code = "import os; os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})" + OPEN
    for threads in ("None", "4"):
        ran = python(f"{code}\nprint(encode(load(threads={threads})).shape)", str(tiny_bundle))
        assert (ran.returncode, ran.stderr, ran.stdout) == (0, "", "(1, 8, 16)\n")


MEASURE = (
    OPEN
    + """
import time
backend = load(threads=int(sys.argv[2]))
signature = backend.signature(sys.argv[3])
feeds = {
    name: backend.upload(np.zeros([length or 1 for length in spec.shape], np.float32))
    for name, spec in signature.inputs.items()
}
backend.run(sys.argv[3], feeds)
start = time.perf_counter()
for _ in range(10):
    backend.run(sys.argv[3], feeds)
print(time.perf_counter() - start)
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "beside a busy process"])
def test_many_threads_cost_little(busy: bool) -> None:
    """`--threads 64` takes at most 1.5 times the time of 2; with spinning it was 30 times."""
    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"])] if busy else []
    try:
        times: dict[int, list[float]] = {2: [], 64: []}
        for _ in range(5):
            for threads, found in times.items():
                ran = python(MEASURE, find_bundle("portraits"), threads, "encoder", timeout=300)
                found.append(float(ran.stdout))
    finally:
        for process in beside:
            process.kill()
            process.wait()
    ratio = min(times[64]) / min(times[2])
    print(f"--threads 64 takes {ratio:.2f} times the time of 2")
    assert ratio <= 1.5


def test_threads_may_share_a_backend(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each graph is opened once, and all get what one thread alone gets."""
    backend, opened = open_cpu(tiny_bundle), []
    expected = encode(open_cpu(tiny_bundle), 0.25)
    original = backend._maker.open

    def slowly(role: str, mapped: bool) -> Any:
        opened.append(role)
        time.sleep(0.05)
        return original(role, mapped)

    monkeypatch.setattr(type(backend._maker), "open", lambda _self, *given: slowly(*given))
    assert backend.for_session() is backend
    start = threading.Barrier(4)

    def work(_number: int) -> np.ndarray:
        start.wait()
        return encode(backend, 0.25)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(4)))
    assert all(np.array_equal(result, expected) for result in results)
    assert opened == ["encoder"]


# --------------------------------------------------------------------------------- memory


def test_a_closed_backend_says_so(tiny_bundle: Path) -> None:
    backend = open_cpu(tiny_bundle)
    encode(backend)
    backend.close()
    backend.close()
    for use in (lambda: encode(backend), backend.for_session, lambda: backend.signature("encoder")):
        with pytest.raises(BackendError, match="this model is closed; load it again to use it"):
            use()


RESIDENT = (
    OPEN
    + """
def resident():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024

first = load(); encode_all = [first.signature(role) for role in ("encoder", "generator")]
first.close()
before = resident()
backends = [load() for _ in range(3)]
for backend in backends:
    for role in ("encoder", "hypernet", "weights", "generator"):
        backend.signature(role)
during = resident()
for backend in backends:
    backend.close()
print(before, during, resident())
"""
)


@LINUX
def test_closing_gives_the_memory_back() -> None:
    ran = python(RESIDENT, find_bundle("portraits"), timeout=300)
    before, during, after = map(float, ran.stdout.split())
    assert during - before > 100  # MiB: three times 35 MB of graphs, as float32
    assert after - before < 0.1 * (during - before)


# ------------------------------------------------------------------------- verified files


def test_linked_files_are_followed(encoder: Path, tmp_path: Path) -> None:
    """As in the caches of Hugging Face, DVC and git-annex: every file lies elsewhere."""
    store, bundle = tmp_path / "store", tmp_path / "bundle"
    store.mkdir()
    bundle.mkdir()
    for number, path in enumerate(sorted(encoder.iterdir())):
        shutil.copy(path, store / f"blob{number}")
        (bundle / path.name).symlink_to(Path("..") / "store" / f"blob{number}")
    assert np.array_equal(encode(open_cpu(bundle)), encode(open_cpu(encoder)))


def test_a_file_that_is_swapped_after_its_verification_is_refused(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was hashed is what is loaded, even if the swap is undone at once."""
    data = encoder / "encoder.onnx.data"
    backend = open_cpu(encoder)
    original = type(backend._maker)._make

    def swapped(self: Any, *arguments: Any) -> Any:
        data.rename(encoder / "aside")
        evil = bytearray((encoder / "aside").read_bytes())
        evil[100] ^= 1
        data.write_bytes(evil)
        try:
            return original(self, *arguments)
        finally:
            (encoder / "aside").rename(data)

    monkeypatch.setattr(type(backend._maker), "_make", swapped)
    with pytest.raises(BundleError, match=r"encoder\.onnx\.data was changed while it was opened"):
        encode(backend)


def test_a_directory_that_is_swapped_after_its_verification_is_refused(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle's path is a link that means another directory while the graph is loaded."""
    evil, link = tmp_path / "evil", tmp_path / "link"
    shutil.copytree(encoder, evil)
    data = evil / "encoder.onnx.data"
    data.write_bytes(data.read_bytes().swapcase())
    link.symlink_to(encoder)
    backend = open_cpu(link)
    original = graph_files.as_folder

    @contextmanager
    def swapped(directory: Path) -> Iterator[str]:
        link.unlink()
        link.symlink_to(evil)
        with original(directory) as folder:
            link.unlink()
            link.symlink_to(encoder)
            yield folder

    monkeypatch.setattr(graph_files, "as_folder", swapped)
    with pytest.raises(BundleError, match=r"encoder\.onnx\S* was changed while it was opened"):
        encode(backend)


def test_an_altered_file_is_refused(encoder: Path) -> None:
    backend = open_cpu(encoder)
    data = encoder / "encoder.onnx.data"
    data.write_bytes(data.read_bytes().swapcase())
    with pytest.raises(BundleError, match=r"encoder\.onnx\.data is altered"):
        encode(backend)


def test_the_working_directory_may_change(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(encoder.parent)
    backend = open_cpu(Path(encoder.name))
    monkeypatch.chdir(tmp_path)
    assert encode(backend).shape == (1, 12, 256)


def test_a_bundle_that_is_gone_is_one_sentence(encoder: Path) -> None:
    backend = open_cpu(encoder)
    shutil.rmtree(encoder)
    with pytest.raises(BundleError, match="cannot open") as refusal:
        encode(backend)
    assert "\n" not in str(refusal.value)


@LINUX
@pytest.mark.parametrize("name", ["Gesichter-\u00e4\u00df", "\u043b\u0438\u0446\u0430", "a\udcffb"])
def test_any_path_is_opened_in_any_locale(name: str, encoder: Path, tmp_path: Path) -> None:
    copy = encoder.rename(tmp_path / name)
    environment = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    ran = python(f"{OPEN}\nprint(encode(load()).shape)", str(copy), **environment)
    assert ran.stdout == "(1, 12, 256)\n", ran.stderr


# -------------------------------------------------------------------------------- library


@LINUX
def test_nothing_is_reported_to_the_maker_of_onnx_runtime(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    """Its wheels report usage over the network by default, from a thread and a file at home."""
    count = "print(len(os.listdir('/proc/self/task')))"
    code = f"{OPEN}\nbackend = load(threads=1); encode(backend)\n{count}"
    environment = {"HOME": str(tmp_path), "OPENBLAS_NUM_THREADS": "1"}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    ran = python(code, str(tiny_bundle), **environment)
    assert ran.stdout == "1\n", ran.stderr  # no thread but this
    assert list(tmp_path.iterdir()) == []


STRANGER = """
import json, sys
from pathlib import Path
import onnxruntime
bundle = Path(sys.argv[1])
graphs = json.loads((bundle / "manifest.json").read_text())["graphs"]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
for graph in graphs.values():
    onnxruntime.InferenceSession(bundle / graph["file"], options)
print(len(graphs) > 5)
"""


def test_a_stranger_opens_our_graphs_in_silence() -> None:
    """In a host that does not lower ONNX Runtime's log level, as Node's or a C program."""
    ran = python(STRANGER, find_bundle("portraits"), ORT_DISABLE_TELEMETRY="1")
    assert (ran.stdout, ran.stderr) == ("True\n", "")


def test_a_missing_onnx_runtime_is_one_sentence(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for name in ("auto", "cpu", "cuda", "ort-tensorrt"):
        with pytest.raises(BackendError) as refusal:
            open_backend(name, Bundle.open(tiny_bundle), None)
        assert str(refusal.value) == (
            "ONNX Runtime is not installed; pip install 'hyperstyle-rt[cpu]' for CPUs, or "
            "'hyperstyle-rt[gpu]' for NVIDIA GPUs"
        )


def test_what_is_computed_is_told(tiny_bundle: Path) -> None:
    backend = open_cpu(tiny_bundle)
    version = load_onnxruntime().__version__
    assert backend.name == "cpu"
    assert backend.provider == f"ONNX Runtime {version} CPUExecutionProvider"
    assert (backend.precision, backend.graph_precision) == ("fp32", "fp32")


def test_arrays_are_shared_as_numpys(tiny_bundle: Path) -> None:
    backend = open_cpu(tiny_bundle)
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    buffer = backend.upload(array)
    array[:] = 0  # the buffer is a copy
    assert np.array_equal(backend.share(buffer), np.arange(6).reshape(2, 3))


def test_graphs_that_a_bundle_lacks_are_one_sentence(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="has no fp16 graphs, only fp32"):
        open_backend("cpu", Bundle.open(tiny_bundle), None, "fp16")
    with pytest.raises(BundleError, match="has no graph 'restyle', only"):
        open_cpu(tiny_bundle).signature("restyle")


@pytest.mark.parametrize(
    "says", ["std::bad_alloc", "pthread_create failed, error code: 12 error msg: Cannot allocate"]
)
def test_too_little_memory_is_told_from_a_bad_graph(
    says: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = open_cpu(tiny_bundle)

    def fail(*_: object) -> None:
        raise RuntimeError(says)

    monkeypatch.setattr(ChosenProvider, "open_session", fail)
    with pytest.raises(BackendError, match="there is not enough memory to load"):
        backend.signature("encoder")
