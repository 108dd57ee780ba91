"""OpenVINO as a backend: what it computes, in which precision, of which files, and what it says."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hyperstyle_rt import BackendError, BundleError, Model
from hyperstyle_rt.backends import openvino_library, openvino_models, registry
from hyperstyle_rt.backends.openvino_constants import separate_shared_constants
from hyperstyle_rt.backends.openvino_library import cause_of, computes_bfloat16, new_core
from hyperstyle_rt.backends.openvino_models import ModelCompiler
from hyperstyle_rt.backends.openvino_permutations import spell_out_permutations
from hyperstyle_rt.backends.protocol import Backend, asked_precision
from hyperstyle_rt.backends.registry import open_backend
from hyperstyle_rt.checking.comparison import (
    compare,
    contenders_at_hand,
    open_contender,
    sample_picture,
)
from hyperstyle_rt.formats.bundle import Bundle, find_bundle

# Not importorskip: to import the package as it is reports that to its maker.
pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit addresses")
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "examples" / "portrait_0.png"
RELATIVE = 1e-4  # of a tensor's largest value
LARGE = pytest.mark.engines  # compiled for seconds each
GRAPHS = [
    pytest.param(role, marks=LARGE) if "objective" in role else role
    for role in sorted(Bundle.open(find_bundle("portraits")).manifest.graphs)
]

OPEN = """
import os, sys
from pathlib import Path
import numpy as np
from hyperstyle_rt.backends.registry import open_backend
from hyperstyle_rt.formats.bundle import Bundle

def load():
    return open_backend("openvino", Bundle.open(Path(sys.argv[1])), 1)

def encode(backend):
    shape = [length or 1 for length in backend.signature("encoder").inputs["target"].shape]
    x = backend.upload(np.full(shape, 0.5, np.float32))
    return backend.download(backend.run("encoder", {"target": x})["latents"])
