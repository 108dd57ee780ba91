"""The objectives against torch autograd: every leaf, every term, masks and pulls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fakeweights
import numpy as np
import onnx_ir
import pytest
import torch
import torch.nn.functional as F
from hyperstyle_export.bundles.recovery import recover_model
from hyperstyle_export.graphs.averaging import averages
from hyperstyle_export.graphs.objective import LEAVES, gradient_name
from hyperstyle_export.graphs.synthesis_tensors import PARAMETER
from hyperstyle_export.methods import OBJECTIVES, REFINEMENT_GRAPHS
from hyperstyle_export.networks.lpips import ALEXNET, VGG16
from hyperstyle_export.networks.refinement import loss_terms
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.formats.parametric_inputs import ObjectiveFacts
from hyperstyle_rt.imaging.pictures import read_picture, to_input
from hyperstyle_rt.model import Model as Runtime
from models import CONFIGS, TINY, build_model, narrow_lpips
from objective_twin import Array, Arrays, ObjectiveTwin, relative_error
from synthetic import official_config

EXAMPLE = Path(__file__).parents[2] / "examples" / "portrait_0.png"
STEPS = {"latents": 3e-3, "noise.convs.3": 0.1, "feature_offset": 1e-2, PARAMETER: 1e-3}
RELATIVE_ERROR = 1e-4  # per tensor, of the norm: what the issue asks for
TINY_ERROR = 2e-5  # what the small models show

TERMS = {
    "pixels": ((1.0, 0.0, 0.0), 0.0),
    "structure": ((0.0, 1.0, 0.0), 0.0),
    "perceptual": ((0.0, 0.0, 1.0), 0.0),
    "pull": ((0.0, 0.0, 0.0), 1.0),
    "all": ((0.7, 0.5, 1.3), 1.0),
}


STRENGTH = ".noise.weight"


def tensors(outputs: Arrays) -> dict[str, Array]:
    """What is measured by its norm: the noise strengths, one number a layer, as one tensor."""
    strengths = [value for name, value in outputs.items() if name.endswith(STRENGTH)]
    others = {name: value for name, value in outputs.items() if not name.endswith(STRENGTH)}
    return others | ({STRENGTH: np.concatenate(strengths)} if strengths else {})


def check(twin: ObjectiveTwin, role: str, bound: float) -> None:
    actual, expected = tensors(twin.evaluate(role)), tensors(twin.reference(role))
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if name == "loss" and not value.any():
            assert not actual[name].any()
            continue
        error = relative_error(actual[name], value)
        assert error <= bound, f"{name} of {role}: {error:.1e}"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ObjectiveTwin:
    return ObjectiveTwin(build_model(TINY), tmp_path_factory.mktemp("twin"))


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("role", OBJECTIVES)
def test_gradients_of_each_term_equal_autograds(tiny: ObjectiveTwin, role: str, terms: str) -> None:
    weights, pull = TERMS[terms]
    tiny.weigh(weights)
    tiny.pull(pull)
    check(tiny, role, TINY_ERROR)


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"tiny"}))
def test_gradients_of_other_layouts_equal_autograds(name: str, tmp_path: Path) -> None:
    twin = ObjectiveTwin(build_model(CONFIGS[name]), tmp_path)
    for role in ("joint_objective", "synthesis_objective"):
        check(twin, role, TINY_ERROR)


@pytest.mark.parametrize("layers", [ALEXNET, VGG16], ids=["alexnet", "vgg16"])
def test_gradients_with_lpips_equal_autograds(layers: tuple, tmp_path: Path) -> None:
    twin = ObjectiveTwin(build_model(TINY), tmp_path, narrow_lpips(layers))
    check(twin, "joint_objective", TINY_ERROR)


def test_gradients_of_the_bundle_portraits_equal_autograds(tmp_path: Path) -> None:
    """At a picture's latents and kernels, through graphs of its weights."""
    bundle = Bundle.open(find_bundle("portraits"))
    twin = ObjectiveTwin(recover_model(bundle), tmp_path)
    picture = read_picture(EXAMPLE)
    with Runtime.load(bundle.directory, "cpu", threads=1) as runtime:
        inversion = runtime.invert(picture)
    twin.leaves["latents"] = inversion.latents[None]
    twin.leaves |= twin.run("weights", {"codes": inversion.codes[None]})
    twin.leaves |= twin.parameters()
    twin.show(to_input(picture, twin.model.config.image_size))
    twin.weigh((1.0, 1.0, 1.0))
    for role in ("joint_objective", "synthesis_objective"):
        check_exactly(twin, role)


