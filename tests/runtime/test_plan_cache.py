"""Plans the runtime builds itself: found again, private, never used when they are not as built."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hyperstyle_rt import BackendError, BundleError, Model
from hyperstyle_rt.backends.cuda.driver import Gpu
from hyperstyle_rt.backends.plans import build as plan_build
from hyperstyle_rt.backends.plans import cache as plan_cache
from hyperstyle_rt.backends.plans.build import (
    BuiltPlan,
    EngineOptions,
    OnProgress,
    Target,
    rtx_target,
)
from hyperstyle_rt.backends.plans.cache import cache_directory, cached_plan, plans_of
from hyperstyle_rt.formats.bundle import Bundle
from stand_ins import VERSION, StandInCuda

TARGET = Target("tensorrt", f"TensorRT {VERSION}", VERSION, 89, "NVIDIA L4")


class Builds(list[tuple[str, EngineOptions]]):
    """Stands for build_plan: the plans are those of stand_ins.py; what was built is recorded."""

    def __call__(
        self,
        target: Target,
        graph: Path,
        role: str,
        plan: Path,
        options: EngineOptions,
        on_progress: OnProgress,
    ) -> BuiltPlan:
        self.append((graph.name, options))
        content = f"plan:{graph}".encode()
        plan.write_bytes(content)
        return BuiltPlan(len(content), hashlib.sha256(content).hexdigest(), 7, 0.1)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Builds:
    recorded = Builds()
    monkeypatch.setattr(plan_cache, "build_plan", recorded)
    return recorded


@pytest.fixture
def bundle(planned: Path, tmp_path: Path, cuda: StandInCuda) -> Bundle:
    """The bundle without its plans, on a machine with an empty cache."""
    copy = tmp_path / "bundle"
    shutil.copytree(planned, copy, ignore=shutil.ignore_patterns("tensorrt"))
    manifest = replace(Bundle.open(copy).manifest, plans={})
    (copy / "manifest.json").write_text(json.dumps(manifest.to_json()), encoding="utf-8")
    return Bundle.open(copy)


def load(bundle: Bundle) -> Model:
    return Model.load(bundle.directory, "tensorrt")


def test_what_the_bundle_lacks_is_built_once(
    bundle: Bundle, builds: Builds, picture: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    expected = Model.load(bundle.directory, "cpu").invert(picture, 2)
    for _ in range(2):
        inversion = load(bundle).invert(picture, 2)
        assert np.abs(inversion.output - expected.output).max() <= 1e-5
    names = {name for name, _ in builds}
    assert names == {f"{role}.onnx" for role in ("encoder", "hypernet", "weights", "generator")}
    assert len(builds) == 4
    assert "building the plan of generator.onnx for TensorRT 10.13.2.6 on NVIDIA L4" in caplog.text
    assert not Bundle.open(bundle.directory).manifest.plans  # the bundle is left as it is
    times = {options.timing_cache for _, options in builds}
    assert times == {cache_directory() / TARGET.key("fp32") / "timing.cache"}


def test_plans_of_the_bundle_are_preferred(
    planned: Path, cuda: StandInCuda, builds: Builds, picture: np.ndarray
) -> None:
    Model.load(planned, "tensorrt").invert(picture, 1)
    assert builds == []


@pytest.mark.skipif(sys.platform == "win32", reason="modes of files are POSIX")
def test_the_cache_is_the_users_alone(bundle: Bundle, builds: Builds) -> None:
    cached_plan(bundle, TARGET, "fp32", "encoder")
    assert stat.S_IMODE(cache_directory().stat().st_mode) == 0o700
    cache_directory().chmod(0o770)
    with pytest.raises(BackendError, match=r"others can get at .*; run: chmod 700"):
        cached_plan(bundle, TARGET, "fp32", "encoder")


@pytest.mark.skipif(sys.platform == "win32", reason="users of files are POSIX")
def test_the_cache_of_another_user_is_refused(
    bundle: Bundle, builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_cache.os, "getuid", lambda: 4711)
    with pytest.raises(BackendError, match=r"it is another user's.; set HYPERSTYLE_RT_PLANS"):
        cached_plan(bundle, TARGET, "fp32", "encoder")


def test_whatever_decides_about_a_plan_is_in_its_name(bundle: Bundle, builds: Builds) -> None:
    others = [
        replace(TARGET, version="10.14.1"),
        replace(TARGET, sm=86),
        replace(TARGET, gpu="NVIDIA A10"),
    ]
    paths = {cached_plan(bundle, target, "fp32", "encoder").path for target in (TARGET, *others)}
    paths.add(cached_plan(bundle, TARGET, "fp16", "encoder").path)
    paths.add(cached_plan(bundle, TARGET, "fp32", "weights").path)
    manifest = bundle.manifest
    changed = replace(manifest.files["encoder.onnx"], sha256="0" * 64)
    files = {**manifest.files, "encoder.onnx": changed}
    other_graph = Bundle(bundle.directory, replace(manifest, files=files))
    with pytest.raises(BundleError, match=r"encoder\.onnx is altered"):
        cached_plan(other_graph, TARGET, "fp32", "encoder")
    assert len(paths) == len(builds) == 6


@pytest.mark.parametrize("spoilt", ["plan", "note", "no note", "strange note"])
def test_a_plan_that_is_not_as_built_is_built_again(
    spoilt: str, bundle: Bundle, builds: Builds, caplog: pytest.LogCaptureFixture
) -> None:
    built = cached_plan(bundle, TARGET, "fp32", "encoder")
    plan = built.path
    note = plan.with_suffix(".json")
    if spoilt == "plan":
        plan.write_bytes(plan.read_bytes().swapcase())
    elif spoilt == "note":
        note.write_bytes(note.read_bytes()[:-9])
    elif spoilt == "no note":
        note.unlink()
    else:
        note.write_text('{"role": ["encoder"]}')
    assert list(plans_of(bundle)) == [] or spoilt == "plan"
    assert cached_plan(bundle, TARGET, "fp32", "encoder") == built
    assert len(builds) == 2
    assert ("is damaged and is built again" in caplog.text) == (spoilt == "plan")
    assert cached_plan(bundle, TARGET, "fp32", "encoder") == built
    assert len(builds) == 2


def test_the_cache_knows_no_roles(bundle: Bundle, builds: Builds) -> None:
    """Every graph of a bundle gets a plan; those that render serve batches."""
    for role in bundle.manifest.graphs:
        cached_plan(bundle, TARGET, "fp32", role)
    batches = {name: options.batch(name.removesuffix(".onnx")) for name, options in builds}
    assert batches.keys() == {graph.file for graph in bundle.manifest.graphs.values()}
    large = {name for name, batch in batches.items() if batch.largest == 8}
    assert large == {"generator.onnx", "styled_generator.onnx"}


def test_a_graph_the_bundle_lacks_is_one_sentence(bundle: Bundle, builds: Builds) -> None:
    with pytest.raises(BundleError, match="has no graph 'offsets', only "):
        cached_plan(bundle, TARGET, "fp32", "offsets")


def test_an_altered_graph_is_not_built(bundle: Bundle, builds: Builds) -> None:
    path = bundle.directory / "encoder.onnx"
    path.write_bytes(path.read_bytes().swapcase())
    with pytest.raises(BundleError, match=r"encoder\.onnx is altered"):
        cached_plan(bundle, TARGET, "fp32", "encoder")
    assert builds == []


def test_a_cache_that_cannot_be_made_is_one_sentence(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("HYPERSTYLE_RT_PLANS", str(tmp_path / "file" / "plans"))
    with pytest.raises(BackendError, match=r"cannot keep TensorRT plans in .*set HYPERSTYLE_RT_"):
        cached_plan(bundle, TARGET, "fp32", "encoder")


def test_the_cache_is_where_caches_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HYPERSTYLE_RT_PLANS", raising=False)
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "hyperstyle-rt" / "plans"


def test_plans_in_the_cache_are_listed_with_their_bundle(bundle: Bundle, builds: Builds) -> None:
    assert list(plans_of(bundle)) == []
    expected = [cached_plan(bundle, TARGET, "fp16", role).path for role in ("encoder", "weights")]
    found = list(plans_of(bundle))
    assert sorted(plan.path for plan in found) == sorted(expected)
    assert {plan.key for plan in found} == {f"{VERSION}-sm89-fp16"}
    assert {plan.role for plan in found} == {"encoder", "weights"}
    stranger = replace(bundle.manifest.files["encoder.fp16.onnx"], sha256="1" * 64)
    files = {**bundle.manifest.files, "encoder.fp16.onnx": stranger}
    other = Bundle(bundle.directory, replace(bundle.manifest, files=files))
    assert [plan.role for plan in plans_of(other)] == ["weights"]


def test_a_real_build_lands_in_the_cache(bundle: Bundle) -> None:
    """By TensorRT-RTX, whose plans no backend loads: it is the one that builds without a GPU."""
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    target = rtx_target(89)
    built = cached_plan(bundle, target, "fp32", "encoder")
    plan = built.path
    assert plan.stat().st_size > 1000
    modified = plan.stat().st_mtime_ns
    assert cached_plan(bundle, target, "fp32", "encoder") == built
    assert plan.stat().st_mtime_ns == modified


def test_another_gpu_of_the_same_architecture_gets_its_own_plan(
    bundle: Bundle, builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(bundle).backend.signature("encoder")
    monkeypatch.setattr(plan_build, "find_gpu", lambda: Gpu("NVIDIA RTX 4090", 89))
    load(bundle).backend.signature("encoder")
    assert len(builds) == 2