"""


def open_openvino(directory: Path, precision: str = "fp32") -> Any:
    return open_backend("openvino", Bundle.open(directory), 1, precision)


def encode(backend: Backend, value: float = 0.5) -> np.ndarray:
    shape = [length or 1 for length in backend.signature("encoder").inputs["target"].shape]
    x = backend.upload(np.full(shape, value, np.float32))
    return backend.download(backend.run("encoder", {"target": x})["latents"])


def python(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | environment,
    )


def furthest(expected: np.ndarray, actual: np.ndarray) -> float:
    """The largest difference over the largest value."""
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """The encoder of the bundle portraits, whose tensors are in a file of their own."""
    directory = tmp_path / "encoder only"
    directory.mkdir()
    for name in ("manifest.json", "encoder.onnx", "encoder.onnx.data"):
        shutil.copy(find_bundle("portraits") / name, directory)
    return directory


@pytest.fixture(scope="module")
def both() -> Iterator[dict[str, Backend]]:
    """ONNX Runtime and OpenVINO on the bundle portraits."""
    bundle = Bundle.open(find_bundle("portraits"))
    backends = {name: open_backend(name, bundle, 1) for name in ("cpu", "openvino")}
    yield backends
    for backend in backends.values():
        backend.close()


# ------------------------------------------------------------------------------- computing


@pytest.mark.parametrize("role", GRAPHS)
def test_every_graph_computes_what_onnx_runtime_computes(
    role: str, both: dict[str, Backend]
) -> None:
    """Gradients, too: OpenVINO mixes constants up that are used in two ways (see below)."""
    signatures = [backend.signature(role) for backend in both.values()]
    assert signatures[0] == signatures[1]
    rng = np.random.default_rng(0)
    feeds = {}
    for name, spec in signatures[0].inputs.items():
        scale = 0.05 if name.startswith(("weight.", "gradient.", "parameter.")) else 1.0
        shape = [length or 1 for length in spec.shape]
        feeds[name] = scale * rng.standard_normal(shape, np.float32)
    expected, actual = (
        {
            name: backend.download(buffer)
            for name, buffer in backend.run(
                role, {name: backend.upload(array) for name, array in feeds.items()}
            ).items()
        }
        for backend in both.values()
    )
    assert list(actual) == list(expected)
    far = {name: furthest(expected[name], actual[name]) for name in expected}
    assert max(far.values()) < RELATIVE, far


def _conv(**attributes: Any) -> dict[str, Any]:
    return {"kernel_shape": [3, 3], "pads": [1] * 4, **attributes}


SHARED: dict[str, tuple[list[int], list[int], list[Any]]] = {
    # shape of the constant, of the two inputs, nodes (operator, inputs, output, attributes)
    "matrix": (
        [16, 16],
        [4, 16],
        [
            ("Gemm", ["a", "w"], "y", {"transB": 1}),
            ("Gemm", ["b", "w"], "z", {}),
        ],
    ),
    "transposed by a node": (
        [16, 16],
        [4, 16],
        [
            ("MatMul", ["a", "w"], "y", {}),
            ("Transpose", ["w"], "t", {"perm": [1, 0]}),
            ("MatMul", ["b", "t"], "z", {}),
        ],
    ),
    "kernels": (
        [16, 16, 3, 3],
        [1, 16, 8, 8],
        [
            ("Conv", ["a", "w"], "y", _conv()),
            ("ConvTranspose", ["b", "w"], "z", _conv(strides=[2, 2], output_padding=[1, 1])),
        ],
    ),
    "kernels of groups": (
        [16, 8, 3, 3],
        [1, 16, 8, 8],
        [
            ("Conv", ["a", "w"], "y", _conv(group=2)),
            ("ConvTranspose", ["b", "w"], "z", _conv(group=2)),
        ],
    ),
}


@pytest.mark.parametrize("stored", ["float32", "float16"])
@pytest.mark.parametrize("case", SHARED)
def test_a_constant_may_be_used_in_two_ways(case: str, stored: str, tmp_path: Path) -> None:
    """As kept and transposed: OpenVINO alone computes the second with what the first has packed."""
    onnx = pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    helper, rng = onnx.helper, np.random.default_rng(0)
    shape, given, nodes = SHARED[case]
    weight = onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(stored), "stored")
    listed = [helper.make_node("Cast", ["stored"], ["w"], to=onnx.TensorProto.FLOAT)]
    listed += [helper.make_node(kind, names, [out], **more) for kind, names, out, more in nodes]
    graph = helper.make_graph(
        listed,
        "shared",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, given) for name in "ab"],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "yz"],
        [weight],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content = made.SerializeToString()
    feeds = {name: rng.standard_normal(given, np.float32) for name in "ab"}
    expected = ort.InferenceSession(content).run(["y", "z"], feeds)
    core = new_core()
    model = core.read_model(content)
    assert separate_shared_constants(model) == 1
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    actual = compiled(feeds)
    for name, array in zip("yz", expected, strict=True):
        assert furthest(array, actual[name]) < 1e-5


def test_channels_are_reordered_before_a_convolution() -> None:
    """An order that is not its own inverse, as the wavelets of `faces` have it."""
    onnx_helper = pytest.importorskip("onnx").helper
    import onnxruntime as ort
    from onnx import TensorProto, numpy_helper

    rng = np.random.default_rng(0)
    kernels = rng.standard_normal((5, 6, 3, 3)).astype(np.float32)
    graph = onnx_helper.make_graph(
        [
            onnx_helper.make_node("Gather", ["x", "order"], ["reordered"], axis=1),
            onnx_helper.make_node("Conv", ["reordered", "kernels"], ["y"], kernel_shape=[3, 3]),
        ],
        "permuted",
        [onnx_helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6, 8, 8])],
        [onnx_helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5, 6, 6])],
        [
            numpy_helper.from_array(np.array([0, 3, 5, 1, 2, 4]), "order"),
            numpy_helper.from_array(kernels, "kernels"),
        ],
    )
    opset = onnx_helper.make_opsetid("", 18)
    content = onnx_helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
    feeds = {"x": rng.standard_normal((1, 6, 8, 8)).astype(np.float32)}
    (expected,) = ort.InferenceSession(content).run(["y"], feeds)
    core = new_core()
    model = core.read_model(content)
    assert spell_out_permutations(model) == 1
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert furthest(expected, compiled(feeds)["y"]) < 1e-5


def test_uses_of_one_kind_share_a_constant() -> None:
    """Nothing is copied in graphs that go one way."""
    core = new_core()
    for role in ("encoder", "hypernet", "weights"):
        model = core.read_model(str(find_bundle("portraits") / f"{role}.onnx"))
        assert separate_shared_constants(model) == 0
    objective = core.read_model(str(find_bundle("portraits") / "objective.onnx"))
    assert separate_shared_constants(objective) > 0


def test_batches_are_their_rows_and_results_are_kept(both: dict[str, Backend]) -> None:
    """A later run of the same graph writes to other arrays."""
    backend = both["openvino"]
    z = np.random.default_rng(0).standard_normal((3, 256), np.float32)
    together = backend.run("mapping", {"z": backend.upload(z)})["w"]
    kept = together.copy()
    rows = [backend.run("mapping", {"z": backend.upload(row[None])})["w"] for row in z]
    assert np.array_equal(np.concatenate(rows), kept)
    assert np.array_equal(together, kept)
    assert backend.largest_batch == 1


@LARGE
def test_an_inversion_and_its_refinement_are_those_of_onnx_runtime() -> None:
    results = []
    for name in ("cpu", "openvino"):
        with Model.load("portraits", name, threads=1) as model:
            inversion = model.invert(PICTURE, 2, align="never")
            results.append(model.optimise(inversion, PICTURE, steps=1, align="never"))
    expected, actual = results
    # Adam's first step goes by the signs of the gradients: near zero rounding decides of them.
    assert np.sqrt(np.square(actual.output - expected.output).mean()) < 1e-4
    assert furthest(expected.latents, actual.latents) < RELATIVE
    assert actual.computed["backend"] == "openvino"
    assert actual.computed["provider"].startswith("OpenVINO 2")
    assert actual.computed["precision"] == "fp32"


def test_inputs_are_compared_with_the_signature(both: dict[str, Backend]) -> None:
    backend = both["openvino"]
    target = np.zeros((1, 3, 128, 128), np.float32)
    with pytest.raises(BackendError, match="takes target as a buffer, not as list"):
        backend.run("encoder", {"target": target.tolist()})
    with pytest.raises(BackendError, match=r"takes target as float32 \[N,3,128,128\], not as"):
        backend.run("encoder", {"target": target[..., :64]})
    with pytest.raises(BackendError, match="has no input picture, only target"):
        backend.run("encoder", {"target": target, "picture": target})
    with pytest.raises(BackendError, match="was given batches of 1, 2"):
        codes = np.zeros((2, 7, 65), np.float32)
        backend.run("hypernet", {"target": target, "reconstruction": target, "codes": codes})
    with pytest.raises(BundleError, match="has no graph 'no such'"):
        backend.signature("no such")


def test_threads_may_share_a_backend(tiny_bundle: Path) -> None:
    backend = open_openvino(tiny_bundle)
    assert backend.for_session() is backend
    values = np.linspace(-1, 1, 16)
    expected = [encode(backend, value) for value in values]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda value: encode(backend, value), values))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_check_finds_no_difference(tiny_bundle: Path) -> None:
    """Within the bounds of fp32, of every graph and of whole inversions."""
    bundle = Bundle.open(tiny_bundle)
    contenders = [open_contender(name, bundle, 1) for name in ("cpu", "openvino")]
    assert contenders_at_hand(bundle)[:2] == ["cpu", "openvino"]
    pictures = [sample_picture(bundle, 0)]
    comparison = compare(*contenders, bundle, pictures, 2, lambda _said: None)
    assert comparison.outside() == []


# ------------------------------------------------------------------------------- precision


def test_the_precision_is_asked_for_and_read_back(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiled model that says otherwise is refused, whatever it was asked for."""
    compiled = open_openvino(encoder)._compiler.compile("encoder").model
    assert openvino_models.product_types(compiled) == {"f32"}
    for told, products in (("bf16", {"f32"}), ("f32", {"f32", "bf16"})):
        monkeypatch.setattr(openvino_models, "product_types", lambda _, found=products: found)
        hint = SimpleNamespace(get_type_name=lambda told=told: told)
        stand_in = SimpleNamespace(get_property=lambda _key, hint=hint: hint)
        with pytest.raises(BackendError, match="computes the graph encoder in bf16, f32, not in"):
            ModelCompiler(Bundle.open(encoder), "fp32", 1)._check_precision("encoder", stand_in)


