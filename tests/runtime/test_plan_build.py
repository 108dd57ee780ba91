"""Plans of single operators, built as far as they can be without a GPU, and what can go wrong.

TensorRT-RTX builds on any machine for a GPU that is not there: NVIDIA's own parser, and the part of
the compiler that does not need the GPU.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hyperstyle_rt.backends.cuda.driver import Gpu
from hyperstyle_rt.backends.plans import build as plan_build
from hyperstyle_rt.backends.plans.build import (
    Batch,
    BuiltPlan,
    EngineError,
    EngineOptions,
    build_plan,
    classic_target,
    rtx_target,
)
from hyperstyle_rt.errors import BackendError

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

needs_rtx = pytest.mark.usefixtures("_rtx")


@pytest.fixture
def _rtx() -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)


def silent(_step: str) -> None:
    """Show no progress."""


def build(graph: Path, options: EngineOptions | None = None) -> BuiltPlan:
    """Build a plan for sm 89 beside its graph."""
    plan = graph.with_suffix(".plan")
    return build_plan(rtx_target(89), graph, "encoder", plan, options or EngineOptions(), silent)


def convolution(op: str = "Conv", **attributes: Any) -> onnx.NodeProto:
    """y = op(x, w) with a kernel that is a graph input."""
    return helper.make_node(op, ["x", "w"], ["y"], name="the_op", kernel_shape=[3, 3], **attributes)


def save(
    directory: Path, node: onnx.NodeProto, types: tuple[int, int] = (1, 1), **shapes: list[Any]
) -> Path:
    """A graph of one node, whose inputs have the given shapes."""
    dtypes = dict(zip(shapes, types, strict=False))
    inputs = [helper.make_tensor_value_info(n, dtypes[n], shape) for n, shape in shapes.items()]
    y = helper.make_tensor_value_info("y", types[0], None)
    graph = helper.make_graph([node], "g", inputs, [y])
    domains = [helper.make_opsetid("", 18)]
    if node.domain:
        domains.append(helper.make_opsetid(node.domain, 1))
    path = directory / "control.onnx"
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), path)
    return path


HALF, SINGLE, BRAIN = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.BFLOAT16
X, W = ["b", 8, 16, 16], [8, 8, 3, 3]

# Node, types and shapes of its inputs, and what the refusal says.
CONTROLS: dict[str, tuple[onnx.NodeProto, tuple[int, int], list[Any], list[Any], str]] = {
    "output channels dynamic": (
        convolution(),
        (SINGLE, SINGLE),
        X,
        ["o", 8, 3, 3],
        r"cannot parse control.onnx: node the_op \(Conv\): .*Invalid number of output channels: -1",
    ),
    "input channels dynamic": (
        convolution(),
        (SINGLE, SINGLE),
        ["b", "c", 16, 16],
        [8, "c", 3, 3],
        r"cannot parse .* requires that the channel dimension of a dynamic filter",
    ),
    "kernel of another type": (
        convolution(),
        (SINGLE, HALF),
        X,
        W,
        r"cannot parse .* `input` and `kernel` must be of same type",
    ),
    "unknown operator": (
        helper.make_node("Frobnicate", ["x"], ["y"], name="the_op", domain="nowhere"),
        (SINGLE, SINGLE),
        X,
        W,
        r"cannot parse .* node the_op \(Frobnicate\): .*Plugin not found",
    ),
    "channels do not fit": (
        convolution(),
        (SINGLE, SINGLE),
        X,
        [8, 4, 3, 3],
        r"cannot parse .* node the_op \(Conv\): .*misalign with the channel size",
    ),
    "bfloat16 transposed": (
        convolution("ConvTranspose", strides=[2, 2]),
        (BRAIN, BRAIN),
        X,
        W,
        r"cannot build control.onnx for sm 89: .*Could not infer output types",
    ),
    "axis other than the batch dynamic": (
        convolution(),
        (SINGLE, SINGLE),
        ["b", 8, "h", 16],
        W,
        r"input x has the shape \[-1, 8, -1, 16\], but only the first axis may be dynamic",
    ),
}


# ------------------------------------------------------------------------- built, refused


@needs_rtx
def test_progress_is_reported_step_by_step(tmp_path: Path) -> None:
    graph, steps = save(tmp_path, convolution(), x=X, w=W), []
    options = EngineOptions({"generator": Batch(1, 2, 4)}, workspace=1 << 26)
    plan = tmp_path / "generator.plan"
    built = build_plan(rtx_target(89), graph, "generator", plan, options, steps.append)
    assert "Building engine" in steps
    assert any(step.startswith("Building engine ") and step.endswith("/6") for step in steps)
    assert (built.size, built.layers) == (plan.stat().st_size, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"control.onnx", "generator.plan"}


@needs_rtx
def test_a_layer_report_needs_the_gpu(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    graph = save(tmp_path, convolution(), x=X, w=W)
    assert build(graph, EngineOptions(layer_report=True)).report is None
    assert "no layer report: the engine inspector needs a GPU" in caplog.text


@needs_rtx
@pytest.mark.parametrize("control", CONTROLS)
def test_what_tensorrt_cannot_build_is_refused_in_one_sentence(
    control: str, tmp_path: Path
) -> None:
    node, types, x, w, says = CONTROLS[control]
    graph = save(tmp_path, node, types, x=x, w=w)
    with pytest.raises(EngineError, match=says) as refusal:
        build(graph)
    sentence = str(refusal.value)
    assert "\n" not in sentence
    assert "/_src" not in sentence
    assert ".cpp" not in sentence.replace("type.cpp", "")
    assert [path.name for path in tmp_path.iterdir()] == ["control.onnx"]


@needs_rtx
def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    graph = save(tmp_path, convolution(), x=X, w=W)
    graph.write_bytes(graph.read_bytes()[:-20])
    with pytest.raises(EngineError, match=r"cannot parse control\.onnx: .*Failed to parse"):
        build(graph)


@needs_rtx
def test_garbage_with_builders_in_it_does_not_stop_the_next_build(tmp_path: Path) -> None:
    """Refusals kept in reference cycles, with all that their tracebacks hold; once a deadlock."""
    node, types, x, w, _ = CONTROLS["bfloat16 transposed"]
    graph = save(tmp_path, node, types, x=x, w=w)
    for _ in range(5):
        with pytest.raises(EngineError) as refusal:
            build(graph, EngineOptions(longest=300))
        assert "cannot build" in str(refusal.value)
        cycle: list[Any] = [refusal]
        cycle.append(cycle)
    gc.collect()


@needs_rtx
def test_rtx_is_given_no_timing_cache(tmp_path: Path) -> None:
    """It measures nothing when it builds, and warns of every call about one."""
    graph = save(tmp_path, convolution(), x=X, w=W)
    build(graph, EngineOptions(timing_cache=tmp_path / "timing.cache"))
    assert not (tmp_path / "timing.cache").exists()


# ----------------------------------------------------------------------- what is missing


@pytest.mark.parametrize(
    ("target", "module"),
    [(classic_target, "tensorrt"), (lambda: rtx_target(89), "tensorrt_rtx")],
)
def test_missing_tensorrt_is_one_sentence(
    target: Callable[[], Any], module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_build, "find_gpu", lambda: Gpu("NVIDIA L4", 89))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineError, match=f"{module} cannot be imported .*; run: pip install"):
        target()


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "12.0.0"])
def test_an_unknown_version_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_build, "find_gpu", lambda: Gpu("NVIDIA L4", 89))
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__=version))
    with pytest.raises(EngineError, match=f"{version} is none that is known here; install one"):
        classic_target()


def test_classic_tensorrt_asks_for_the_gpu_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="11.4.0"))

    def no_gpu() -> None:
        raise BackendError("there is no driver; install it")

    monkeypatch.setattr(plan_build, "find_gpu", no_gpu)
    with pytest.raises(BackendError, match="there is no driver; install it"):
        classic_target()
    monkeypatch.setattr(plan_build, "find_gpu", lambda: Gpu("NVIDIA L4", 89))
    assert classic_target().key("fp16") == "11.4.0-sm89-fp16"


@needs_rtx
def test_an_architecture_rtx_does_not_serve_is_refused_with_those_it_does() -> None:
    with pytest.raises(EngineError, match=r"does not build for sm 90; give --sm 75, .*, 89, .*120"):
        rtx_target(90)
