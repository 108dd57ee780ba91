"""ONNX Runtime lets go of graphs that a descent does not run, and shares what two graphs read."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
from hyperstyle_rt import BundleError, Inversion, Model
from hyperstyle_rt.backends import ort, ort_mapped_tensors
from hyperstyle_rt.backends.ort import OnnxRuntimeBackend
from hyperstyle_rt.backends.protocol import Buffers
from hyperstyle_rt.backends.registry import open_backend
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.formats.protobuf import content, fields, number, varints
from opened_backends import OPEN, python

PAIR = ("weights", "weights_adjoint")
DATA = "weights.onnx.data"


@pytest.fixture
def _every_graph_is_worth_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "WORTH_CLOSING", 0)


@pytest.fixture(scope="module")
def sharing_bundle(
    tiny_checkpoints: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny model as a bundle with data files, as large ones have them."""
    from hyperstyle_export.bundles import writer
    from hyperstyle_export.graphs.builder import save_model
    from hyperstyle_export.readers.official import load_model

    def save(model: Any, path: Path) -> list[Path]:
        return save_model(model, path, external_above=0)

    directory = tmp_path_factory.mktemp("sharing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "save_model", save)
        model = load_model(*tiny_checkpoints)
        facts = writer.BundleFacts("sharing")
        writer.write_bundle(model, directory, facts, "fp32", lambda _step: None)
    return directory


@pytest.fixture
def backend(
    sharing_bundle: Path,
    tmp_path: Path,
    _every_graph_is_worth_closing: None,
    monkeypatch: pytest.MonkeyPatch,
) -> OnnxRuntimeBackend:
    """Of a copy of a bundle that has `weights` and its adjoint alone."""
    monkeypatch.setattr(ort_mapped_tensors, "_LEAST", 0)
    for name in ("manifest.json", DATA, *(f"{role}.onnx" for role in PAIR)):
        shutil.copy(sharing_bundle / name, tmp_path)
    opened = open_backend("cpu", Bundle.open(tmp_path), 1)
    assert isinstance(opened, OnnxRuntimeBackend)
    return opened


def run(backend: OnnxRuntimeBackend, role: str) -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    inputs = {
        name: random.standard_normal([length or 1 for length in spec.shape], np.float32)
        for name, spec in backend.signature(role).inputs.items()
    }
    outputs = backend.run(role, {name: backend.upload(array) for name, array in inputs.items()})
    return {name: backend.download(buffer) for name, buffer in outputs.items()}


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5 * np.abs(array).max())


