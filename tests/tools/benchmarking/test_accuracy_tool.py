"""`benchmarking.accuracy` for real: torch, ONNX Runtime in fp32 and fp16; wrong bundles fail."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import typer
from benchmarking import accuracy
from hyperstyle_export.bundles.writer import BundleFacts, sha256, write_bundle, write_manifest
from hyperstyle_export.readers.official import load_model
from hyperstyle_rt.formats.bundle import Bundle
from onnx import numpy_helper
from typer.testing import CliRunner, Result

APP = typer.Typer()
APP.command()(accuracy.main)


@pytest.fixture
def bundle(tiny_half_bundle: Path, tmp_path: Path) -> Bundle:
    """The tiny model in both precisions, to be spoilt."""
    return Bundle.open(shutil.copytree(tiny_half_bundle, tmp_path / "tiny"))


def compare(
    bundle: Bundle, checkpoints: tuple[Path, Path], reference: str, candidate: str
) -> Result:
    options = ["--reference", reference, "--candidate", candidate, "--json"]
    options += ["--checkpoint", str(checkpoints[0]), "--w-encoder", str(checkpoints[1])]
    return CliRunner().invoke(APP, ["--bundle", str(bundle.directory), *options])


def spoil(bundle: Bundle, name: str, change: object) -> None:
    """Rewrite a graph of the bundle, and list it as it then is: the digests stay right."""
    path = bundle.directory / name
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    entry = replace(bundle.manifest.files[name], sha256=sha256(path), size=path.stat().st_size)
    files = {**bundle.manifest.files, name: entry}
    write_manifest(bundle.directory, replace(bundle.manifest, files=files))


def scale_weight(graph: onnx.GraphProto) -> None:
    (weight,) = (t for t in graph.initializer if t.name == "convs.3.weight")
    values = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array((values * 1.01).astype(values.dtype), weight.name))


def scale_bias(graph: onnx.GraphProto) -> None:
    (bias,) = (t for t in graph.initializer if t.name == "encoder.linear.bias")
    values = numpy_helper.to_array(bias)
    bias.CopyFrom(numpy_helper.from_array((values + 0.01).astype(values.dtype), bias.name))


def permute_outputs(graph: onnx.GraphProto) -> None:
    """conv1 and convs.0 have one shape: give each the other's name."""
    exchanged = {"weight.conv1": "weight.convs.0", "weight.convs.0": "weight.conv1"}
    for node in graph.node:
        node.output[:] = [exchanged.get(name, name) for name in node.output]


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [("torch", "cpu"), ("torch", "cpu-fp16-rounded"), ("cpu", "cpu-fp16")],
)
def test_sound_bundles_pass(
    reference: str, candidate: str, bundle: Bundle, tiny_checkpoints: tuple[Path, Path]
) -> None:
    result = compare(bundle, tiny_checkpoints, reference, candidate)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["ok"]
    assert (document["reference"], document["candidate"]) == (reference, candidate)
    assert any(row["max_abs"] > 0 for row in document["differences"])


def test_weights_stored_in_half_are_held_to_the_bounds_of_half(
    tiny_checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    model = load_model(*tiny_checkpoints)
    stored = write_bundle(model, tmp_path, BundleFacts("tiny"), "fp16", lambda _step: None)
    result = compare(stored, tiny_checkpoints, "torch", "cpu")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)["differences"]
    assert max(row["relative"] for row in rows) > 1e-4  # too much for fp32
    spoil(stored, "weights.onnx", permute_outputs)
    assert compare(stored, tiny_checkpoints, "torch", "cpu").exit_code == 1


# What is done to which file, the stage and the tensors that show it first.
FAULTS = {
    "a weight times 1.01": ("weights.onnx", scale_weight, "weights", {"weight.convs.3"}),
    "a bias moved": ("encoder.onnx", scale_bias, "encoder", {"latents"}),
    "outputs permuted": (
        "weights.onnx",
        permute_outputs,
        "weights",
        {"weight.conv1", "weight.convs.0"},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_bundles_are_caught_and_the_tensor_named(
    fault: str, bundle: Bundle, tiny_checkpoints: tuple[Path, Path]
) -> None:
    name, change, stage, tensors = FAULTS[fault]
    spoil(bundle, name, change)
    result = compare(bundle, tiny_checkpoints, "torch", "cpu")
    assert result.exit_code == 1
    rows = json.loads(result.stdout)["differences"]
    assert {r["tensor"] for r in rows if r["stage"] == stage and not r["within"]} == tensors
    others = {"encoder", "hypernet", "weights"} - {stage}
    assert all(r["within"] for r in rows if r["stage"] in others)
    assert any(tensor in result.stderr for tensor in [*tensors, "rendering", "reconstruction"])
    assert result.stderr.startswith("error: ")


@pytest.mark.parametrize("change", [scale_weight, permute_outputs])
def test_wrong_half_graphs_are_caught(
    change: object, bundle: Bundle, tiny_checkpoints: tuple[Path, Path]
) -> None:
    spoil(bundle, "weights.fp16.onnx", change)
    result = compare(bundle, tiny_checkpoints, "cpu", "cpu-fp16")
    assert result.exit_code == 1
    rows = json.loads(result.stdout)["differences"]
    assert any(not r["within"] for r in rows if r["stage"] == "weights")


def test_torch_needs_its_checkpoints(bundle: Bundle) -> None:
    options = ["--bundle", str(bundle.directory), "--reference", "torch"]
    result = CliRunner().invoke(APP, options)
    assert result.exit_code == 2
    assert "give --checkpoint and --w-encoder" in result.stderr