def check_exactly(twin: ObjectiveTwin, role: str) -> None:
    """Beside float64, where the same activations are positive.

    Of 30 million a few are so near to zero that float32 puts them on the other side, on each
    processor others. A single one changes a noise map's gradient by 1e-3, in torch's float32 as
    here.
    """
    outputs, sides = twin.evaluate_with_sides(role)
    twin.close()
    actual = tensors(outputs)
    for name, exact in tensors(twin.reference(role, torch.float64, sides)).items():
        error = relative_error(actual[name], exact)
        assert error <= RELATIVE_ERROR, f"{name} of {role}: {error:.1e}"


@pytest.mark.slow
@pytest.mark.parametrize("role", ["joint_objective", "synthesis_objective"])
def test_gradients_of_an_official_256_model_are_exact(role: str, tmp_path: Path) -> None:
    official = official_config(256)
    tuned, shared = official.hypernetwork.tuned_layers, official.hypernetwork.shared_layers
    small = replace(TINY.hypernetwork, tuned_layers=tuned, shared_layers=shared)
    model = build_model(replace(official, hypernetwork=small))  # no part of an objective
    twin = ObjectiveTwin(model, tmp_path)
    check_exactly(twin, role)


def test_sides_of_activations_are_the_graphs(tiny: ObjectiveTwin) -> None:
    """Given those of the graph, torch computes what it computes by its own; given others, not."""
    outputs, sides = tiny.evaluate_with_sides("joint_objective")
    expected = tiny.reference("joint_objective")
    found = tiny.reference("joint_objective", sides=sides)
    others = {kind: [np.ones_like(side) for side in each] for kind, each in sides.items()}
    other = tiny.reference("joint_objective", sides=others)
    layers = [layer for layer in TINY.generator.layers if not layer.is_to_rgb]
    assert len(sides["LeakyRelu"]) == len(layers)
    assert sides["PRelu"]
    for name, value in expected.items():
        assert relative_error(found[name], value) <= TINY_ERROR
        assert relative_error(outputs[name], value) <= TINY_ERROR
    assert relative_error(other["rendering"], expected["rendering"]) > 0.01


@pytest.mark.parametrize("leaf", STEPS)
def test_gradients_are_finite_differences(tiny: ObjectiveTwin, leaf: str) -> None:
    """Without torch: along the gradient the loss, with what pulls, rises as the gradient says."""
    tiny.weigh((0.7, 0.5, 1.3))
    tiny.pull(1)
    before, outputs, step = dict(tiny.leaves), tiny.evaluate("synthesis_objective"), STEPS[leaf]
    gradients = {
        name: outputs[gradient_name(name)].astype(np.float64)
        for name in before
        if name.startswith(leaf)
    }
    norm = float(np.sqrt(sum(np.square(gradient).sum() for gradient in gradients.values())))
    losses = []
    try:
        for sign in (-1, 1):
            for name, gradient in gradients.items():
                moved = before[name] + sign * step * gradient / norm
                tiny.leaves[name] = moved.astype(np.float32)
            outputs = tiny.evaluate("synthesis_objective")
            pulled = np.vdot(tiny.fixed["pull"], outputs["reconstruction"])
            losses.append(float(outputs["loss"][0] + pulled))
    finally:
        tiny.leaves = before
    assert (losses[1] - losses[0]) / (2 * step) == pytest.approx(norm, rel=5e-3)


def test_a_mask_of_ones_is_none(tiny: ObjectiveTwin) -> None:
    mask = tiny.fixed["mask"]
    tiny.fixed["mask"] = np.ones_like(mask)
    try:
        seen = tiny.evaluate("objective")
        wanted = tiny.term.features(torch.from_numpy(tiny.small))
        found = tiny.term.features(torch.from_numpy(seen["reconstruction"]))
        pictures = (torch.from_numpy(a) for a in (seen["rendering"], tiny.fixed["target"]))
        expected = loss_terms(*pictures, tiny.term.loss(found, wanted)).numpy()
    finally:
        tiny.fixed["mask"] = mask
    assert np.abs(seen["terms"] / expected - 1).max() <= 1e-5


def test_nothing_outside_a_mask_counts(tiny: ObjectiveTwin) -> None:
    mask = tiny.fixed["mask"]
    tiny.fixed["mask"] = np.zeros_like(mask)
    tiny.pull(0)
    try:
        outputs = tiny.evaluate("latents_objective")
    finally:
        tiny.fixed["mask"] = mask
    assert not outputs["terms"].any()
    assert not outputs["gradient.latents"].any()


