"""A bundle whose objective is a quadratic in numpy, with the graphs' names and shapes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from attacks import manifests
from hyperstyle_rt.backends.protocol import Signature, TensorSpec
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.manifest import Manifest

ROWS, WIDTH, SIDE = 4, 3, 4
KERNEL = (2, 2, 1, 1)
CODES = (1, 3)
PARAMETERS = {"conv1.conv.weight": (1, *KERNEL), "conv1.activate.bias": (2,)}
FEATURE = (2, 2, 2)
PICTURE = (1, 3, SIDE, SIDE)
SCALE = 0.5  # kernel = SCALE * parameter

LEAVES = {
    "latents": (1, ROWS, WIDTH),
    "noise.conv1": (1, 1, SIDE, SIDE),
    "weight.conv1": KERNEL,
    "parameter.conv1.conv.weight": (1, *KERNEL),
    "parameter.conv1.activate.bias": (2,),
    "feature_offset": (1, *FEATURE),
}
OBJECTIVES = {
    "objective": ("latents", "weight.conv1"),
    "latents_objective": ("latents", "noise.conv1", "weight.conv1"),
    "joint_objective": ("latents", "noise.conv1", "weight.conv1"),
    "synthesis_objective": tuple(name for name in LEAVES if name != "weight.conv1"),
}
VARIED = {
    "objective": ("weight.conv1",),
    "latents_objective": ("latents", "noise.conv1"),
    "joint_objective": OBJECTIVES["joint_objective"],
    "synthesis_objective": OBJECTIVES["synthesis_objective"],
}


def aim(name: str) -> np.ndarray:
    """Where the quadratic has its bottom."""
    seed = sum(name.encode())
    return np.random.default_rng(seed).standard_normal(LEAVES[name]).astype(np.float32)


def gradient_name(leaf: str) -> str:
    return "gradient." + leaf.removeprefix("weight.").removeprefix("parameter.")


class QuadraticBackend:
    """Runs the graphs of :func:`quadratic_bundle`; loss = half the squared distance of all leaves.

    The reconstruction is the picture's mean of the latents, so that a `pull` reaches them.
    """

    name, provider, precision, graph_precision, largest_batch = "cpu", "numpy", "fp32", "fp32", 8

    def __init__(self) -> None:
        self.calls: list[str] = []

    def signature(self, role: str) -> Signature:
        if role == "features":
            return _signature({"target": PICTURE}, {"features.0": (1,)})
        if role == "mapping":
            return _signature({"z": (None, WIDTH)}, {"w": (None, WIDTH)})
        leaves = {name: LEAVES[name] for name in OBJECTIVES[role]}
        settings = {
            "target": PICTURE,
            "features.0": (1,),
            "mask": (1, 1, SIDE, SIDE),
            "term_weights": (3,),
            "pull": PICTURE,
        }
        return _signature({**leaves, **settings}, {"loss": (1,)})

    def run(self, role: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        self.calls.append(role)
        if role in OBJECTIVES:
            assert inputs.keys() == self.signature(role).inputs.keys(), role
            for name, spec in self.signature(role).inputs.items():
                assert inputs[name].shape == spec.shape, name
            return self._objective(role, inputs)
        graphs: dict[str, Callable[..., dict[str, np.ndarray]]] = {
            "features": lambda target: {"features.0": target.mean(keepdims=True).reshape(1)},
            "noise": lambda: {"noise.conv1": np.zeros(LEAVES["noise.conv1"], np.float32)},
            "weights": lambda codes: {"weight.conv1": _kernel(codes)},
            "mapping": lambda z: {"w": 2 * z + 1},
        }
        if role in graphs:
            return graphs[role](**inputs)
        return self._linear(role, inputs)

    def _objective(self, role: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        weight = inputs["term_weights"].sum()
        loss = np.float32(0)
        outputs = {}
        for name in OBJECTIVES[role]:
            away = inputs[name] - aim(name)
            loss += weight * np.square(away).sum() / 2
            outputs[gradient_name(name)] = weight * away
        pull = inputs["pull"].sum() / inputs["latents"].size
        outputs["gradient.latents"] = outputs["gradient.latents"] + pull
        wanted = {gradient_name(name) for name in VARIED[role]}
        rendering = np.full(PICTURE, inputs["latents"].mean(), np.float32)
        return {
            **{name: value for name, value in outputs.items() if name in wanted},
            "loss": np.array([loss], np.float32),
            "terms": np.array([loss / weight, 0, 0], np.float32),
            "rendering": rendering,
            "reconstruction": rendering,
        }

    def _linear(self, role: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        if role == "parameters":
            return {
                "parameter.conv1.conv.weight": inputs["weight.conv1"][None] / np.float32(SCALE),
                "parameter.conv1.activate.bias": np.zeros(2, np.float32),
            }
        if role == "weights_adjoint":
            gradient = np.zeros((1, *CODES), np.float32)
            gradient[0, 0, 0] = inputs["gradient.conv1"].sum()
            return {"codes_gradient": gradient}
        if role == "channel_offsets":
            offsets = inputs["channel_offsets"].reshape(KERNEL)
            return {"weight.conv1": inputs["tuned.conv1"] + inputs["base.conv1"] * offsets}
        assert role == "channel_offsets_adjoint", role
        gradient = inputs["gradient.conv1"] * inputs["base.conv1"]
        return {"channel_offsets_gradient": gradient.ravel()}

    def upload(self, array: Any) -> np.ndarray:
        return np.array(array, np.float32)

    def download(self, buffer: Any) -> np.ndarray:
        return np.array(buffer)

    def for_session(self) -> QuadraticBackend:
        return self

    def close(self) -> None:
        pass


def quadratic_bundle() -> Bundle:
    """A bundle in memory of which every graph runs in :class:`QuadraticBackend`."""
    document = copy.deepcopy(manifests.GOOD)
    graph = document["graphs"]["generator"]
    roles = (
        *OBJECTIVES,
        *("features", "weights_adjoint", "channel_offsets", "channel_offsets_adjoint"),
        *("styled_generator", "noise", "parameters", "parametric_generator", "mapping"),
    )
    document["graphs"] |= dict.fromkeys(roles, graph)
    document |= {
        "resolution": SIDE,
        "image_size": [SIDE, SIDE],
        "input_size": [SIDE, SIDE],
        "crop_rows": None,
        "num_latents": ROWS,
        "latent_width": WIDTH,
        "codes": {"width": CODES[1], "space": manifests.CODE_SPACE},
        "tuned_layers": [{"index": 0, "name": "conv1", "shape": list(KERNEL)}],
        "optional_inputs": {
            "styles": [{"name": "conv1", "width": 2}],
            "noise": [{"name": "conv1", "side": SIDE}],
        },
        "parametric_inputs": {
            "parameters": [{"name": n, "shape": list(s)} for n, s in PARAMETERS.items()],
            "feature": {"layer": "conv1", "shape": list(FEATURE)},
        },
        "objective": {"perceptual": "lpips_alexnet", "weight": 0.3},
    }
    return Bundle(Path(), Manifest.from_json(document))


def _kernel(codes: np.ndarray) -> np.ndarray:
    return np.full(KERNEL, 1 + codes[0, 0, 0], np.float32)


def _signature(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Signature:
    def specs(tensors: Mapping[str, Any]) -> dict[str, TensorSpec]:
        dtype = np.dtype(np.float32)
        return {name: TensorSpec(tuple(shape), dtype) for name, shape in tensors.items()}

    return Signature(specs(inputs), specs(outputs))
