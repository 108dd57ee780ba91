"""``hyperstyle-rt info``: bundles and inversion files, good and bad."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import altered_copy, refuse, run, run_program, sentence, succeed, write_face
from hyperstyle_rt import Bundle, Inversion
from hyperstyle_rt.backends.plans import cache as plan_cache
from hyperstyle_rt.backends.plans.build import BuiltPlan, Target
from hyperstyle_rt.cli.terminal import figures_table
from hyperstyle_rt.formats import bundle_lookup
from hyperstyle_rt.formats.inversion_file import InversionData, write_inversion
from stand_ins import VERSION


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in an empty folder, on a terminal of known width."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("HYPERSTYLE_RT_PLANS", str(tmp_path / "plans"))


def test_info_of_a_bundle(tiny_bundle: Path):
    text = succeed("info", tiny_bundle)
    manifest = Bundle.open(tiny_bundle).manifest
    lines = text.splitlines()
    for name, file in manifest.files.items():
        (line,) = (line for line in lines if line.startswith(f"{name} "))
        assert file.sha256[:12] in line
        assert line.rstrip().endswith("verified")
    for part in (manifest.name, manifest.domain, manifest.license, manifest.tuned_layers[-1].name):
        assert part in text


def test_info_takes_the_bundle_as_other_commands_do(tiny_bundle: Path):
    assert succeed("info", "--bundle", tiny_bundle) == succeed("info", tiny_bundle)


def test_info_without_argument_describes_the_default_bundle(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bundle_lookup, "default_bundle", lambda: tiny_bundle)
    bundle = Bundle.open(tiny_bundle)
    macs = {role: graph.macs for role, graph in bundle.manifest.graphs.items()}
    rendering = 6 * (macs["weights"] + macs["generator"])
    assert json.loads(succeed("info", "--json")) == {
        "directory": str(tiny_bundle),
        "digest": bundle.digest,
        "manifest": bundle.manifest.to_json(),
        "costs": {"hyperstyle": macs["encoder"] + 5 * macs["hypernet"] + rendering},
        "cached_plans": [],
        "problems": {},
    }


def test_info_names_all_bad_files(tiny_bundle: Path):
    bundle = altered_copy(tiny_bundle)
    (bundle / "generator.onnx").unlink()
    result = run("info", bundle)
    assert result.exit_code == 2
    first, second = (sentence(line) for line in result.stderr.splitlines())
    assert "encoder.onnx is altered" in first
    assert "cannot open" in second
    assert re.search(r"^encoder\.onnx .* bad *$", result.stdout, re.MULTILINE)
    assert re.search(r"^weights\.onnx .* verified *$", result.stdout, re.MULTILINE)


def test_info_finds_a_file_that_is_not_listed(tiny_bundle: Path):
    shutil.copytree(tiny_bundle, "copy")
    Path("copy/encoder.onnx.data").write_bytes(b"smuggled")
    result = run("info", "copy", "--json")
    assert result.exit_code == 2
    assert "not listed" in sentence(result.stderr)
    assert list(json.loads(result.stdout)["problems"]) == [str(Path("copy").absolute())]


def test_info_lists_and_verifies_plans(planned: Path):
    shutil.copytree(planned, "copy")
    key = f"{VERSION}-sm89-fp16"
    text = succeed("info", "copy")
    assert re.search(rf"^{re.escape(key)}/weights\.plan .* verified *$", text, re.MULTILINE)
    plan = Path("copy/tensorrt", key, "weights.plan")
    plan.write_bytes(plan.read_bytes().swapcase())
    result = run("info", "copy", "--json")
    assert result.exit_code == 2
    assert "weights.plan is altered" in sentence(result.stderr)
    assert list(json.loads(result.stdout)["problems"]) == [f"{key}/weights.plan"]


def test_info_lists_plans_in_the_users_cache(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    digest = hashlib.sha256(b"plan").hexdigest()

    def build(_target: Any, graph: Path, _role: str, plan: Path, *_rest: Any) -> BuiltPlan:
        plan.write_bytes(b"plan")
        return BuiltPlan(4, digest, 1, 0.1)

    monkeypatch.setattr(plan_cache, "build_plan", build)
    target = Target("tensorrt", "TensorRT 10", VERSION, 89, "NVIDIA L4")
    plan = plan_cache.cached_plan(Bundle.open(tiny_bundle), target, "fp32", "encoder")
    text = succeed("info", tiny_bundle)
    assert re.search(rf"^{re.escape(VERSION)}-sm89-fp32/encoder +4 bytes", text, re.MULTILINE)
    (listed,) = json.loads(succeed("info", tiny_bundle, "--json"))["cached_plans"]
    assert listed["path"] == str(plan.path)
    assert (listed["role"], listed["sha256"]) == ("encoder", digest)


def test_figures_within_figures_have_rows_of_their_own():
    methods = {"e4e": {"latents_max_abs": 4.023313522338867e-07, "image_max_abs": [2e-06, 0.5]}}
    table = figures_table("Accuracy", {"iterations": 2, "against": "torch", "methods": methods})
    assert [[str(part) for part in row] for row in table.rows] == [
        ["iterations", "2"],
        ["against", "torch"],
        ["methods e4e latents_max_abs", "4.02e-07"],
        ["methods e4e image_max_abs", "2e-06, 0.5"],
    ]


def test_info_shows_a_strangers_manifest_harmlessly(tiny_bundle: Path):
    shutil.copytree(tiny_bundle, "copy")
    path = Path("copy/manifest.json")
    document = json.loads(path.read_text())
    document["domain"] = "\x1b[2J[red]cats"
    path.write_text(json.dumps(document))
    assert "?[2J[red]cats" in succeed("info", "copy")


def test_info_of_an_inversion(tiny_bundle: Path):
    succeed("invert", write_face(), "--bundle", tiny_bundle, "-n", 2, "--save-inversion")
    inversion, bundle = Inversion.load("face.safetensors"), Bundle.open(tiny_bundle)
    arguments = ("info", "face.safetensors", "--bundle", tiny_bundle)
    document = json.loads(succeed(*arguments, "--json"))
    magnitudes = document.pop("magnitudes")
    assert document == {
        "file": "face.safetensors",
        "bytes": Path("face.safetensors").stat().st_size,
        "space": bundle.manifest.space,
        "needs": ["codes"],
        "bundle": {"name": bundle.manifest.name, "digest": bundle.digest},
        "method": "hyperstyle",
        "settings": {"iterations": 2},
        "computed": dict(inversion.computed),
        "iterations": 2,
        "latents": list(inversion.latents.shape),
        "codes": list(inversion.codes.shape),
        **dict.fromkeys(("channel_offsets", "noise", "weights", "features")),
        "transform": None,
    }
    expected = np.sqrt(np.square(inversion.codes[:, :-1]).mean(axis=1))
    assert list(magnitudes) == [layer.name for layer in bundle.manifest.tuned_layers]
    assert np.allclose(list(magnitudes.values()), expected, rtol=1e-5)
    process = run_program(*arguments)
    assert (process.returncode, process.stderr) == (0, "")
    assert f"{expected[0]:.4f}" in process.stdout


def test_info_of_an_inversion_finds_its_bundle_by_name(tiny_bundle: Path):
    name = Bundle.open(tiny_bundle).manifest.name
    shutil.copytree(tiny_bundle, Path("engines") / name)
    succeed("invert", write_face(), "--bundle", tiny_bundle, "--save-inversion")
    process = run_program("info", "face.safetensors")
    assert (process.returncode, process.stderr) == (0, "")
    assert name in process.stdout


def stranger(latents: np.ndarray, codes: np.ndarray, bundle: str) -> InversionData:
    """An inversion of another space."""
    return InversionData(
        latents=latents,
        codes=codes,
        iterations=2,
        space="0" * 64,
        code_space="1" * 64,
        bundle_name=bundle,
        bundle_digest="0" * 64,
        method="hyperstyle",
        settings={},
        computed={"backend": "cpu", "provider": "test", "precision": "fp32"},
    )


def test_info_of_an_inversion_of_a_bundle_we_do_not_have():
    latents, codes = np.ones((4, 6), np.float32), np.full((3, 5), 2, np.float32)
    write_inversion("x.safetensors", stranger(latents, codes, "elsewhere"))
    document = json.loads(succeed("info", "x.safetensors", "--json"))
    assert document["bundle"] == {"name": "elsewhere", "digest": "0" * 64}
    assert document["magnitudes"] == {"0": 2, "1": 2, "2": 2}


def test_info_gives_no_names_of_another_bundles_layers(tiny_bundle: Path):
    manifest = Bundle.open(tiny_bundle).manifest
    shutil.copytree(tiny_bundle, Path("engines") / manifest.name)
    latents = np.ones((manifest.num_latents, manifest.latent_width), np.float32)
    codes = np.ones((len(manifest.tuned_layers), manifest.codes.width), np.float32)
    write_inversion("x.safetensors", stranger(latents, codes, manifest.name))
    layers = json.loads(succeed("info", "x.safetensors", "--json"))["magnitudes"]
    assert list(layers) == [str(row) for row in range(len(codes))]


def test_info_refuses():
    Path("notes.txt").write_text("no inversion")
    assert "notes.txt: the file is not" in refuse("info", "notes.txt")
    Path("x.safetensors").write_text("no inversion")
    assert "x.safetensors: the file is not" in refuse("info", "x.safetensors")
    assert "cannot read y.safetensors" in refuse("info", "y.safetensors")
    assert "there is no bundle" in refuse("info", "nowhere")
    assert "there is no bundle" in refuse("info", "n" * 300)
    result = run("info", "nowhere", "--bundle", "elsewhere")
    assert result.exit_code == 2
    assert "goes with an inversion file, and nowhere is none" in result.stderr
