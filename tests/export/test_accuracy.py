"""A bundle is measured beside its reference before it appears; one that is wrong does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakeweights
import numpy as np
import onnx_ir as ir
import pytest
import torch
from build_command import Command
from checkpoint_files import read
from hyperstyle_export.bundles.verification import check_accuracy
from hyperstyle_export.bundles.writer import BuildError
from hyperstyle_export.methods import METHODS, RENDERING_GRAPHS
from hyperstyle_rt import Model

LOOP = ("encoder", "hypernet", "weights", "generator")


def size(directory: Path) -> int:
    """Bytes of the graphs that hold the networks' weights."""
    return sum((directory / f"{role}.onnx").stat().st_size for role in LOOP)


def test_fp16_halves_the_files_and_keeps_the_picture(command: Command, built: Path) -> None:
    half = command.succeed("--storage", "fp16")
    # Layers of the tiny model below 1024 elements stay as they are, and so do the nodes.
    assert size(half.directory) < 0.7 * size(built)
    precisions = {name: file.stored for name, file in half.manifest.files.items()}
    assert precisions.pop("latent_average.safetensors") == "fp32"
    assert set(precisions.values()) == {"fp16"}
    assert 40 <= half.manifest.accuracy["image_psnr_db"] < 120
    picture = fakeweights.image_u8(2, 64, 64)
    single, double = (
        Model.load(out, "cpu").invert(picture, iterations=2).output
        for out in (half.directory, built)
    )
    squared = np.square(single - double, dtype=np.float64).mean()
    assert 10 * np.log10(4 / squared) >= 40


def test_weights_too_large_for_fp16_are_one_sentence(command: Command) -> None:
    contents = read(command.checkpoint)
    contents["state_dict"]["hypernet.shared_weight_hypernet.w2"] *= 1e6  # and its aliases
    torch.save(contents, command.directory / "h.pt")
    command.refuse(
        "does not fit into fp16; use --storage fp32",
        "--storage",
        "fp16",
        checkpoint=command.directory / "h.pt",
    )


WRONG_GRAPHS: dict[str, tuple[str, str, list[float]]] = {
    # role, output, factors along its last axis
    "generator": ("generator", "rendering", [1.01]),
    "generator_feedback": ("generator", "reconstruction", [1.05]),
    "encoder": ("encoder", "latents", [1.01]),
    "hypernet": (
        "hypernet",
        "codes_next",
        [1.01] * 16 + [1.0],
    ),  # the last column counts iterations
    "weights": ("weights", "weight.convs.5", [1.0, 1.0, 1.05]),  # one column of the kernels
}


def builders(role: str) -> Any:
    """The table that a bundle's writer takes the builder of a role from."""
    own = METHODS["hyperstyle"].graphs
    return own if role in own else RENDERING_GRAPHS


def scaled(role: str, output: str, factors: list[float]) -> Callable[[Any], Any]:
    """A graph's builder with one output multiplied."""
    build = builders(role)[role]

    def build_scaled(model: Any) -> Any:
        graph_model = build(model)
        graph = graph_model.graph
        at, value = next((n, v) for n, v in enumerate(graph.outputs) if v.name == output)
        value.name = f"{output}.right"
        by = ir.Value(name="by", const_value=ir.tensor(np.array(factors, np.float32)))
        graph.register_initializer(by)
        node = ir.node("Mul", [value, by])
        node.outputs[0].name = output
        node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
        graph.append(node)
        graph.outputs[at] = node.outputs[0]
        return graph_model

    return build_scaled


@pytest.mark.usefixtures("without_descent")
@pytest.mark.parametrize("case", WRONG_GRAPHS)
def test_wrong_graph_is_refused(
    case: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    role, output, factors = WRONG_GRAPHS[case]
    monkeypatch.setitem(builders(role), role, scaled(role, output, factors))
    line = command.refuse(r"fp32 bundle differs .*\(largest (image|offset) error \d.* above \d")
    assert "was not written" in line


@pytest.mark.usefixtures("without_descent")
def test_wrong_graph_is_refused_in_fp16(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RENDERING_GRAPHS, "generator", scaled("generator", "rendering", [1.1]))
    command.refuse(r"fp16 bundle differs .*\(PSNR [\d.]+ dB below 40.0 dB\)", "--storage", "fp16")


@pytest.mark.usefixtures("without_descent")
def test_scaling_by_one_is_accepted(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusals above are of the factor, not of how it was put in."""
    monkeypatch.setitem(RENDERING_GRAPHS, "generator", scaled("generator", "rendering", [1.0]))
    command.succeed()


GOOD_FIGURES = {
    "offsets_max_abs": 1e-6,
    "offsets_largest": 0.5,
    "image_max_abs": [1e-6, 2e-6],
    "image_psnr_db": 120.0,
}
NAN = float("nan")


@pytest.mark.parametrize(
    ("storage", "changed", "accepted"),
    [
        ("fp32", {}, True),
        ("fp32", {"image_psnr_db": 1.0}, True),
        ("fp32", {"offsets_max_abs": 4e-4}, True),
        ("fp32", {"offsets_max_abs": 6e-4}, False),
        ("fp32", {"offsets_max_abs": 6e-4, "offsets_largest": 5.0}, True),
        ("fp32", {"offsets_largest": 0.0}, True),
        ("fp32", {"offsets_max_abs": 1e-4, "offsets_largest": 0.0}, False),
        ("fp32", {"image_max_abs": [2e-3, 1e-6]}, False),
        ("fp32", {"image_max_abs": [1e-6, 2e-3]}, False),
        ("fp32", {"offsets_max_abs": NAN}, False),
        ("fp32", {"image_max_abs": [1e-6, NAN]}, False),
        ("fp16", {}, True),
        ("fp16", {"image_max_abs": [2e-3, 2e-3], "image_psnr_db": 40.0}, True),
        ("fp16", {"image_psnr_db": 39.99}, False),
        ("fp16", {"image_psnr_db": NAN}, False),
    ],
)
def test_accuracy_bounds(storage: str, changed: dict[str, Any], accepted: bool) -> None:
    figures = GOOD_FIGURES | changed
    if accepted:
        check_accuracy(figures, storage)
    else:
        with pytest.raises(BuildError, match=f"the {storage} bundle differs"):
            check_accuracy(figures, storage)