def test_a_graph_and_its_adjoint_share_their_tensors(
    backend: OnnxRuntimeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = run(backend, "weights")
    assert backend._graphs["weights"].tensors is None
    gradients = run(backend, "weights_adjoint")
    assert [*backend._graphs] == ["weights_adjoint"]  # `weights` had tensors of its own
    assert_close(run(backend, "weights"), alone)
    one, other = (backend._graphs[role].tensors for role in PAIR)
    assert one is not None and other is not None
    assert one._values.keys() & other._values.keys()
    assert one._data[DATA] is other._data[DATA]
    backend.let_go(PAIR)
    assert not backend._graphs
    monkeypatch.setattr(ort, "WORTH_CLOSING", 1 << 40)
    assert_close(run(backend, "weights_adjoint"), gradients)
    assert backend._graphs["weights_adjoint"].tensors is None


def test_shared_tensors_that_are_written_to_are_refused(
    backend: OnnxRuntimeBackend, tmp_path: Path
) -> None:
    run(backend, "weights_adjoint")
    with (tmp_path / DATA).open("r+b") as file:
        file.write(b"another")
    with pytest.raises(BundleError, match=rf"{DATA} was changed while it was in use"):
        run(backend, "weights_adjoint")
    backend.let_go(PAIR)
    with pytest.raises(BundleError, match=rf"{DATA} is altered"):
        run(backend, "weights_adjoint")


def test_linked_files_are_not_shared(
    sharing_bundle: Path, tmp_path: Path, _every_graph_is_worth_closing: None
) -> None:
    for name in ("manifest.json", DATA, *(f"{role}.onnx" for role in PAIR)):
        (tmp_path / name).symlink_to(sharing_bundle / name)
    backend = open_backend("cpu", Bundle.open(tmp_path), 1)
    assert isinstance(backend, OnnxRuntimeBackend)
    run(backend, "weights_adjoint")
    assert backend._graphs["weights_adjoint"].tensors is None


def test_small_graphs_stay_open() -> None:
    backend = open_backend("cpu", Bundle.open(find_bundle("portraits")), 1)
    assert isinstance(backend, OnnxRuntimeBackend)
    backend.signature("weights")
    backend.let_go(["weights", "encoder"])
    assert [*backend._graphs] == ["weights"]


RESIDENT = (
    OPEN
    + """
from hyperstyle_rt.backends import ort
ort.WORTH_CLOSING = 0

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024

roles = ("encoder", "hypernet", "weights")
backend = load()
backend.signature("generator")
before = resident()
for role in roles:
    backend.signature(role)
during = resident()
backend.let_go(roles)
print(before, during, resident())
"""
)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_is_given_back() -> None:
    ran = python(RESIDENT, find_bundle("portraits"))
    before, during, after = map(float, ran.stdout.split())
    assert during - before > 20  # MiB
    assert after - before < 0.2 * (during - before)


USED = {
    "channel_offsets": {"objective", "channel_offsets", "channel_offsets_adjoint"},
    "codes": {"objective", "weights", "weights_adjoint"},
}


@pytest.mark.parametrize("variable", USED)
def test_a_descent_keeps_what_it_runs(
    tiny_bundle: Path, picture: np.ndarray, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends where it ends with all graphs open."""

    def refine(during: list[set[str]]) -> Inversion:
        with Model.load(tiny_bundle, "cpu", threads=1) as model:
            backend = model.backend
            assert isinstance(backend, OnnxRuntimeBackend)
            inversion = model.invert(picture, 2, align="never")
            refined = model.optimise(
                inversion,
                picture,
                steps=4,
                variables=(variable,),
                on_step=lambda *_: during.append({*backend._graphs}),
                align="never",
            )
            during.append({*backend._graphs})
            return refined

    kept: list[set[str]] = []
    expected = refine(kept)
    assert {"encoder", "hypernet", "features", *USED[variable]} <= kept[-1]
    monkeypatch.setattr(ort, "WORTH_CLOSING", 0)
    open_graphs: list[set[str]] = []
    found = refine(open_graphs)
    *first, last = open_graphs
    assert all(graphs <= USED[variable] for graphs in first) and first[-1] == USED[variable]
    assert last.isdisjoint({"objective", "features", "encoder", "weights_adjoint"})
    np.testing.assert_allclose(found.output, expected.output, rtol=0, atol=1e-4)


@pytest.mark.parametrize("variable", [*USED, "latents", "noise"])
def test_what_graphs_have_made_is_not_kept_beyond_them(
    tiny_bundle: Path, picture: np.ndarray, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A buffer of a few bytes may keep a gigabyte of the memory that graphs share."""
    made: WeakSet[object] = WeakSet()
    left: list[int] = []
    with Model.load(tiny_bundle, "cpu", threads=1) as model:
        run, let_go = model.backend.run, model.backend.let_go

        def watched_run(role: str, inputs: Mapping[str, Any]) -> Buffers:
            outputs = run(role, inputs)
            made.update(outputs.values())
            return outputs

        def watched_let_go(roles: Iterable[str]) -> None:
            left.append(len(made))
            let_go(roles)

        inversion = model.invert(picture, 2, align="never")
        monkeypatch.setattr(model.backend, "run", watched_run)
        monkeypatch.setattr(model.backend, "let_go", watched_let_go)
        model.optimise(inversion, picture, steps=2, variables=(variable,), align="never")
    assert left == [0, 0]


def test_repeated_integers_are_read_alone_and_packed() -> None:
    (alone,) = fields(number(1, 300))
    (packed,) = fields(content(1, b"\xac\x02\x01\x00"))
    assert varints(alone) == (300,) and varints(packed) == (300, 1, 0)
    (torn,) = fields(content(1, b"\x01\xac"))
    with pytest.raises(ValueError, match="no end"):
        varints(torn)
