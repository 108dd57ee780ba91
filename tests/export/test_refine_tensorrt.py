"""NVIDIA's parser and compiler on the graphs that edit and refine; see test_tensorrt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.methods import (
    HALF_SHARING_GRAPHS,
    REFINEMENT_GRAPHS,
    STYLED_GRAPHS,
    descent_graphs,
)
from hyperstyle_export.networks.lpips import ALEXNET
from hyperstyle_rt.backends.plans.build import EngineOptions, build_plan, rtx_target
from models import ALL_LAYERS, build_model, narrow_lpips

# Of 16 px: what is compiled is the same, of a block less.
MODEL = replace(
    ALL_LAYERS,
    generator=replace(ALL_LAYERS.generator, channels=(16, 16, 12)),
    hypernetwork=replace(ALL_LAYERS.hypernetwork, tuned_layers=tuple(range(8))),
)

GRAPHS = {
    **STYLED_GRAPHS,
    **REFINEMENT_GRAPHS,
    **{f"{role} in fp16": build for role, build in HALF_SHARING_GRAPHS.items()},
    "objective with LPIPS": descent_graphs(narrow_lpips(ALEXNET))["objective"],
}


@pytest.mark.engines
@pytest.mark.parametrize("role", GRAPHS)
def test_the_graphs_compile(role: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    path = tmp_path / "graph.onnx"
    save_model(GRAPHS[role](build_model(MODEL)), path)
    options, plan = EngineOptions(), tmp_path / "graph.plan"
    built = build_plan(rtx_target(89), path, role.split()[0], plan, options, lambda _step: None)
    assert built.layers > 2
