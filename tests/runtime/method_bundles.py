"""Bundles with methods that only tests have, and what a plain chain of graphs gives for them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hyperstyle_rt.backends.protocol import Backend
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.imaging.pictures import to_input
from onnx import TensorProto, helper

NUDGED = "nudged"
"""Encoder; a look at the picture; then latents that follow what the reconstruction lacks."""

STEPS = 4
LOOK_SIZE = (24, 20)  # of no other graph


def add_method(bundle: Path, destination: Path) -> Path:
    """Copy the tiny bundle, with the method :data:`NUDGED` and the two graphs that it adds."""
    shutil.copytree(bundle, destination)
    document = json.loads((destination / "manifest.json").read_text())
    shape = [document["num_latents"], document["latent_width"]]
    for role, graph in (("look", _look(shape)), ("nudge", _nudge(shape))):
        data = graph.SerializeToString()
        (destination / f"{role}.onnx").write_bytes(data)
        document["graphs"][role] = {"file": f"{role}.onnx", "data": []}
        document["files"][f"{role}.onnx"] = {
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
            "stored": "fp32",
        }
    document["methods"][NUDGED] = {
        "phases": [{"graph": "encoder"}, {"graph": "look"}, {"graph": "nudge", "repeat": STEPS}]
    }
    document["methods"]["encoder"] = {"phases": [{"graph": "encoder"}]}
    document["methods"]["average"] = {"phases": [{"graph": "look"}, {"graph": "nudge"}]}
    document["methods"]["blind"] = {"phases": [{"graph": "encoder"}, {"graph": "nudge"}]}
    (destination / "manifest.json").write_text(json.dumps(document))
    return destination


def _look(latents: list[int]) -> onnx.ModelProto:
    """target [B,3,24,20] -> colours [B,1,W]: a tensor that no host has heard of."""
    nodes = [
        helper.make_node("ReduceMean", ["target", "axes"], ["mean"], keepdims=1),
        helper.make_node("Reshape", ["mean", "one_row"], ["row"]),
        helper.make_node("Expand", ["row", "wide"], ["colours"]),
    ]
    constants = {"axes": [1, 2, 3], "one_row": [1, 1, 1], "wide": [1, 1, latents[1]]}
    return _model(
        nodes,
        {"target": ["B", 3, *LOOK_SIZE]},
        {"colours": ["B", 1, latents[1]]},
        constants,
    )


def _nudge(latents: list[int]) -> onnx.ModelProto:
    """Latents, plus what the reconstruction lacks on average, plus a tenth of the colours."""
    nodes = [
        helper.make_node("Sub", ["target", "reconstruction"], ["lack"]),
        helper.make_node("ReduceMean", ["lack", "axes"], ["mean"], keepdims=1),
        helper.make_node("Reshape", ["mean", "one_row"], ["row"]),
        helper.make_node("Add", ["latents", "row"], ["nudged"]),
        helper.make_node("Mul", ["colours", "tenth"], ["tint"]),
        helper.make_node("Add", ["nudged", "tint"], ["latents_next"]),
    ]
    pictures = {name: ["B", 3, 64, 64] for name in ("target", "reconstruction")}
    return _model(
        nodes,
        {**pictures, "latents": ["B", *latents], "colours": ["B", 1, latents[1]]},
        {"latents_next": ["B", *latents]},
        {"axes": [1, 2, 3], "one_row": [1, 1, 1], "tenth": 0.1},
    )


def _model(
    nodes: list[Any],
    inputs: dict[str, list[Any]],
    outputs: dict[str, list[Any]],
    constants: dict[str, Any],
) -> onnx.ModelProto:
    def infos(tensors: dict[str, list[Any]]) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in tensors.items()
        ]

    initializers = [
        onnx.numpy_helper.from_array(
            np.array(value, np.float32 if isinstance(value, float) else np.int64), name
        )
        for name, value in constants.items()
    ]
    graph = helper.make_graph(nodes, "test", infos(inputs), infos(outputs), initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


class Chain:
    """Graphs run one after the other by hand, on numpy arrays."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle, self.backend = bundle, backend

    def run(self, role: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        buffers = {name: self.backend.upload(array) for name, array in inputs.items()}
        outputs = self.backend.run(role, buffers)
        return {name: self.backend.download(buffer) for name, buffer in outputs.items()}

    def render(self, latents: np.ndarray, codes: np.ndarray | None = None) -> dict[str, Any]:
        manifest = self.bundle.manifest
        if codes is None:
            codes = np.zeros((1, len(manifest.tuned_layers), manifest.codes.width), np.float32)
        return self.run("generator", latents=latents, **self.run("weights", codes=codes))

    def hyperstyle(self, picture: np.ndarray, iterations: int) -> list[dict[str, np.ndarray]]:
        """Latents, codes and rendering after every number of iterations from 0."""
        manifest = self.bundle.manifest
        target = to_input(picture, manifest.input_size)
        latents = self.run("encoder", target=target)["latents"]
        codes = np.zeros((1, len(manifest.tuned_layers), manifest.codes.width), np.float32)
        states = []
        for number in range(iterations + 1):
            rendered = self.render(latents, codes)
            states.append({"latents": latents[0], "codes": codes[0], **rendered})
            if number < iterations:
                inputs = {"reconstruction": rendered["reconstruction"], "codes": codes}
                codes = self.run("hypernet", target=target, **inputs)["codes_next"]
        return states

    def nudged(
        self, picture: np.ndarray, steps: int, latents: np.ndarray | None = None
    ) -> list[dict[str, np.ndarray]]:
        """The same for :data:`NUDGED`; from given latents [1,L,W] or the encoder's."""
        target = to_input(picture, self.bundle.manifest.input_size)
        if latents is None:
            latents = self.run("encoder", target=target)["latents"]
        colours = self.run("look", target=to_input(picture, LOOK_SIZE))["colours"]
        states = []
        for number in range(steps + 1):
            rendered = self.render(latents)
            states.append({"latents": latents[0], "colours": colours, **rendered})
            if number < steps:
                inputs = {"reconstruction": rendered["reconstruction"], "latents": latents}
                latents = self.run("nudge", target=target, colours=colours, **inputs)[
                    "latents_next"
                ]
        return states