def test_bfloat16_is_refused_where_the_cpu_lacks_it(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_models, "computes_bfloat16", lambda _core: False)
    for name in ("openvino", "auto"):
        with pytest.raises(BackendError) as refusal:
            open_backend(name, Bundle.open(encoder), 1, "bf16")
        assert "which has no bfloat16 instructions (AVX-512 BF16 or AMX); use" in str(refusal.value)


def test_precisions_are_those_of_the_registry(encoder: Path) -> None:
    bundle = Bundle.open(encoder)
    with pytest.raises(BackendError, match="openvino has no precision 'fp16', only"):
        open_backend("openvino", bundle, 1, "fp16")
    with pytest.raises(BackendError, match=r"cpu has no precision 'bf16', .* --backend openvino"):
        open_backend("cpu", bundle, 1, "bf16")


def test_bfloat16_is_computed_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if not computes_bfloat16(new_core()):
        pytest.skip("needs a CPU with AVX-512 BF16 or AMX")
    with Model.load("portraits", "auto", threads=1, precision="bf16") as model:
        inversion = model.invert(PICTURE, align="never")
    with Model.load("portraits", "cpu", threads=1) as model:
        expected = model.invert(PICTURE, align="never")
    assert inversion.computed["precision"] == "bf16"
    error = np.square(inversion.output - expected.output).mean()
    assert 0 < error < 4 / 10**4.5  # 45 dB


