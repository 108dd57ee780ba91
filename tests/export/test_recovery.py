"""Networks read off a bundle's graphs compute what the bundle computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hyperstyle_export.bundles.recovery import recover_model
from hyperstyle_export.bundles.verification import measure_accuracy
from hyperstyle_export.bundles.writer import BuildError, BundleFacts, write_bundle, write_manifest
from hyperstyle_export.graphs.storage import store_weights
from hyperstyle_export.methods import GRAPHS, sharing_graphs
from hyperstyle_rt.files import sha256
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from hyperstyle_rt.formats.manifest_entries import BundleFile
from models import CONFIGS, TINY, build_model


def write(name: str, directory: Path, storage: str = "fp32") -> Bundle:
    facts = BundleFacts("recovered")
    return write_bundle(build_model(CONFIGS[name]), directory, facts, storage, lambda _step: None)


@pytest.mark.usefixtures("without_descent")
@pytest.mark.parametrize(
    ("name", "storage"),
    [("tiny", "fp32"), ("tiny", "fp16"), ("all_layers", "fp32"), ("cars", "fp32")],
)
def test_recovered_networks_are_those_of_the_bundle(
    name: str, storage: str, tmp_path: Path, picture: np.ndarray
) -> None:
    bundle = write(name, tmp_path, storage)
    model = recover_model(bundle)
    assert model.config.generator == CONFIGS[name].generator
    assert model.config.tuned == CONFIGS[name].tuned
    figures = measure_accuracy(model, bundle, picture)
    assert max(figures["image_max_abs"]) < 1e-4
    assert figures["latents_max_abs"] < 1e-4


def test_recovered_weights_are_those_of_the_checkpoint(tiny_bundle: Path) -> None:
    original = build_model(TINY).state_dict()
    recovered = recover_model(Bundle.open(tiny_bundle)).state_dict()
    unchanged = [
        key for key in original if ".conv.weight" in key or "decoder.style" in key or "noise" in key
    ]
    assert len(unchanged) > 20
    for key in unchanged:
        assert np.allclose(recovered[key], original[key], rtol=1e-6, atol=1e-29), key


@pytest.mark.usefixtures("without_descent")
def test_other_graphs_are_refused_in_one_sentence(tmp_path: Path) -> None:
    bundle = write("tiny", tmp_path)
    path = tmp_path / "generator.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        tensor.name = f"renamed.{tensor.name}"
    path.write_bytes(model.SerializeToString())
    changed = BundleFile(sha256(path), path.stat().st_size, "fp32")
    files = {**bundle.manifest.files, path.name: changed}
    write_manifest(tmp_path, replace(bundle.manifest, files=files))
    with pytest.raises(BuildError, match="are not of this exporter's layout") as refusal:
        recover_model(Bundle.open(tmp_path))
    assert "\n" not in str(refusal.value)


def test_the_graphs_of_the_bundle_portraits_are_those_this_exporter_writes() -> None:
    """Built anew from its own networks: the same interfaces and nodes, under the same names."""
    bundle = Bundle.open(find_bundle("portraits"))
    model = recover_model(bundle)
    for role, build in {**GRAPHS, **sharing_graphs(model)}.items():
        stored = onnx.load(bundle.verified_path(role), load_external_data=False).graph
        built = store_weights(build(model), "fp16").graph
        assert [(v.name, v.op_type) for v in stored.node] == [(v.name, v.op_type) for v in built]
        assert [v.name for v in stored.input] == [v.name for v in built.inputs]
        assert [v.name for v in stored.output] == [v.name for v in built.outputs]
        assert {t.name for t in stored.initializer} == set(built.initializers)
    assert set(bundle.manifest.graphs) == {*GRAPHS, *sharing_graphs(model)}
