"""The order that `paced` forces on ONNX Runtime, and the generator that objectives are made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hyperstyle_export.adjoint import pacing
from hyperstyle_export.graphs import generator, generator_single
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.methods import descent_graphs
from hyperstyle_export.networks.hyperstyle import HyperStyle
from models import CONFIGS, TINY, build_model
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.float32]]
LARGE = 256  # numbers: the tensors of the small models are then large ones


def random_inputs(session: ort.InferenceSession) -> Arrays:
    """Numbers for all inputs, for a batch of one; kernels keep the size of what they see."""
    source = np.random.default_rng(0)
    made: Arrays = {}
    for value in session.get_inputs():
        shape = [n if isinstance(n, int) else 1 for n in value.shape]
        scale = np.sqrt(np.prod(shape[1:])) if value.name.startswith("weight.") else 1
        made[value.name] = (source.standard_normal(shape) / scale).astype(np.float32)
    return made


def run(model: ir.Model, path: Path) -> tuple[Arrays, list[str]]:
    """Outputs of a graph, and the names of the nodes in the order ONNX Runtime ran them."""
    save_model(model, path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix(""))
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, random_inputs(session)), strict=True))
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    suffix = "_kernel_time"
    ran = [event["name"] for event in events if event["name"].endswith(suffix)]
    return outputs, [name.removesuffix(suffix) for name in ran]


@pytest.fixture(scope="module")
def model() -> HyperStyle:
    return build_model(TINY)


def test_a_backward_pass_does_not_begin_early(
    model: HyperStyle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does otherwise, as the first part shows."""
    as_it_is, ran = run(descent_graphs()["objective"](model), tmp_path / "objective.onnx")
    assert early(ran), "without a large tensor nothing is changed"

    monkeypatch.setattr(pacing, "LARGE", LARGE)
    paced, ran = run(descent_graphs()["objective"](model), tmp_path / "paced.onnx")
    assert not early(ran)
    assert any(name.startswith("pacing/") for name in ran), "nothing was removed again"
    for name, value in as_it_is.items():
        error = np.linalg.norm(paced[name] - value)  # other nodes are fused, and round otherwise
        assert error <= 1e-5 * np.linalg.norm(value), name


def early(ran: list[str]) -> list[str]:
    """Slopes and padded activations of the backward pass that are computed before the loss."""
    before = ran[: next(n for n, name in enumerate(ran) if name.startswith("adjoint/loss/"))]
    kinds = ("Clip", "Pad")
    return [n for n in before if n.startswith("adjoint/") and n.split("/")[-1].startswith(kinds)]


def test_every_large_stage_depends_on_all_before_it(
    model: HyperStyle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "LARGE", LARGE)
    graph = descent_graphs()["objective"](model).graph
    order = {node: number for number, node in enumerate(graph)}
    assert all(
        order[producer] < order[node]
        for node in graph
        for value in node.inputs
        if value is not None and (producer := value.producer()) is not None
    )
    depends: dict[ir.Node, set[str]] = {}
    for node in graph:
        producers = [value.producer() for value in node.inputs if value is not None]
        depends[node] = {node.name or ""}.union(*(depends[p] for p in producers if p is not None))
    # The kernels' gradients are leaves: nothing waits for them unless it is made to.
    kernel = next(
        n
        for n in graph
        if (n.name or "").startswith("adjoint/convs.5/Conv_") and n.op_type == "Gemm"
    )
    earlier = next(
        n
        for n in graph
        if (n.name or "").startswith("adjoint/convs.3/LeakyRelu_") and n.op_type == "Clip"
    )
    assert kernel.name in depends[earlier]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_generator_for_one_picture_renders_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = build_model(CONFIGS[name])
    monkeypatch.setattr(generator_single, "has_more_activations", lambda _layer: True)
    builders = generator.build_generator, generator_single.build_single_generator
    (ours, _), (theirs, _) = (
        run(build(networks), tmp_path / f"{number}.onnx") for number, build in enumerate(builders)
    )
    for key, value in ours.items():
        np.testing.assert_allclose(theirs[key], value, atol=2e-5 * np.abs(value).max())


def test_a_layer_has_more_activations_than_weights_from_some_size_on() -> None:
    layers = CONFIGS["tiny"].generator.layers
    found = [
        generator_single.has_more_activations(
            generator.StyledLayer(spec, {}, None, ir.Value(), ir.Value(), None)
        )
        for spec in layers
        if not spec.is_to_rgb
    ]
    assert found == sorted(found)
    assert set(found) == {False, True}
