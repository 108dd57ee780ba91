"""NVIDIA's own parser and compiler on our graphs, as far as they go without a GPU.

TensorRT-RTX builds on any machine for a GPU that is not there. That shows that the parser accepts
a graph and that the part of the compiler that does not need the GPU does; it shows no number, no
speed, and not that classic TensorRT builds it.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from hyperstyle_export import tensorrt as engines
from hyperstyle_export.bundle_writer import BundleFacts, write_bundle
from hyperstyle_export.graphs import GRAPHS, HALF_GRAPHS, save_model
from hyperstyle_export.tensorrt import (
    Batch,
    EngineError,
    EngineOptions,
    add_plans,
    build_plan,
    classic_target,
    rtx_target,
)
from hyperstyle_export.twins import add_half_graphs
from hyperstyle_rt.backends.cuda_driver import Gpu
from hyperstyle_rt.bundle import Bundle, default_bundle
from hyperstyle_rt.errors import BackendError, BundleError
from models import ALL_LAYERS, CARS, TINY, build_model
from onnx import TensorProto, helper
from synthetic import official_config

ROLES = ("encoder", "hypernet", "weights", "generator", "mapping")
ARCHITECTURES = (89, 120)
needs_rtx = pytest.mark.usefixtures("_rtx")


@pytest.fixture
def _rtx() -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)


def silent(_step: str) -> None:
    """Show no progress."""


def bundle_of(config: Any, directory: Path) -> Bundle:
    """A bundle with graphs in fp32 and fp16."""
    model = build_model(config)
    bundle = write_bundle(model, directory, BundleFacts("built"), "fp32", silent)
    return add_half_graphs(model, bundle, silent)


# ------------------------------------------------------------------------------------ accepted


@needs_rtx
def test_all_graphs_compile_in_both_precisions(tmp_path: Path) -> None:
    before = bundle = bundle_of(TINY, tmp_path)
    for sm in ARCHITECTURES:
        for precision in ("fp32", "fp16"):
            target = rtx_target(sm)
            bundle, plans = add_plans(bundle, target, precision, EngineOptions(), silent)
            assert set(plans) == set(ROLES)
            assert all(plan.layers > 10 for plan in plans.values())
    bundle.verify()
    assert bundle.digest == before.digest  # inversions made before stay valid
    assert bundle.manifest.files == before.manifest.files
    version = rtx_target(89).version
    assert version.startswith("rtx1.")
    expected = {f"{version}-sm{sm}-{p}" for sm in ARCHITECTURES for p in ("fp32", "fp16")}
    assert set(bundle.manifest.plans) == expected
    for key in expected:
        for role in ROLES:
            path = tmp_path / "tensorrt" / key / f"{role}.plan"
            assert bundle.verified_plan(key, role) == path
            assert path.stat().st_size > 1000


@needs_rtx
@pytest.mark.parametrize("config", [ALL_LAYERS, CARS], ids=["all_layers", "cars"])
def test_every_form_of_the_generator_compiles(config: Any, tmp_path: Path) -> None:
    for precision, graphs in (("fp32", GRAPHS), ("fp16", HALF_GRAPHS)):
        path = tmp_path / f"{precision}.onnx"
        save_model(graphs["generator"](build_model(config)), path)
        assert build_plan(rtx_target(89), path, "generator", EngineOptions(), silent).layers > 100


@needs_rtx
def test_the_default_bundle_compiles(tmp_path: Path) -> None:
    try:
        source = default_bundle()
    except BundleError as error:
        pytest.skip(str(error))
    shutil.copytree(source, tmp_path / "default")
    bundle = Bundle.open(tmp_path / "default")
    for sm in ARCHITECTURES:
        for precision in ("fp32", *bundle.manifest.precisions):
            bundle, plans = add_plans(bundle, rtx_target(sm), precision, EngineOptions(), silent)
            assert set(plans) >= {"encoder", "hypernet", "weights", "generator"}


@needs_rtx
@pytest.mark.slow
@pytest.mark.parametrize("size", [256, 1024])
def test_the_official_layout_compiles(
    size: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    bundle = bundle_of(official_config(size), tmp_path)
    for sm in ARCHITECTURES:
        for precision in ("fp32", "fp16"):
            target = rtx_target(sm)
            bundle, plans = add_plans(bundle, target, precision, EngineOptions(), silent)
            for role, plan in plans.items():
                listed = bundle.manifest.plans[target.key(precision)][f"{role}.plan"]
                figures = f"{plan.layers} layers, {listed.size} bytes, {plan.seconds:.1f} s"
                record_property(f"{role}-{precision}-sm{sm}", figures)
                print(f"{size} {role} {precision} sm{sm}: {figures}")
                (tmp_path / "tensorrt" / target.key(precision) / f"{role}.plan").unlink()


@needs_rtx
def test_progress_is_reported_step_by_step(tmp_path: Path) -> None:
    graph, steps = save(tmp_path, convolution(), x=X, w=W), []
    options = EngineOptions({"generator": Batch(1, 2, 4)}, workspace=1 << 26)
    build_plan(rtx_target(89), graph, "generator", options, steps.append)
    assert "Building engine" in steps
    assert any(step.startswith("Building engine ") and step.endswith("/6") for step in steps)


@needs_rtx
def test_a_layer_report_needs_the_gpu(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    graph = save(tmp_path, convolution(), x=X, w=W)
    options = EngineOptions(layer_report=True)
    assert build_plan(rtx_target(89), graph, "encoder", options, silent).report is None
    assert "no layer report: the engine inspector needs a GPU" in caplog.text


# ------------------------------------------------------------------------------------- refused


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


@needs_rtx
@pytest.mark.parametrize("control", CONTROLS)
def test_what_tensorrt_cannot_build_is_refused_in_one_sentence(
    control: str, tmp_path: Path
) -> None:
    node, types, x, w, says = CONTROLS[control]
    graph = save(tmp_path, node, types, x=x, w=w)
    with pytest.raises(EngineError, match=says) as refusal:
        build_plan(rtx_target(89), graph, "encoder", EngineOptions(), silent)
    sentence = str(refusal.value)
    assert "\n" not in sentence
    assert "/_src" not in sentence
    assert ".cpp" not in sentence.replace("type.cpp", "")
    assert sentence.endswith(".")


@needs_rtx
def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    graph = save(tmp_path, convolution(), x=X, w=W)
    graph.write_bytes(graph.read_bytes()[:-20])
    with pytest.raises(EngineError, match=r"cannot parse control\.onnx: .*Failed to parse"):
        build_plan(rtx_target(89), graph, "encoder", EngineOptions(), silent)


@needs_rtx
def test_a_failed_build_lists_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundle_of(TINY, tmp_path)
    build = engines.build_plan

    def fail_late(target: Any, graph: Path, role: str, *rest: Any) -> Any:
        if role == "generator":
            raise EngineError("no.")
        return build(target, graph, role, *rest)

    monkeypatch.setattr(engines, "build_plan", fail_late)
    with pytest.raises(EngineError):
        add_plans(bundle, rtx_target(89), "fp32", EngineOptions(), silent)
    assert Bundle.open(tmp_path).manifest == bundle.manifest


@needs_rtx
def test_an_architecture_rtx_does_not_serve_is_refused_with_those_it_does() -> None:
    with pytest.raises(EngineError, match=r"does not build for sm 90; give --sm 75, .*, 89, .*120"):
        rtx_target(90)


# ----------------------------------------------------------------------------- what is missing


@pytest.mark.parametrize(
    ("target", "module"),
    [(classic_target, "tensorrt"), (lambda: rtx_target(89), "tensorrt_rtx")],
)
def test_missing_tensorrt_is_one_sentence(
    target: Callable[[], Any], module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineError, match=f"{module} cannot be imported .*; run pip install") as it:
        target()
    assert str(it.value).endswith("the ONNX bundle is whole without it.")


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "12.0.0"])
def test_an_unknown_version_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__=version))
    with pytest.raises(EngineError, match=f"{version} is none this exporter knows; install one"):
        classic_target()


def test_classic_tensorrt_asks_for_the_gpu_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="11.4.0"))

    def no_gpu() -> None:
        raise BackendError("there is no driver; install it")

    monkeypatch.setattr(engines, "find_gpu", no_gpu)
    with pytest.raises(EngineError, match="builds on the GPU it is to run on, but there is no dri"):
        classic_target()
    monkeypatch.setattr(engines, "find_gpu", lambda: Gpu("NVIDIA L4", 89))
    assert classic_target().key("fp16") == "11.4.0-sm89-fp16"


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
    assert engines._network_flags(stub) == (2 if strong else 0)
