"""NVIDIA's own parser and compiler on our graphs, as far as they go without a GPU.

TensorRT-RTX builds on any machine for a GPU that is not there. That shows that the parser accepts
a graph and that the part of the compiler that does not need the GPU does; it shows no number, no
speed, and not that classic TensorRT builds it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from golden_encoders import load_graph_only
from hyperstyle_export.bundles.half_graphs import add_half_graphs
from hyperstyle_export.bundles.mobile_recovery import recover_mobile_generator
from hyperstyle_export.bundles.mobile_writer import add_mobile_half_graphs
from hyperstyle_export.bundles.recovery import recover_model
from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
from hyperstyle_export.engines import plans as engines
from hyperstyle_export.engines.plans import add_plans
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.methods import GRAPHS, HALF_GRAPHS, encoder_entry
from hyperstyle_export.networks.encoder_method import EncoderMethod
from hyperstyle_export.networks.hyperstyle import HyperStyle
from hyperstyle_export.readers.encoders import EncoderSource
from hyperstyle_export.readers.family import Sources, load_family
from hyperstyle_rt.backends.plans.build import (
    BuiltPlan,
    EngineError,
    EngineOptions,
    Target,
    build_plan,
    rtx_target,
)
from hyperstyle_rt.errors import BundleError
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from models import ALL_LAYERS, CARS, build_model, tiny_encoder
from synthetic import official_config

REQUIRED = {"encoder", "hypernet", "weights", "generator"}
ARCHITECTURES = (89, 120)
OTHER_ENCODERS = (
    "BackboneEncoderUsingLastLayerIntoW",
    "Encoder4Editing",
    "SingleStyleCodeEncoder",
    "BackboneEncoder",
    "ProgressiveBackboneEncoder",
    "ResNetGradualStyleEncoder",
)


@pytest.fixture
def rtx() -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)


def compiles(test: Any) -> Any:
    """A test that needs TensorRT-RTX, and takes the seconds that its compiler does."""
    return pytest.mark.engines(pytest.mark.usefixtures("rtx")(test))


def silent(_step: str) -> None:
    """Show no progress."""


@pytest.fixture
def bundle(tiny_half_bundle: Path, tmp_path: Path) -> Bundle:
    """A bundle with graphs in fp32 and fp16, to add plans to."""
    return Bundle.open(shutil.copytree(tiny_half_bundle, tmp_path / "tiny"))


@compiles
def test_all_graphs_compile_in_both_precisions(bundle: Bundle) -> None:
    before = bundle
    for sm in ARCHITECTURES:
        for precision in ("fp32", "fp16"):
            target = rtx_target(sm)
            bundle, plans = add_plans(bundle, target, precision, EngineOptions(), silent)
            assert set(plans) == set(GRAPHS)
            assert all(plan.layers > 10 for plan in plans.values())
    bundle.verify()
    assert bundle.manifest.space == before.manifest.space  # inversions made before stay valid
    assert bundle.manifest.files == before.manifest.files
    version = rtx_target(89).version
    assert version.startswith("rtx1.")
    expected = {f"{version}-sm{sm}-{p}" for sm in ARCHITECTURES for p in ("fp32", "fp16")}
    assert set(bundle.manifest.plans) == expected
    for key in expected:
        for role in GRAPHS:
            path = bundle.directory / "tensorrt" / key / f"{role}.plan"
            assert bundle.verified_plan(key, role) == path
            assert path.stat().st_size > 1000


@compiles
@pytest.mark.parametrize("config", [ALL_LAYERS, CARS], ids=["all_layers", "cars"])
def test_every_form_of_the_generator_compiles(config: Any, tmp_path: Path) -> None:
    for precision, graphs in (("fp32", GRAPHS), ("fp16", HALF_GRAPHS)):
        path, plan = tmp_path / f"{precision}.onnx", tmp_path / f"{precision}.plan"
        save_model(graphs["generator"](build_model(config)), path)
        built = build_plan(rtx_target(89), path, "generator", plan, EngineOptions(), silent)
        assert built.layers > 100


@compiles
def test_the_bundle_portraits_compiles(tmp_path: Path) -> None:
    try:
        source = find_bundle("portraits")
    except BundleError as error:
        pytest.skip(str(error))
    shutil.copytree(source, tmp_path / "default")
    bundle = Bundle.open(tmp_path / "default")
    if "fp16" not in bundle.manifest.precisions:
        bundle = add_half_graphs(recover_model(bundle), bundle, silent)
    for sm in ARCHITECTURES:
        for precision in ("fp32", "fp16"):
            bundle, plans = add_plans(bundle, rtx_target(sm), precision, EngineOptions(), silent)
            assert set(plans) >= REQUIRED


@compiles
def test_the_bundle_faces_compiles(tmp_path: Path) -> None:
    """What inverts and renders photographs; in fp16 the generator."""
    bundle = Bundle.open(shutil.copytree(find_bundle("faces"), tmp_path / "faces"))
    bundle = add_mobile_half_graphs(recover_mobile_generator(bundle), bundle, silent)
    for sm in ARCHITECTURES:
        for precision in ("fp32", "fp16"):
            bundle, plans = add_plans(bundle, rtx_target(sm), precision, EngineOptions(), silent)
            assert set(plans) == {
                "mapping", "encoder", "approach", "restyle", "weights", "generator",
            }  # fmt: skip
            assert all(plan.layers > 0 for plan in plans.values())


@compiles
@pytest.mark.parametrize("size", [256, pytest.param(1024, marks=pytest.mark.slow)])
def test_the_official_layout_compiles(
    size: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    model = build_model(official_config(size))
    bundle = write_bundle(model, tmp_path, BundleFacts("built"), "fp32", silent)
    bundle = add_half_graphs(model, bundle, silent)
    for sm in ARCHITECTURES:
        for precision in ("fp32", "fp16"):
            target = rtx_target(sm)
            bundle, plans = add_plans(bundle, target, precision, EngineOptions(), silent)
            assert set(plans) >= REQUIRED
            for role, plan in plans.items():
                figures = f"{plan.layers} layers, {plan.size} bytes, {plan.seconds:.1f} s"
                record_property(f"{role}-{precision}-sm{sm}", figures)
                print(f"{size} {role} {precision} sm{sm}: {figures}")
                (tmp_path / "tensorrt" / target.key(precision) / f"{role}.plan").unlink()


def compile_encoder(model: HyperStyle, encoder: EncoderMethod, folder: Path) -> None:
    """Compile the graphs of an encoder in both precisions."""
    entry = encoder_entry(model, encoder)
    for precision, graphs in (("fp32", entry.graphs), ("fp16", entry.half_graphs)):
        for role, build in graphs.items():
            path, plan = folder / f"{role}.{precision}.onnx", folder / "encoder.plan"
            save_model(build(model), path)
            for sm in ARCHITECTURES:
                built = build_plan(rtx_target(sm), path, role, plan, EngineOptions(), silent)
                assert built.layers > (1 if role.endswith("_average") else 50)


@compiles
@pytest.mark.parametrize(
    "encoder_type",
    [
        "GradualStyleEncoder",
        "ResNetProgressiveBackboneEncoder",
        *(pytest.param(name, marks=pytest.mark.slow) for name in OTHER_ENCODERS),
    ],
)
def test_encoders_of_other_methods_compile(encoder_type: str, tmp_path: Path) -> None:
    file = tiny_encoder(tmp_path / "encoder.pt", encoder_type)
    family = load_family(Sources(encoders=(EncoderSource(file),)))
    (encoder,) = family.encoders.values()
    encoder.latent_avg += 1  # not the bundle's: ReStyle's start is a graph, too
    compile_encoder(family.model, encoder, tmp_path)


@compiles
@pytest.mark.slow
@pytest.mark.parametrize("case", ["psp_1024", "restyle_e4e_256", "restyle_psp_resnet34_512"])
def test_encoders_of_official_size_compile(case: str, tmp_path: Path) -> None:
    model, encoder = load_graph_only(case)
    model.latent_avg = encoder.latent_avg
    compile_encoder(model, encoder, tmp_path)
    for file in tmp_path.iterdir():
        file.unlink()  # a gigabyte each


def fake_build(target: Target, graph: Path, role: str, plan: Path, *_rest: Any) -> BuiltPlan:
    """A plan that says which role it is of, with a layer report."""
    plan.write_bytes(role.encode())
    return BuiltPlan(len(role), engines.sha256(plan), 7, 0.1, '{"Layers": []}')


def test_a_failed_build_lists_no_plan(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_late(target: Target, graph: Path, role: str, *rest: Any) -> BuiltPlan:
        if role == "generator":
            raise EngineError("no")
        return fake_build(target, graph, role, *rest)

    monkeypatch.setattr(engines, "build_plan", fail_late)
    with pytest.raises(EngineError):
        add_plans(bundle, Target("tensorrt", "T", "10.13", 89), "fp32", EngineOptions(), silent)
    assert Bundle.open(bundle.directory).manifest == bundle.manifest


def test_classic_plans_come_with_a_model_and_a_layer_report(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "build_plan", fake_build)
    target = Target("tensorrt", "T", "10.13", 89)
    bundle, plans = add_plans(bundle, target, "fp16", EngineOptions(layer_report=True), silent)
    bundle.verify()
    listed = set(bundle.manifest.plans["10.13-sm89-fp16"])
    endings = (".plan", ".onnx", ".layers.json")
    assert listed == {f"{role}{ending}" for role in plans for ending in endings}
