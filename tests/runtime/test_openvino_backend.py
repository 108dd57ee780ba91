"""OpenVINO as a backend: its precision, its files, its life, and what it says."""

from __future__ import annotations

import pickle
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hyperstyle_rt import BackendError, BundleError, Model
from hyperstyle_rt.backends import openvino_library, openvino_models, registry
from hyperstyle_rt.backends.openvino_library import cause_of
from hyperstyle_rt.backends.openvino_models import ModelCompiler
from hyperstyle_rt.backends.protocol import asked_precision
from hyperstyle_rt.backends.registry import open_backend
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from opened_backends import NEEDS_OPENVINO, OPEN, encode, furthest, python, require_bfloat16

pytestmark = NEEDS_OPENVINO
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit addresses")

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "examples" / "portrait_0.png"
RELATIVE = 1e-4  # of a tensor's largest value


def open_openvino(directory: Path, precision: str = "fp32") -> Any:
    return open_backend("openvino", Bundle.open(directory), 1, precision)


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """The encoder of the bundle portraits, whose tensors are in a file of their own."""
    directory = tmp_path / "encoder only"
    directory.mkdir()
    for name in ("manifest.json", "encoder.onnx", "encoder.onnx.data"):
        shutil.copy(find_bundle("portraits") / name, directory)
    return directory


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
    require_bfloat16()
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
    ran = python(f"{OPEN}\nprint(encode(load('openvino')).shape)", copy, **environment)
    assert ran.stdout == "(1, 12, 256)\n", ran.stderr


# ----------------------------------------------------------------------------- lifetime


def test_threads_may_share_a_backend(tiny_bundle: Path) -> None:
    backend = open_openvino(tiny_bundle)
    assert backend.for_session() is backend
    values = np.linspace(-1, 1, 16)
    expected = [encode(backend, value) for value in values]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda value: encode(backend, value), values))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_closed_backend_says_so(tiny_bundle: Path) -> None:
    backend = open_openvino(tiny_bundle)
    encode(backend)
    backend.close()
    backend.close()
    for use in (lambda: encode(backend), backend.for_session, lambda: backend.signature("encoder")):
        with pytest.raises(BackendError, match="this model is closed; load it again to use it"):
            use()


# ------------------------------------------------------------------------------- library


def test_nothing_is_reported_or_printed(tiny_bundle: Path, tmp_path: Path) -> None:
    """To import the package as it is tells its maker so, and leaves a file in the user's home."""
    code = f"{OPEN}\nprint(encode(load('openvino')).shape, 'openvino_telemetry' in sys.modules)"
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "CI": ""}
    ran = python(code, tiny_bundle, **home)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "(1, 8, 16) False\n", "")
    assert list(tmp_path.iterdir()) == []


def test_other_instruction_sets_compute_the_same(encoder: Path) -> None:
    code = f"{OPEN}\nnp.save(sys.argv[2], encode(load('openvino')))"
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
