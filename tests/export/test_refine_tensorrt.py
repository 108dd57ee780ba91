"""NVIDIA's parser and compiler on the graphs of the refinement; see test_tensorrt."""

from __future__ import annotations

from pathlib import Path

import pytest
from hyperstyle_export.graphs import (
    REFINEMENT_GRAPHS,
    build_half_channels,
    refinement_graphs_with,
    save_model,
)
from hyperstyle_export.networks.lpips import ALEXNET
from hyperstyle_rt.backends.plans.build import EngineOptions, build_plan, rtx_target
from models import ALL_LAYERS, build_model, narrow_lpips

GRAPHS = {
    **REFINEMENT_GRAPHS,
    "channels in fp16": build_half_channels,
    "refine with LPIPS": refinement_graphs_with(narrow_lpips(ALEXNET))["refine"],
}


@pytest.mark.parametrize("role", GRAPHS)
def test_the_graphs_compile(role: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    path = tmp_path / "graph.onnx"
    save_model(GRAPHS[role](build_model(ALL_LAYERS)), path)
    options, plan = EngineOptions(), tmp_path / "graph.plan"
    built = build_plan(rtx_target(89), path, role.split()[0], plan, options, lambda _step: None)
    assert built.layers > 2
