"""The process that builds a plan, against a stand-in for TensorRT, and libraries that die in it."""

from __future__ import annotations

import gc
import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hyperstyle_rt.backends.plans import worker as plan_worker
from hyperstyle_rt.backends.plans.build import EngineError, EngineOptions, Target, build_plan
from hyperstyle_rt.backends.plans.worker import BuildRequest


def silent(_step: str) -> None:
    """Show no progress."""


class StandInSeverity:
    """Levels of TensorRT's logger."""

    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)


class StandInTimingCache:
    """Kernel times; those of another GPU are refused."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"+1"


class StandInConfig:
    """A builder's configuration that records what it is given."""

    def __init__(self) -> None:
        self.caches: list[bytes] = []
        self.limits: dict[str, int] = {}

    def create_timing_cache(self, content: bytes) -> StandInTimingCache | None:
        return None if content == b"garbage" else StandInTimingCache(content)

    def set_timing_cache(self, cache: StandInTimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.content == b"other GPU":
            return False
        self.cache = cache
        self.caches.append(cache.content)
        return True

    def get_timing_cache(self) -> StandInTimingCache:
        return self.cache

    def set_memory_pool_limit(self, pool: str, limit: int) -> None:
        self.limits[pool] = limit

    def add_optimization_profile(self, profile: Any) -> None: ...


def stand_in(config: StandInConfig, seen: list[Any] | None = None) -> Any:
    """A module like tensorrt that builds a plan of four bytes."""
    network = SimpleNamespace(num_inputs=0, num_layers=3)

    def serialise(_network: Any, _config: Any) -> bytes:
        if seen is not None:
            seen.append(gc.isenabled())
        return b"plan"

    builder = SimpleNamespace(
        create_network=lambda flags: network,
        create_builder_config=lambda: config,
        create_optimization_profile=lambda: None,
        build_serialized_network=serialise,
    )
    return SimpleNamespace(
        __name__="tensorrt",
        __version__="10.13.2.6",
        ILogger=type("ILogger", (), {"Severity": StandInSeverity}),
        IProgressMonitor=type("IProgressMonitor", (), {}),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
        Builder=lambda log: builder,
        OnnxParser=lambda net, log: SimpleNamespace(parse_from_file=lambda path: True),
    )


def request_of(directory: Path, **changes: Any) -> BuildRequest:
    facts: dict[str, Any] = {
        "module": "tensorrt",
        "title": "TensorRT 10",
        "graph": str(directory / "encoder.onnx"),
        "plan": str(directory / "encoder.plan"),
        "sm": 89,
        "capability": None,
        "batch": (1, 1, 4),
        "workspace": None,
        "timing_cache": None,
        "layer_report": False,
    }
    return BuildRequest(**facts | changes)


@pytest.mark.parametrize(
    ("content", "used", "afresh"),
    [
        (None, b"", False),
        (b"times", b"times", False),
        (b"other GPU", b"", True),
        (b"garbage", b"", True),
    ],
)
def test_the_timing_cache_is_read_and_written(
    content: bytes | None, used: bytes, afresh: bool, tmp_path: Path
) -> None:
    config, cache = StandInConfig(), tmp_path / "timing.cache"
    if content is not None:
        cache.write_bytes(content)
    request = request_of(tmp_path, timing_cache=str(cache), workspace=1 << 20)
    built = plan_worker.build(stand_in(config), request, lambda _message: None)
    assert config.caches == [used]
    assert cache.read_bytes() == used + b"+1"
    assert any("is started afresh" in text for text in built.warnings) == afresh
    assert config.limits == {"workspace": 1 << 20}
    assert (tmp_path / "encoder.plan").read_bytes() == b"plan"


def test_the_worker_collects_no_garbage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A builder that is garbage, collected in TensorRT's logger, waits for itself."""
    seen: list[Any] = []
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in(StandInConfig(), seen))
    text = json.dumps(vars(request_of(tmp_path)))
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    monkeypatch.setattr(os, "_exit", lambda status: seen.append(status))
    standard_output = os.dup(1)
    try:
        plan_worker.main()
    finally:
        os.dup2(standard_output, 1)
        os.close(standard_output)
        gc.enable()
    assert seen == [False, 0]
    (line,) = capfd.readouterr().out.splitlines()
    assert json.loads(line)["built"]["layers"] == 3


@pytest.mark.parametrize(
    ("module", "longest", "says"),
    [
        ("import os; os.kill(os.getpid(), 11)", 300, r"without an answer \(SIGSEGV\)"),
        ("import time; time.sleep(600)", 2, "has taken too long and was stopped"),
        ("import os; os._exit(3)", 300, r"without an answer \(exit status 3\)"),
    ],
    ids=["crash", "hang", "exit"],
)
def test_a_library_that_dies_takes_only_its_own_process_down(
    module: str, longest: float, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unreliable.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    target = Target("unreliable", "Unreliable 1", "1", 89)
    options = EngineOptions(longest=longest)
    plan, graph = tmp_path / "encoder.plan", tmp_path / "encoder.onnx"
    with pytest.raises(EngineError, match=f"Unreliable 1 building encoder.onnx .*{says}"):
        build_plan(target, graph, "encoder", plan, options, silent)
    assert not plan.exists()


@pytest.mark.parametrize(
    ("module", "version", "strong"),
    [("tensorrt", "10.13.2.6", True), ("tensorrt", "11.4.0", False), ("tensorrt_rtx", "1.7", True)],
)
def test_networks_are_strongly_typed(module: str, version: str, strong: bool) -> None:
    """TensorRT 11 knows no other networks and ignores the flag; 10 and RTX want it."""
    flags = SimpleNamespace(STRONGLY_TYPED=1)
    stub: Any = SimpleNamespace(
        __name__=module, __version__=version, NetworkDefinitionCreationFlag=flags
    )
    assert plan_worker.network_flags(stub) == (2 if strong else 0)
