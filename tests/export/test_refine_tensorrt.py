"""NVIDIA's parser and compiler on the graphs of the refinement; see test_tensorrt."""

from __future__ import annotations

from pathlib import Path

import pytest
from hyperstyle_export.graphs import REFINEMENT_GRAPHS, build_half_channels, save_model
from hyperstyle_rt.backends.plan_build import EngineOptions, build_plan, rtx_target
from models import ALL_LAYERS, build_model

GRAPHS = {**REFINEMENT_GRAPHS, "channels in fp16": build_half_channels}


@pytest.mark.parametrize("role", GRAPHS)
def test_the_graphs_compile(role: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    path = tmp_path / "graph.onnx"
    save_model(GRAPHS[role](build_model(ALL_LAYERS)), path)
    options, plan = EngineOptions(), tmp_path / "graph.plan"
    built = build_plan(rtx_target(89), path, role.split()[0], plan, options, lambda _step: None)
    assert built.layers > 2
