"""A bundle as a model repository of Triton: what is written, and Triton's own idea of it."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from hyperstyle_export.bundles.writer import write_manifest
from hyperstyle_export.cli import app
from hyperstyle_export.engines.plans import planned_roles
from hyperstyle_export.triton.config import LARGEST_BATCH, Instances, Word, to_text
from hyperstyle_export.triton.repository import write_repository
from hyperstyle_rt.cli.program import EXIT_SIGNAL, Stopped
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.scale.triton.graphs_backend import GraphModels
from stand_ins import add_plans
from typer.testing import CliRunner, Result

INSTANCES = Instances(graphs=1, loops=3, kind="KIND_CPU")


@pytest.fixture(scope="module")
def repository(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("triton") / "models"
    write_repository(Bundle.open(tiny_bundle), directory, "fp32", INSTANCES, False)
    return directory


def build(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_every_graph_is_a_model_beside_the_two_that_call_them(
    repository: Path, tiny_bundle: Path
) -> None:
    bundle = Bundle.open(tiny_bundle)
    graphs = {f"tiny_graph_{role}" for role in bundle.manifest.graphs}
    assert {path.name for path in repository.iterdir()} == {*graphs, "tiny_invert", "tiny_edit"}
    for role, graph in bundle.manifest.graphs.items():
        version = repository / f"tiny_graph_{role}" / "1"
        assert {path.name for path in version.iterdir()} == {"model.onnx", *graph.data}
        assert (version / "model.onnx").read_bytes() == (tiny_bundle / graph.file).read_bytes()
        onnx.checker.check_model(version / "model.onnx")  # it finds its data beside it
    for what in ("invert", "edit"):
        version = repository / f"tiny_{what}" / "1"
        assert {path.name for path in version.iterdir()} == {"model.py", "graphs.json", "bundle"}
        opened = Bundle.open(version / "bundle")
        assert opened.digest == bundle.digest
        average, expected = opened.latent_average(), bundle.latent_average()
        assert average is not None and expected is not None
        assert average.tobytes() == expected.tobytes()
        assert not list((version / "bundle").glob("*.onnx*"))


def test_signatures_are_those_of_onnx_runtime(repository: Path, tiny_bundle: Path) -> None:
    from hyperstyle_rt.backends.registry import open_backend

    graphs = GraphModels.from_json((repository / "tiny_edit" / "1" / "graphs.json").read_text())
    bundle = Bundle.open(tiny_bundle)
    assert (graphs.bundle, graphs.precision) == ("tiny", "fp32")
    assert graphs.signatures.keys() == bundle.manifest.graphs.keys()
    backend = open_backend("cpu", bundle, 1, "fp32", None)
    for role in ("encoder", "hypernet", "weights", "generator"):
        signature = backend.signature(role)
        assert dict(graphs.signatures[role].inputs) == dict(signature.inputs)
        assert dict(graphs.signatures[role].outputs) == dict(signature.outputs)
    backend.close()


def test_triton_reads_every_configuration(repository: Path, tiny_bundle: Path) -> None:
    pytest.importorskip("tritonclient", reason="tritonclient[grpc] is not installed")
    protocol = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")

    configs = {}
    for path in repository.glob("*/config.pbtxt"):
        config = text_format.Parse(path.read_text(), protocol.ModelConfig())
        assert config.name == path.parent.name
        assert config.version_policy.latest.num_versions == 1
        (group,) = config.instance_group
        assert group.kind == protocol.ModelInstanceGroup.KIND_CPU
        configs[config.name] = config, group.count

    encoder, count = configs["tiny_graph_encoder"]
    assert (encoder.backend, encoder.max_batch_size, count) == ("onnxruntime", LARGEST_BATCH, 1)
    assert encoder.HasField("dynamic_batching")
    assert [(t.name, t.data_type, list(t.dims)) for t in encoder.input] == [
        ("target", protocol.TYPE_FP32, [3, 64, 64])
    ]
    assert dict(encoder.model_warmup[0].inputs)["target"].zero_data
    assert encoder.model_warmup[0].batch_size == 1

    generator, _ = configs["tiny_graph_generator"]
    assert generator.max_batch_size == 0 and not generator.HasField("dynamic_batching")
    dims = {tensor.name: list(tensor.dims) for tensor in generator.input}
    layer = Bundle.open(tiny_bundle).manifest.tuned_layers[0]
    assert dims["latents"][0] == -1
    assert dims[f"weight.{layer.name}"] == list(layer.shape)

    loop, count = configs["tiny_invert"]
    assert (loop.backend, loop.max_batch_size, count) == ("python", 0, 3)
    assert {t.name: (list(t.dims), t.optional) for t in loop.input} == {
        "picture": ([-1, -1, 3], False),
        "method": ([1], True),
        "iterations": ([1], True),
    }
    assert [t.name for t in loop.output] == ["inversion", "rendering", "latents", "codes"]


def test_plans_take_the_place_of_the_graphs(tiny_bundle: Path, tmp_path: Path) -> None:
    """The configuration alone: no TensorRT backend of Triton has read it yet.

    A bundle has plans of the graphs that invert and render; the others stay as they are.
    """
    planned = add_plans(Path(shutil.copytree(tiny_bundle, tmp_path / "planned")))
    bundle = Bundle.open(planned)
    ((key, plans),) = bundle.manifest.plans.items()
    built = {f"{role}.plan": plans[f"{role}.plan"] for role in planned_roles(bundle.manifest)}
    write_manifest(planned, replace(bundle.manifest, plans={key: built}))
    models = tmp_path / "models"
    assert build("--triton", models, "--bundle", planned, "--plans", key).exit_code == 0
    for role in bundle.manifest.graphs:
        model = models / f"tiny_graph_{role}"
        if role not in planned_roles(bundle.manifest):
            assert (model / "1" / "model.onnx").exists()
            assert 'backend: "onnxruntime"' in (model / "config.pbtxt").read_text()
            continue
        assert [path.name for path in (model / "1").iterdir()] == ["model.plan"]
        assert (model / "1" / "model.plan").read_bytes() == bytes(bundle.plan(key, role))
        config = (model / "config.pbtxt").read_text()
        assert 'backend: "tensorrt"' in config
        assert "max_batch_size: 0" in config and "dynamic_batching" not in config
    graphs = GraphModels.from_json((models / "tiny_edit" / "1" / "graphs.json").read_text())
    assert graphs.precision == "fp32"

    missing = build("--triton", tmp_path / "none", "--bundle", planned, "--plans", "9-sm1-fp32")
    assert missing.exit_code == 2
    assert f"for TensorRT 9-sm1-fp32, only plans for {key}" in " ".join(missing.stderr.split())
    assert not (tmp_path / "none").exists()


def test_texts_are_escaped_and_words_are_not() -> None:
    message = {"name": 'a"b\\c\nd', "kind": Word("KIND_CPU"), "on": True, "dims": [1, -1]}
    assert to_text({"m": [message]}) == (
        'm {\n  name: "a\\"b\\\\c\\nd"\n  kind: KIND_CPU\n  on: true\n  dims: 1\n  dims: -1\n}\n'
    )


def test_a_repository_is_replaced_only_when_told_to(tiny_bundle: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    (models / "another").mkdir(parents=True)
    assert build("--triton", models, "--bundle", tiny_bundle).exit_code == 0
    marker = models / "tiny_edit" / "mine"
    marker.touch()
    again = build("--triton", models, "--bundle", tiny_bundle)
    assert again.exit_code == 2
    assert " ".join(again.stderr.split()) == (
        f"error: {models / 'tiny_edit'} exists; name another --triton, or replace it with --force"
    )
    assert marker.exists()
    assert build("--triton", models, "--bundle", tiny_bundle, "--force").exit_code == 0
    assert not marker.exists() and (models / "another").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"models"}


def test_a_repository_is_as_it_was_if_a_model_cannot_be_replaced(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    assert build("--triton", models, "--bundle", tiny_bundle).exit_code == 0
    markers = [each / "mine" for each in models.iterdir()]
    for marker in markers:
        marker.touch()
    rename = Path.rename

    def rename_but_one(self: Path, target: Path) -> Path:
        if self == models / "tiny_invert":
            raise OSError(errno.EBUSY, "Device or resource busy")
        return rename(self, target)

    def stop_at_one(self: Path, target: Path) -> Path:
        if self.parent.name == "models" and target == models / "tiny_invert":
            raise Stopped
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_but_one)
    refused = build("--triton", models, "--bundle", tiny_bundle, "--force")
    assert refused.exit_code == 2
    assert "Device or resource busy" in refused.stderr
    assert all(marker.exists() for marker in markers)
    monkeypatch.setattr(Path, "rename", stop_at_one)
    stopped = build("--triton", models, "--bundle", tiny_bundle, "--force")
    assert stopped.exit_code == EXIT_SIGNAL
    assert all(marker.exists() for marker in markers)
    assert {path.name for path in tmp_path.iterdir()} == {"models"}


def test_an_altered_graph_is_not_written(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "altered")
    manifest = json.loads((bundle / "manifest.json").read_text())
    path = bundle / manifest["graphs"]["encoder"]["file"]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    result = build("--triton", tmp_path / "models", "--bundle", bundle)
    assert result.exit_code == 2
    assert str(path) in "".join(result.stderr.split("\n"))
    assert {each.name for each in tmp_path.iterdir()} == {"altered"}


def test_its_help_is_its_own() -> None:
    result = build("--triton", "--help")
    assert result.exit_code == 0
    assert "--kind" in result.output and "--checkpoint" not in result.output
