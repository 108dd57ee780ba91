"""Models that wrap a plan, as far as they can be tried without a GPU: sound, and refused by CPU."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from hyperstyle_export.engines.epcontext import ep_context_model
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.methods import GRAPHS, HALF_GRAPHS
from hyperstyle_export.networks.hyperstyle import HyperStyle
from models import TINY, build_model

BUILDERS = {"fp32": GRAPHS, "fp16": HALF_GRAPHS}


@pytest.fixture(scope="module")
def model() -> HyperStyle:
    return build_model(TINY)


@pytest.mark.parametrize("precision", BUILDERS)
@pytest.mark.parametrize("role", HALF_GRAPHS)
def test_the_wrapper_is_sound_and_has_the_graphs_interface(
    role: str, precision: str, model: HyperStyle, tmp_path: Path
) -> None:
    graph, wrapper = tmp_path / f"{role}.source.onnx", tmp_path / f"{role}.onnx"
    save_model(BUILDERS[precision][role](model), graph)
    onnx.save(ep_context_model(graph, f"{role}.plan", 89, "10.13.2"), wrapper)
    onnx.checker.check_model(str(wrapper), full_check=True)
    source, wrapped = onnx.load(graph).graph, onnx.load(wrapper).graph
    assert list(wrapped.input) == list(source.input)
    assert list(wrapped.output) == list(source.output)
    (node,) = wrapped.node
    assert (node.domain, node.op_type) == ("com.microsoft", "EPContext")
    assert list(node.input) == [value.name for value in wrapped.input]
    assert list(node.output) == [value.name for value in source.output]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert attributes["ep_cache_context"] == f"{role}.plan".encode()
    assert attributes["embed_mode"] == 0
    assert attributes["main_context"] == 1
    assert attributes["hardware_architecture"] == b"89"


def test_the_cpu_provider_refuses_it(model: HyperStyle, tmp_path: Path) -> None:
    save_model(GRAPHS["encoder"](model), tmp_path / "source.onnx")
    wrapper = ep_context_model(tmp_path / "source.onnx", "encoder.plan", 89, "10.13.2")
    with pytest.raises(Exception, match="EPContext") as refusal:
        ort.InferenceSession(wrapper.SerializeToString(), providers=["CPUExecutionProvider"])
    assert "NOT_IMPLEMENTED" in str(refusal.value)
