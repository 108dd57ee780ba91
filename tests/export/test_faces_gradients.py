"""The shipped objectives of photographs beside torch in float64, at the published size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hyperstyle_export.bundles.mobile_recovery import recover_mobile_generator
from hyperstyle_export.graphs.objective import KERNEL, LEAVES, gradient_name
from hyperstyle_export.graphs.synthesis_tensors import PARAMETER
from hyperstyle_export.networks import mobilestylegan
from hyperstyle_export.networks.refinement import loss_terms
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.imaging.pictures import read_picture, resize_bilinear, to_input
from mobile_models import whole_picture
from objective_twin import Array, open_session, relative_error, save_showing_inputs
from torch import Tensor

ROOT = Path(__file__).parents[2]
RELATIVE_ERROR = 1e-4
SMALL = 256
ROLES = ("joint_objective", "stored_noise_objective", "synthesis_objective")


class Shipped:
    """The graphs of the bundle, the networks read off them, and an inversion of a photograph."""

    def __init__(self) -> None:
        self.bundle = Bundle.open(find_bundle("faces"))
        self.generator = recover_mobile_generator(self.bundle)
        photo = read_picture(ROOT / "examples" / "astronaut.jpg")
        side = self.generator.config.resolution
        target = to_input(resize_bilinear(photo, (side, side)), (side, side))
        small = F.avg_pool2d(torch.from_numpy(target), side // SMALL).numpy()
        average = self.bundle.latent_average()
        self.values: dict[str, Array] = {
            "target": target,
            "mask": np.ones((1, 1, side, side), np.float32),
            # LPIPS' own kinks are those of a network that torch has in other numbers.
            "term_weights": np.array([1, 0.3, 0], np.float32),
            "pull": np.full((1, 3, SMALL, SMALL), 1e-6, np.float32),
            "latents": np.ascontiguousarray(average[None], np.float32),
        }
        self.values |= self.run("weights") | self.run("noise") | self.run("features", target=small)
        self.values |= self.run("parameters")
        shape = self.bundle.manifest.parametric_inputs.feature.shape
        self.values["feature_offset"] = np.zeros((1, *shape), np.float32)

    def run(self, role: str, **given: Array) -> dict[str, Array]:
        """Run a graph on those of the values that it has."""
        return self._run(self.bundle.verified_path(role), given)

    def run_with_sides(self, role: str, folder: Path) -> tuple[dict[str, Array], list[Array]]:
        """The same, and which activations of the generator are positive, layer by layer."""
        shown = save_showing_inputs(
            self.bundle.verified_path(role), ("LeakyRelu",), folder / "sides.onnx"
        )
        outputs = self._run(folder / "sides.onnx", {})
        return outputs, [outputs.pop(name) > 0 for name in shown["LeakyRelu"]]

    def _run(self, path: Path, given: Mapping[str, Array]) -> dict[str, Array]:
        session, values = open_session(path), {**self.values, **given}
        names = [output.name for output in session.get_outputs()]
        fed = {value.name: values[value.name] for value in session.get_inputs()}
        return dict(zip(names, session.run(names, fed), strict=True))

    def factor(self, name: str) -> float:
        """Of a parameter: times which it is the network's tensor."""
        stored = self.generator.synthesis.get_parameter(name).detach().double().numpy().ravel()
        value = self.values[f"{PARAMETER}{name}"].astype(np.float64).ravel()
        return float(stored @ value / (value @ value))

    def reference(self, role: str, sides: Sequence[Array]) -> dict[str, Array]:
        """The loss, the rendering and the gradients in float64."""
        values = {name: torch.tensor(array).double() for name, array in self.values.items()}
        leaves = {n: v.requires_grad_() for n, v in values.items() if n.startswith(LEAVES[role])}
        network = self.generator.synthesis.double()
        kernels = {n.removeprefix(KERNEL): v for n, v in leaves.items() if n.startswith(KERNEL)}
        with _given(sides):
            picture = whole_picture(self.generator, leaves, values["latents"], kernels, self.factor)
        seen = F.avg_pool2d(picture, picture.shape[-1] // SMALL)
        nothing = torch.zeros((), dtype=torch.float64)
        terms = loss_terms(picture, values["target"], nothing, values["mask"])
        loss = (values["term_weights"] * terms).sum()
        (loss + (values["pull"] * seen).sum()).backward()
        network.float()
        outputs = {"loss": loss[None], "rendering": picture}
        outputs |= {gradient_name(name): leaf.grad for name, leaf in leaves.items()}
        return {name: value.detach().numpy() for name, value in outputs.items()}


@contextmanager
def _given(sides: Sequence[Array]) -> Iterator[None]:
    """Let the activations of one pass have these sides."""
    left = iter(sides)

    def activate(x: Tensor, slope: float) -> Tensor:
        return x * torch.from_numpy(np.where(next(left), 1, slope)).to(x.dtype)

    with mock.patch.object(mobilestylegan.F, "leaky_relu", activate):
        yield
    assert next(left, None) is None


@pytest.fixture(scope="module")
def shipped() -> Shipped:
    return Shipped()


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
def test_gradients_of_the_bundle_faces_equal_autograds(
    role: str, shipped: Shipped, tmp_path: Path
) -> None:
    actual, sides = shipped.run_with_sides(role, tmp_path)
    assert len(sides) == len(shipped.generator.config.kernels) - 1
    errors = {
        name: relative_error(actual[name], value)
        for name, value in shipped.reference(role, sides).items()
    }
    worst = max(errors, key=lambda name: errors[name])
    print(f"{role}: {errors[worst]:.1e} ({worst})")
    assert errors[worst] <= RELATIVE_ERROR, worst
