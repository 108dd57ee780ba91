"""TensorRT plans as models that ONNX Runtime's TensorRT provider loads, from Python, C or C++.

Such a model has the inputs and outputs of the graph the plan was built from and one node that names
the plan's file. ONNX Runtime's own script for it needs a GPU; this does not.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper

DOMAIN = "com.microsoft"
PROVIDER = "TensorrtExecutionProvider"
LINK, EMBEDDED = 0, 1  # of embed_mode: ep_cache_context is a path beside the model, or the plan


def ep_context_model(graph: Path, plan_name: str, sm: int, version: str) -> onnx.ModelProto:
    """Wrap a plan.

    Parameters
    ----------
    graph:
        The ONNX file the plan was built from.
    plan_name:
        The plan's file name; it lies beside the model.
    sm, version:
        GPU and TensorRT the plan is for; the provider compares them with its own.
    """
    source = onnx.load(graph, load_external_data=False)
    inputs = list(source.graph.input)
    node = helper.make_node(
        "EPContext",
        [value.name for value in inputs],
        [value.name for value in source.graph.output],
        name=f"{source.graph.name}_plan",
        domain=DOMAIN,
        main_context=1,
        embed_mode=LINK,
        ep_cache_context=plan_name,
        ep_sdk_version=version,
        hardware_architecture=str(sm),
        partition_name=source.graph.name,
        source=PROVIDER,
    )
    wrapped = helper.make_graph([node], source.graph.name, inputs, list(source.graph.output))
    opsets = [
        helper.make_opsetid("", source.opset_import[0].version),
        helper.make_opsetid(DOMAIN, 1),
    ]
    model = helper.make_model(
        wrapped,
        opset_imports=opsets,
        ir_version=source.ir_version,
        producer_name=source.producer_name,
    )
    onnx.checker.check_model(model)
    return model
