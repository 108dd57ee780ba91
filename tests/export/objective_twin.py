"""The objectives of one model, and one picture, on ONNX Runtime and in torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import fakeweights
import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.graphs.generator import feature_layer, feature_shape
from hyperstyle_export.graphs.objective import LEAVES, gradient_name
from hyperstyle_export.graphs.synthesis_tensors import has_noise, synthesis_parameters
from hyperstyle_export.methods import GRAPHS, sharing_graphs
from hyperstyle_export.networks import generator
from hyperstyle_export.networks.hyperstyle import HyperStyle, crop_rows
from hyperstyle_export.networks.layers import ACTIVATION_GAIN, ACTIVATION_SLOPE
from hyperstyle_export.networks.lpips import Lpips
from hyperstyle_export.networks.refinement import EncoderTerm, LpipsTerm, loss_terms
from numpy.typing import NDArray

Array = NDArray[np.float32]
Arrays = Mapping[str, Array]
Sides = Mapping[str, Sequence[NDArray[np.bool_]]]
"""Operator -> which of its inputs are positive, node by node."""


def open_session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # the graphs are small
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def relative_error(actual: Array, expected: Array) -> float:
    assert actual.shape == expected.shape
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def save_showing_inputs(graph: Path, kinds: Sequence[str], path: Path) -> dict[str, list[str]]:
    """Save a graph that gives the inputs of some operators, too.

    Returns
    -------
    Operator -> names of its first inputs, node by node.
    """
    model = onnx.load(graph)
    read = {kind: [n.input[0] for n in model.graph.node if n.op_type == kind] for kind in kinds}
    names = [name for kind in read.values() for name in kind]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(n, 1, None) for n in names)
    onnx.save(model, path, save_as_external_data=True, location=f"{path.stem}.data")
    return read


class ObjectiveTwin:
    """Graphs written of a model, and everything they are fed.

    Attributes
    ----------
    leaves:
        Graph input -> value, of all that any objective differentiates by.
    fixed:
        The same of all other inputs: target, its features, mask, weights of the terms, pull.
    """

    def __init__(self, model: HyperStyle, directory: Path, lpips: Lpips | None = None) -> None:
        self.model, self.directory = model, directory
        self._graphs = {**GRAPHS, **sharing_graphs(model, lpips)}
        self.term = EncoderTerm(model) if lpips is None else LpipsTerm(lpips)
        self._sessions: dict[str, ort.InferenceSession] = {}
        config, normal = model.config, fakeweights.normal
        rows, width = config.generator.num_latents, config.generator.style_width
        latents = normal("latents", (1, rows, width)) * 0.5 + model.latent_avg.numpy()
        feature = feature_shape(feature_layer(config.generator))
        self.leaves: dict[str, Array] = {
            "latents": latents,
            "feature_offset": 0.1 * normal("feature_offset", feature),
        }
        state = model.state_dict()
        for layer in config.generator.layers:
            if has_noise(state, layer):
                noise = state[f"decoder.noises.noise_{layer.noise}"].numpy()
                self.leaves[f"noise.{layer.name}"] = noise + 0.1 * normal(layer.name, noise.shape)
        for layer in config.tuned:
            weight = state[f"decoder.{layer.name}.conv.weight"][0] * self._scale(layer.name)
            weight = weight.numpy() * (1 + 0.1 * normal(layer.name, layer.weight_shape))
            self.leaves[f"weight.{layer.name}"] = weight
        self.leaves |= self.parameters()
        mask = np.abs(normal("mask", (1, 1, *config.image_size))).clip(0, 1)
        self.fixed: dict[str, Array] = {"mask": mask}
        self.show(normal("target", (1, 3, *config.image_size)).clip(-1, 1))
        self.weigh((0.7, 0.5, 1.3))
        self.pull(1.0)

    def show(self, target: Array) -> None:
        """Set the target [1,3,H,W], and its features."""
        pooled = F.adaptive_avg_pool2d(torch.from_numpy(target), self.model.config.input_size)
        self.small = pooled.numpy()
        self.fixed["target"] = target
        self.fixed |= self.run("features", {"target": self.small})

    def weigh(self, weights: tuple[float, float, float]) -> None:
        """Set the weights of the terms."""
        self.fixed["term_weights"] = np.array(weights, np.float32)

    def pull(self, scale: float) -> None:
        """Set the derivative by the reconstruction of what else is minimised: a mean's, scaled."""
        shape = (1, 3, *self.model.config.input_size)
        pull = fakeweights.normal("pull", shape) * scale / np.prod(shape)
        self.fixed["pull"] = pull.astype(np.float32)

    def parameters(self) -> dict[str, Array]:
        """Of the graph `parameters`, for the kernels among the leaves."""
        return self.run("parameters", self.leaves)

    def run(self, role: str, inputs: Arrays) -> dict[str, Array]:
        """Run a graph on those of the inputs that it has."""
        if role not in self._sessions:
            path = self.directory / f"{role}.onnx"
            save_model(self._graphs[role](self.model), path)
            self._sessions[role] = open_session(path)
        session = self._sessions[role]
        names = [output.name for output in session.get_outputs()]
        fed = {value.name: inputs[value.name] for value in session.get_inputs()}
        return dict(zip(names, session.run(names, fed), strict=True))

    def close(self) -> None:
        """Forget the sessions, which take memory; `run` opens them again."""
        self._sessions.clear()

    def evaluate(self, role: str) -> dict[str, Array]:
        """Run an objective."""
        return self.run(role, {**self.fixed, **self.leaves})

    def evaluate_with_sides(self, role: str) -> tuple[dict[str, Array], Sides]:
        """The same, and which activations of the generator and of the encoder are positive."""
        self.run(role, {**self.fixed, **self.leaves})
        path = self.directory / f"{role}.sides.onnx"
        read = save_showing_inputs(self.directory / f"{role}.onnx", ("LeakyRelu", "PRelu"), path)
        names = [name for kind in read.values() for name in kind]
        role = f"{role}.sides"
        self._sessions[role] = open_session(path)
        outputs = self.run(role, {**self.fixed, **self.leaves})
        sides = {kind: [outputs[name] > 0 for name in each] for kind, each in read.items()}
        return {name: value for name, value in outputs.items() if name not in names}, sides

    def reference(
        self, role: str, dtype: torch.dtype = torch.float32, sides: Sides | None = None
    ) -> dict[str, Array]:
        """The same outputs by torch, in float32 or in float64.

        Parameters
        ----------
        sides:
            Which activations count as positive; None for those that are.
        """
        used = self.model.decoder, self.model.encoder
        for network in used:
            network.to(dtype)
        try:
            return self._reference(role, dtype, sides)
        finally:
            for network in used:
                network.float()

    def _reference(self, role: str, dtype: torch.dtype, sides: Sides | None) -> dict[str, Array]:
        values = {name: torch.tensor(array, dtype=dtype) for name, array in self.leaves.items()}
        leaves = {
            name: value.requires_grad_()
            for name, value in values.items()
            if name.startswith(LEAVES[role])
        }
        with _given(sides):
            image, seen = self._render(role, values)
            found = self.term.features(seen)
        fixed = {name: torch.tensor(array, dtype=dtype) for name, array in self.fixed.items()}
        mask = fixed["mask"]
        wanted = self.term.features(torch.tensor(self.small, dtype=dtype))
        perceptual = self.term.loss(found, wanted, mask)
        terms = loss_terms(image, fixed["target"], perceptual, mask)
        loss = (fixed["term_weights"] * terms).sum()
        (loss + (fixed["pull"] * seen).sum()).backward()
        outputs = {
            "loss": loss[None],
            "terms": terms,
            "rendering": image,
            "reconstruction": seen,
        }
        outputs |= {gradient_name(name): leaf.grad for name, leaf in leaves.items()}
        return {name: value.detach().numpy() for name, value in outputs.items()}

    def _render(
        self, role: str, values: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and reconstruction, of the leaves that a role has; else of what is stored."""
        model, config = self.model, self.model.config
        placed: dict[str, torch.Tensor] = {}
        for layer in config.generator.layers:
            noise = values.get(f"noise.{layer.name}")
            if role != "objective" and noise is not None:
                placed[f"noises.noise_{layer.noise}"] = noise
        feature = torch.zeros(())
        if role == "synthesis_objective":
            feature = values["feature_offset"]
            names = [parameter.name for parameter in synthesis_parameters(model)]
            placed |= {name: values[f"parameter.{name}"] for name in names}
        else:
            for layer in config.tuned:
                weight = values[f"weight.{layer.name}"] / self._scale(layer.name)
                placed[f"{layer.name}.conv.weight"] = weight[None]
        changed = model.decoder.get_submodule(feature_layer(config.generator).name)
        hook = changed.register_forward_hook(lambda _module, _inputs, output: output + feature)
        try:
            made = torch.func.functional_call(model.decoder, placed, (values["latents"],))
        finally:
            hook.remove()
        image = crop_rows(made, config.crop_rows)
        return image, F.adaptive_avg_pool2d(image, config.input_size)

    def _scale(self, layer: str) -> float:
        return self.model.decoder.get_submodule(layer).conv.scale


@contextmanager
def _given(sides: Sides | None) -> Iterator[None]:
    """Let the activations of one pass through generator and encoder have these sides."""
    if sides is None:
        yield
        return
    left = {kind: iter(each) for kind, each in sides.items()}

    def activate(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        slopes = np.where(next(left["LeakyRelu"]), 1, ACTIVATION_SLOPE) * ACTIVATION_GAIN
        return (x + bias[:, None, None]) * torch.from_numpy(slopes).to(x.dtype)

    def prelu(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        side = next(left["PRelu"], None)  # behind the last features the graph has none
        positive = x > 0 if side is None else torch.from_numpy(side)
        return torch.where(positive, x, x * weight[:, None, None])

    with (
        mock.patch.object(generator, "fused_leaky_relu", activate),
        mock.patch.object(F, "prelu", prelu),
    ):
        yield