def test_a_model_is_sent_with_its_precision(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its graphs are fp32: reopened in another process it computes the same."""
    backend = open_openvino(tiny_bundle)
    backend._compiler.precision = "bf16"
    assert (backend.precision, asked_precision(backend)) == ("bf16", "bf16")
    opened = []
    monkeypatch.setattr("hyperstyle_rt.model.open_backend", lambda *given: opened.append(given))
    with pytest.raises(AttributeError):  # there is no backend behind it
        pickle.loads(pickle.dumps(Model(Bundle.open(tiny_bundle), backend)))._work  # noqa: B018
    assert [given[3] for given in opened] == ["bf16"]


# ---------------------------------------------------------------------------- verified files


def test_linked_files_are_followed(encoder: Path, tmp_path: Path) -> None:
    store, bundle = tmp_path / "store", tmp_path / "bundle"
    store.mkdir()
    bundle.mkdir()
    for number, path in enumerate(sorted(encoder.iterdir())):
        shutil.copy(path, store / f"blob{number}")
        (bundle / path.name).symlink_to(Path("..") / "store" / f"blob{number}")
    assert np.array_equal(encode(open_openvino(bundle)), encode(open_openvino(encoder)))


@pytest.mark.parametrize("name", ["encoder.onnx", "encoder.onnx.data"])
def test_a_file_that_is_swapped_after_its_verification_is_refused(
    name: str, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, file = open_openvino(encoder), encoder / name
    core = backend._compiler.core

    class Swapping:
        def read_model(self, path: str) -> Any:
            file.rename(encoder / "aside")
            evil = bytearray((encoder / "aside").read_bytes())
            evil[-1] ^= 1
            file.write_bytes(evil)
            try:
                return core.read_model(path)
            finally:
                (encoder / "aside").rename(file)

    backend._compiler.core = Swapping()
    with pytest.raises(BundleError, match=f"{name} was changed while|cannot load"):
        encode(backend)


def test_a_file_that_is_altered_later_is_refused(encoder: Path) -> None:
    """Files are mapped; one that was replaced, as by the exporter, is still the old one."""
    backend, data = open_openvino(encoder), encoder / "encoder.onnx.data"
    expected = encode(backend)
    new = encoder / "new"
    new.write_bytes(bytes(data.stat().st_size))
    shutil.copy(data, encoder / "old")
    new.rename(data)
    assert np.array_equal(encode(backend), expected)
    with pytest.raises(BundleError, match=r"encoder\.onnx\.data is altered"):
        encode(open_openvino(encoder))
    (encoder / "old").rename(data)
    backend = open_openvino(encoder)
    encode(backend)
    with data.open("r+b") as file:
        file.write(b"\0" * 1000)
    with pytest.raises(BundleError, match=r"encoder\.onnx\.data was changed while it was in use"):
        encode(backend)
    backend.close()


@LINUX
@pytest.mark.parametrize("name", ["Gesichter-\u00e4\u00df", "\u043b\u0438\u0446\u0430", "a\udcffb"])
def test_any_path_is_opened_in_any_locale(name: str, encoder: Path, tmp_path: Path) -> None:
    copy = encoder.rename(tmp_path / name)
    environment = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    ran = python(f"{OPEN}\nprint(encode(load()).shape)", copy, **environment)
    assert ran.stdout == "(1, 12, 256)\n", ran.stderr


# ----------------------------------------------------------------------------- lifetime


def test_a_closed_backend_says_so(tiny_bundle: Path) -> None:
    backend = open_openvino(tiny_bundle)
    encode(backend)
    backend.close()
    backend.close()
    for use in (lambda: encode(backend), backend.for_session, lambda: backend.signature("encoder")):
        with pytest.raises(BackendError, match="this model is closed; load it again to use it"):
            use()


FORK = (
    OPEN
    + """
import time
backend = load()
encode(backend)
child = os.fork()
if child == 0:
    try:
        encode(backend)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    backend.close()
    del backend
    print(encode(load()).shape, flush=True)
    sys.exit(7)
ended = time.monotonic() + 60
while time.monotonic() < ended:
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        break
    time.sleep(0.05)
else:
    os.kill(child, 9)
    sys.exit("the child hangs")
print(os.waitstatus_to_exitcode(status), encode(backend).shape, flush=True)
"""
)


@FORKS
def test_a_child_is_told_and_may_open_its_own(tiny_bundle: Path) -> None:
    ran = python(FORK, tiny_bundle)
    sentence, *rest = ran.stdout.splitlines()
    assert sentence.startswith("BackendError this model was loaded before the process forked")
    assert rest == ["(1, 8, 16)", "7 (1, 8, 16)"], ran.stderr
    assert ran.stderr == ""


# ------------------------------------------------------------------------------- library


def test_nothing_is_reported_or_printed(tiny_bundle: Path, tmp_path: Path) -> None:
    """To import the package as it is tells its maker so, and leaves a file in the user's home."""
    code = f"{OPEN}\nprint(encode(load()).shape, 'openvino_telemetry' in sys.modules)"
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "CI": ""}
    ran = python(code, tiny_bundle, **home)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "(1, 8, 16) False\n", "")
    assert list(tmp_path.iterdir()) == []


