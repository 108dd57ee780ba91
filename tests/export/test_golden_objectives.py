"""Perceptual terms and NVIDIA's projector beside the official code, through adjoint graphs.

Numbers and tolerances are those of tests/golden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import fakeweights
import numpy as np
import onnx_ir as ir
import pytest
import torch
from golden_lpips import fake_alexnet, fake_vgg16
from hyperstyle_export.adjoint.pull_back import pull_back
from hyperstyle_export.graphs.builder import Dim, GraphBuilder, save_model
from hyperstyle_export.graphs.generator import NOISE
from hyperstyle_export.graphs.generator_single import build_single_generator
from hyperstyle_export.graphs.inlining import inline, with_shapes
from hyperstyle_export.graphs.mapping import build_mapping
from hyperstyle_export.graphs.objective import build_features, build_objective
from hyperstyle_export.graphs.perceptual import Compared, LpipsNodes
from hyperstyle_export.networks.hyperstyle import HyperStyle
from hyperstyle_export.networks.lpips import Lpips
from hyperstyle_export.readers.official import read_generator
from hyperstyle_rt.optimising.adam import Adam
from hyperstyle_rt.optimising.noise_maps import REGULARISER_WEIGHT, normalised, regulariser
from hyperstyle_rt.optimising.schedules import projector_disturbance, projector_rate
from nvidia_files import write_network
from objective_twin import Array, open_session

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "optimisation.npz")


def lpips_gradient(lpips: Lpips, path: Path) -> Callable[[Array, Array], tuple[float, Array]]:
    """Distance of two pictures and its derivative by the first, as a graph."""
    term = LpipsNodes(lpips, (256, 256))
    b = GraphBuilder("forward")
    picture, mask = b.input("picture", [1, 3, 256, 256]), b.constant("mask", np.float32([[[[1]]]]))
    wanted = [b.input(f"features.{n}", shape) for n, shape in enumerate(term.shapes)]
    found = term.features(b, picture)
    parts = term.loss(b, [Compared(*pair, mask) for pair in zip(found, wanted, strict=True)])
    total = parts[0]
    for part in parts[1:]:
        total = b.op("Add", total, part)
    b.output("distance", b.op("Div", b.reshape(total, 1), b.scalar(term.weight)), [1])
    forward = with_shapes(b.build())
    b = GraphBuilder("lpips")
    inputs = {str(v.name): b.input(str(v.name), v.shape) for v in forward.graph.inputs}
    distance = inline(b, forward, inputs)["distance"]
    one = b.constant("one", np.ones(1, np.float32))
    (gradient,) = pull_back(b, {distance: one}, [inputs["picture"]])
    b.output("distance", distance, [1])
    b.output("gradient", gradient, [1, 3, 256, 256])
    save_model(b.build(), path)
    session = open_session(path)

    @torch.no_grad()
    def evaluate(one: Array, other: Array) -> tuple[float, Array]:
        features = lpips.features(torch.from_numpy(other))
        units = [f / (f.norm(dim=1, keepdim=True) + 1e-10) for f in features]
        fed = {f"features.{n}": unit.numpy() for n, unit in enumerate(units)}
        distance, gradient = session.run(["distance", "gradient"], {"picture": one, **fed})
        return float(distance[0]), gradient

    return evaluate


@pytest.mark.parametrize(
    ("name", "network", "crop", "area"),
    [
        ("alex", fake_alexnet, 1e-7, 1e-7),
        pytest.param("vgg", fake_vgg16, 1e-5, 1e-6, marks=pytest.mark.official),
    ],
)
def test_lpips_and_its_gradient(
    name: str, network: Callable[[], Lpips], crop: float, area: float, tmp_path: Path
) -> None:
    first, second = (fakeweights.to_input(fakeweights.image_u8(seed)) for seed in (21, 22))
    mixed = np.float32(0.8) * first + np.float32(0.2) * second
    distance, gradient = lpips_gradient(network(), tmp_path / "lpips.onnx")(first, mixed)
    assert abs(distance / GOLDEN[f"lpips/{name}"] - 1) <= 1e-5
    found = gradient[..., 120:136, 120:136]
    assert np.abs(found - GOLDEN[f"lpips/{name}_grad_crop16"]).max() <= crop
    means = gradient.reshape(1, 3, 16, 16, 16, 16).mean((3, 5))
    assert np.abs(means - GOLDEN[f"lpips/{name}_grad_area16"]).max() <= area


class MeansOfWindows:
    """The goldens' stand-in for NVIDIA's features: squared distance of 4x4 means."""

    network, weight, input_size = "means", 1.0, (64, 64)
    shapes: Sequence[Sequence[Dim]] = ([1, 3, 16, 16],)

    def features(self, b: GraphBuilder, picture: ir.Value) -> list[ir.Value]:
        return [b.op("AveragePool", picture, kernel_shape=[4, 4], strides=[4, 4])]

    def loss(self, b: GraphBuilder, features: Sequence[Compared]) -> list[ir.Value]:
        """Means of 0..255, divided by 255 sqrt(768): half of those of [-1,1], meaned."""
        (compared,) = features
        return [b.op("Mul", b.mean_square(compared.difference(b)), b.scalar(0.25))]


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> HyperStyle:
    path = write_network(tmp_path_factory.mktemp("ada") / "net.pkl")
    return HyperStyle.of_generator(read_generator(path)[0], (), (64, 64))


MeanLatent = Callable[[int], tuple[Array, float]]


@pytest.fixture(scope="module")
def mean_latent(ada: HyperStyle, tmp_path_factory: pytest.TempPathFactory) -> MeanLatent:
    """Of as many mapped noises, with the deviation that is one number; kept."""
    path = tmp_path_factory.mktemp("mapping") / "mapping.onnx"
    save_model(build_mapping(ada), path)
    session = open_session(path)

    @cache
    def mapped(samples: int) -> tuple[Array, float]:
        z = np.random.RandomState(123).randn(samples, 64).astype(np.float32)
        (w,) = session.run(None, {"z": z})
        mean = w.mean(0, dtype=np.float64)
        return mean.astype(np.float32), float(np.sqrt(np.square(w - mean).sum() / samples))

    return mapped


@pytest.mark.parametrize(("samples", "key"), [(10000, ""), (600, "_600")])
def test_the_mean_latent(mean_latent: MeanLatent, samples: int, key: str) -> None:
    mean, deviation = mean_latent(samples)
    assert np.abs(mean - GOLDEN[f"nvproj/w_avg{key}"]).max() <= 5e-5
    assert abs(deviation - GOLDEN[f"nvproj/w_std{key}"]) <= 5e-5 * deviation


def test_nvidias_projector(ada: HyperStyle, mean_latent: MeanLatent, tmp_path: Path) -> None:
    """All of its 20 steps on one w and nine noise maps, by the objective's gradients."""
    term = MeansOfWindows()
    objective = build_objective("latents_objective", build_single_generator(ada, (NOISE,)), term)
    for name, graph in (("features", build_features(term)), ("objective", objective)):
        save_model(graph, tmp_path / f"{name}.onnx")
    target = fakeweights.to_input(fakeweights.image_u8(1, 64, 64))
    (features,) = open_session(tmp_path / "features.onnx").run(None, {"target": target})
    fixed = {
        "target": target,
        "features.0": features,
        "mask": np.ones((1, 1, 64, 64), np.float32),
        "term_weights": np.array([0, 0, 1], np.float32),
        "pull": np.zeros((1, 3, 64, 64), np.float32),
    }
    session = open_session(tmp_path / "objective.onnx")
    outputs = [value.name for value in session.get_outputs()]
    w, deviation = mean_latent(10000)
    layers = [layer for layer in ada.config.generator.layers if not layer.is_to_rgb]
    noise = {
        f"noise.{layer.name}": fakeweights.normal(f"proj.randn.{n}", (layer.resolution,) * 2)
        for n, layer in enumerate(layers)
    }
    adams = {name: Adam(np.array(0.1, np.float32)) for name in ("w", *noise)}
    steps = 20
    for step in range(steps):
        sigma = np.float32(deviation * projector_disturbance(step / steps))
        seen = w + sigma * fakeweights.normal(f"proj.randn.{9 + step}", (1, 1, 64))[0, 0]
        fed = {**fixed, "latents": np.tile(seen, (1, 10, 1))}
        fed |= {name: value[None, None] for name, value in noise.items()}
        found = dict(zip(outputs, session.run(outputs, fed), strict=True))
        rate = projector_rate(step, step / steps)
        w = adams["w"].moved(w, found["gradient.latents"][0].sum(0), rate)
        for name, value in noise.items():
            gradient = found[f"gradient.{name}"][0, 0]
            gradient = gradient + np.float32(REGULARISER_WEIGHT) * regulariser(value)[1]
            noise[name] = normalised(adams[name].moved(value, gradient, rate))
        assert np.abs(w - GOLDEN["nvproj/w_steps"][step]).max() <= 2e-4, step
    for name, value in zip(GOLDEN["nvproj/order"], noise.values(), strict=True):
        expected = GOLDEN[f"nvproj/noise_end/{name}"]
        kept = value.ravel()[:: max(1, value.size // 256)][:256]
        assert np.abs(kept - expected).max() <= 1e-5, name