@pytest.mark.parametrize("sizes", [(12, 4), (12, 5), (7, 3), (4, 10), (6, 6)])
def test_averages_are_adaptive_pooling(sizes: tuple[int, int]) -> None:
    size, wanted = sizes
    x = fakeweights.normal("x", (1, 1, size, size + 1))
    expected = F.adaptive_avg_pool2d(torch.from_numpy(x), (wanted, wanted + 1)).numpy()
    actual = averages(size, wanted) @ x @ averages(size + 1, wanted + 1).T
    assert np.abs(actual - expected).max() <= 1e-6


def test_the_general_generator_renders_what_the_generator_renders(tiny: ObjectiveTwin) -> None:
    """With the stored parameters, and with kernels of codes in their place."""
    codes = 0.3 * fakeweights.normal("codes", (1, len(TINY.tuned), 17))
    kernels = tiny.run("weights", {"codes": codes})
    inputs = {"latents": np.repeat(tiny.leaves["latents"], 2, axis=0), **kernels}
    expected = tiny.run("generator", inputs)
    widths = sum(layer.in_channels for layer in TINY.generator.layers)
    zeros = {
        "style_offsets": np.zeros((1, widths), np.float32),
        "feature_offset": np.zeros_like(tiny.leaves["feature_offset"]),
    }
    inputs |= tiny.run("parameters", kernels) | tiny.run("noise", {}) | zeros
    actual = tiny.run("parametric_generator", inputs)
    for name, value in expected.items():
        assert np.abs(actual[name] - value).max() <= 1e-5, name


def test_parameters_are_those_of_the_state_dict(tiny: ObjectiveTwin) -> None:
    """All that pivotal tuning changes: every parameter of synthesis, in its own scale."""
    weights = tiny.run("weights", {"codes": np.zeros((1, len(TINY.tuned), 17), np.float32)})
    found = tiny.run("parameters", weights)
    stored = {
        f"parameter.{name}": value.numpy()
        for name, value in tiny.model.decoder.named_parameters()
        if not name.startswith("style.")
    }
    assert found.keys() == stored.keys()
    for name, value in stored.items():
        assert found[name].shape == value.shape
        assert relative_error(found[name], value) <= 1e-6, name


def test_interfaces(tiny: ObjectiveTwin) -> None:
    """A host feeds by name: latents and loss everywhere, and what a role is for."""
    noise = {name for name in tiny.leaves if name.startswith("noise.")}
    weights = {name for name in tiny.leaves if name.startswith("weight.")}
    parameters = {name for name in tiny.leaves if name.startswith("parameter.")}
    common = {"latents", *tiny.fixed}
    inputs = {
        "objective": weights,
        "latents_objective": noise | weights,
        "joint_objective": noise | weights,
        "synthesis_objective": noise | parameters | {"feature_offset"},
    }
    shown = {"loss", "terms", "rendering", "reconstruction"}
    for role, names in inputs.items():
        graph = REFINEMENT_GRAPHS[role](tiny.model).graph
        assert {value.name for value in graph.inputs} == common | names
        leaves = {gradient_name(n) for n in common | names if n.startswith(LEAVES[role])}
        assert {value.name for value in graph.outputs} == shown | leaves
        assert all(v.shape.is_static() for v in [*graph.inputs, *graph.outputs])


def test_a_manifest_says_what_descent_may_change(tiny_bundle: Path) -> None:
    """As the graphs have it: a file's weights are stored in this order."""
    manifest = Bundle.open(tiny_bundle).manifest
    inputs = {
        value.name: tuple(value.shape)
        for value in onnx_ir.load(tiny_bundle / "parametric_generator.onnx").graph.inputs
    }
    outputs = onnx_ir.load(tiny_bundle / "parameters.onnx").graph.outputs
    parameters = manifest.parametric_inputs.parameters
    assert [f"parameter.{p.name}" for p in parameters] == [value.name for value in outputs]
    assert all(inputs[f"parameter.{p.name}"] == p.shape for p in parameters)
    feature = manifest.parametric_inputs.feature
    assert feature.layer == "convs.3"  # 16 px, half of what the tiny model makes
    assert inputs["feature_offset"] == (1, *feature.shape)
    assert manifest.objective == ObjectiveFacts("encoder", 0.25)