def test_other_instruction_sets_compute_the_same(encoder: Path) -> None:
    code = f"{OPEN}\nnp.save(sys.argv[2], encode(load()))"
    path = encoder / "latents.npy"
    ran = python(code, encoder, path, ONEDNN_MAX_CPU_ISA="SSE41")
    assert ran.returncode == 0, ran.stderr
    assert furthest(encode(open_openvino(encoder)), np.load(path)) < RELATIVE


def test_a_missing_openvino_is_one_sentence(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError) as refusal:
        open_openvino(tiny_bundle)
    assert str(refusal.value) == (
        "OpenVINO is not installed; pip install 'hyperstyle-rt[openvino]', or use --backend cpu"
    )
    assert registry.entry_of("openvino").problem() == str(refusal.value)


def test_a_broken_openvino_is_one_sentence(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_name: str) -> None:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr(openvino_library, "import_module", broken)
    with pytest.raises(BackendError, match=r"cannot be imported \(libtbb.* --force-reinstall"):
        open_openvino(tiny_bundle)


def test_the_cause_of_an_error_is_its_last_line() -> None:
    told = (
        "Exception from src/inference/src/cpp/core.cpp:120:\n"
        "Check 'false' failed at src/frontends/onnx/frontend.cpp:42:\nwrong wire type\n\n"
    )
    assert cause_of(RuntimeError(told)) == "wrong wire type"
    assert cause_of(RuntimeError()) == "RuntimeError"


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
from hyperstyle_rt.cli.app import main
sys.argv = ["hyperstyle-rt", "invert", "--backend", "openvino", *sys.argv[2:]]
main()
"""


@LINUX
@pytest.mark.parametrize("limit", [3_000_000_000, 900_000_000, 650_000_000])
def test_a_limit_of_memory_is_kept_or_a_sentence(limit: int, tmp_path: Path) -> None:
    """Where OpenVINO gets no memory it may crash the process."""
    ran = python(LIMITED, limit, PICTURE, "--bundle", "portraits", "--out", tmp_path / "out.png")
    if limit > 1_600_000_000:
        assert ran.returncode == 0, ran.stderr
        assert (tmp_path / "out.png").exists()
    else:
        assert ran.returncode == 2
        (line,) = ran.stderr.splitlines()
        assert line.startswith("error: there is not enough memory to ")
        assert not list(tmp_path.iterdir())
