"""What counts as the same computation, measured tensor by tensor."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hyperstyle_rt.backends.ort import OnnxRuntimeBackend
from hyperstyle_rt.backends.registry import BACKENDS
from hyperstyle_rt.checking.comparison import (
    CONTENDERS,
    Contender,
    _coarsest,
    compare,
    contenders_at_hand,
    open_contender,
    sample_picture,
)
from hyperstyle_rt.checking.differences import BOUNDS, Comparison, Difference, measure
from hyperstyle_rt.cli.app import app
from hyperstyle_rt.errors import BackendError, BundleError
from hyperstyle_rt.formats.bundle import Bundle
from method_bundles import NUDGED, STEPS, add_method
from stand_ins import StandInCuda
from typer.testing import CliRunner

BOUND = BOUNDS["fp32", "graph"]
REFERENCE = np.array([1.0, -2.0, 4.0, 0.0], np.float32)


def difference(actual: np.ndarray, tensor: str = "codes") -> Difference:
    return measure("hypernet", tensor, 0, REFERENCE, actual.astype(np.float32), BOUND)


def test_figures_are_the_textbooks() -> None:
    found = difference(REFERENCE + np.float32([0, 0.5, 0, 0]))
    assert (found.max_abs, found.mean_abs, found.relative) == (0.5, 0.125, 0.125)
    assert found.psnr == pytest.approx(10 * np.log10(6**2 / 0.0625))
    assert found.cosine == pytest.approx((1 + 3 + 16) / np.sqrt(21 * (1 + 2.25 + 16)))
    assert not found.within


def test_pictures_have_a_peak_of_two() -> None:
    error = np.float32([0, 0.5, 0, 0])
    assert difference(REFERENCE + error, "rendering").psnr == pytest.approx(
        10 * np.log10(4 / 0.0625)
    )


def test_equal_tensors_are_within() -> None:
    found = difference(REFERENCE)
    assert found.within
    assert found.psnr == np.inf


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_out_of_bounds(value: float) -> None:
    actual = REFERENCE.copy()
    actual[3] = value
    found = difference(actual)
    assert not found.within
    comparison = Comparison("a", "b", (difference(REFERENCE), found))
    assert comparison.outside() == [found]
    assert comparison.worst() == [found]
    document = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert document["ok"] is False
    assert document["differences"][1]["max_abs"] is None


def test_a_percent_is_out_of_bounds_in_fp32() -> None:
    assert not difference(REFERENCE * 1.01).within
    assert difference(REFERENCE * (1 + 1e-6)).within


def quietly(_step: str) -> None:
    """Show no progress."""


def test_a_bundle_agrees_with_itself(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    ours = open_contender("cpu", bundle)
    pictures = [sample_picture(bundle, seed) for seed in (0, 1)]
    assert pictures[0].shape == (64, 64, 3)
    assert not np.array_equal(*pictures)
    comparison = compare(ours, ours, bundle, pictures, 3, quietly)
    assert not comparison.outside()
    stages = [d.stage for d in comparison.differences if d.picture == 1]
    graphs = ["encoder", *["weights"] * 7, *["generator"] * 2, "hypernet"]
    assert stages == [*graphs, *["after 1"] * 3, *["after 3"] * 3]
    tensors = {d.tensor for d in comparison.differences if d.stage == "weights"}
    assert tensors == {f"weight.{layer.name}" for layer in bundle.manifest.tuned_layers}


@pytest.mark.parametrize("method", [NUDGED, "encoder"])
def test_any_method_is_compared(method: str, tiny_bundle: Path, tmp_path: Path) -> None:
    """Also one with graphs that this code has never heard of, and one that does not iterate."""
    bundle = Bundle.open(add_method(tiny_bundle, tmp_path / "bundle"))
    ours = open_contender("cpu", bundle)
    pictures = [sample_picture(bundle, 0)]
    comparison = compare(ours, ours, bundle, pictures, None, quietly, method=method)
    assert not comparison.outside()
    stages = {(d.stage, d.tensor) for d in comparison.differences}
    if method == NUDGED:
        assert {("look", "colours"), ("nudge", "latents_next")} <= stages
        assert (f"after {STEPS}", "latents") in stages
    else:
        assert {("inversion", "latents"), ("inversion", "rendering")} <= stages
        assert not any(stage.startswith("after") for stage, _ in stages)


class Changed(OnnxRuntimeBackend):
    """A backend with one fault."""

    def run(self, role: str, inputs: Any) -> Any:
        outputs = super().run(role, inputs)
        if role == "weights":  # two of one shape, bound by position instead of by name
            first, second = "weight.conv1", "weight.convs.0"
            outputs[first], outputs[second] = outputs[second], outputs[first]
        return outputs


def test_exchanged_outputs_are_named_where_they_arise(tiny_bundle: Path) -> None:
    """The generator is fed the reference's kernels: it is not blamed for those of the weights."""
    bundle = Bundle.open(tiny_bundle)
    reference = open_contender("cpu", bundle)
    exchanged = Contender("exchanged", Changed("cpu", bundle, 1))
    pictures = [sample_picture(bundle, 0)]
    comparison = compare(reference, exchanged, bundle, pictures, 1, quietly)
    outside = [(d.stage, d.tensor) for d in comparison.outside()]
    graphs = {(stage, tensor) for stage, tensor in outside if not stage.startswith("after")}
    assert graphs == {("weights", "weight.conv1"), ("weights", "weight.convs.0")}
    assert ("after 1", "rendering") in outside


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_plans_and_precisions_are_compared(
    precision: str, planned: Path, cuda: StandInCuda
) -> None:
    """The whole inversion of TensorRT is the one that is recorded."""
    bundle = Bundle.open(planned)
    name = "tensorrt" if precision == "fp32" else "tensorrt-fp16"
    reference, candidate = open_contender("cpu", bundle), open_contender(name, bundle)
    comparison = compare(reference, candidate, bundle, [sample_picture(bundle, 0)], 2, quietly)
    assert not comparison.outside()
    assert "launch" in cuda.calls
    assert {d.tensor for d in comparison.differences if d.stage == "weights"}
    assert (max(d.relative for d in comparison.differences) > 1e-5) == (precision == "fp16")


def test_everything_that_can_be_opened_can_be_compared() -> None:
    assert {entry.name for entry in BACKENDS} <= CONTENDERS.keys()
    for precision in ("fp16", "bf16"):
        names = {f"{entry.name}-{precision}" for entry in BACKENDS if precision in entry.precisions}
        assert names
        assert names <= CONTENDERS.keys()
    assert "openvino-fp16" not in CONTENDERS


def test_what_is_at_hand_is_what_can_be_opened(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert contenders_at_hand(Bundle.open(tiny_bundle)) == ["cpu"]


class Named(OnnxRuntimeBackend):
    """A backend that says of itself that it computes in bf16."""

    precision = "bf16"


def test_the_bounds_are_those_of_the_coarsest_precision(tiny_bundle: Path) -> None:
    """Also where the graphs are the fp32 ones."""
    bundle = Bundle.open(tiny_bundle)
    exact, coarse = open_contender("cpu", bundle), Contender("bf16", Named("cpu", bundle, 1))
    assert _coarsest(exact, exact, bundle) == "fp32"
    assert _coarsest(exact, coarse, bundle) == "bf16"
    for kind in ("graph", "inversion"):
        relative = [BOUNDS[precision, kind].relative for precision in ("fp32", "fp16", "bf16")]
        assert relative == sorted(relative)


def test_unknown_contenders_and_missing_precisions_are_named(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    with pytest.raises(BackendError, match="there is no 'gpu' to compare; choose among cpu, "):
        open_contender("gpu", bundle)
    with pytest.raises(BundleError, match="has no fp16 graphs, only fp32"):
        open_contender("cpu-fp16", bundle)


# ------------------------------------------------------------------------------- command line


def check(bundle: Path, *options: str) -> tuple[int, str, str]:
    runner = CliRunner()
    result = runner.invoke(app, ["check", "--bundle", str(bundle), *options])
    return result.exit_code, result.stdout, result.stderr


def test_check_prints_a_table_and_exits_with_0(tiny_bundle: Path) -> None:
    code, out, err = check(tiny_bundle, "--candidate", "cpu", "--iterations", "2")
    assert code == 0, err
    assert "cpu against cpu" in out
    assert "weight.convs.3" in out
    assert "after 2" in out


def test_check_prints_json(tiny_bundle: Path) -> None:
    code, out, _ = check(tiny_bundle, "--candidate", "cpu", "--json")
    assert code == 0
    assert json.loads(out)["ok"] is True


def test_the_device_is_the_candidates(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a backend is compared with itself on another device."""
    devices = []

    def open_on(name: str, bundle: Bundle, device: int | None = None) -> Contender:
        devices.append(device)
        return open_contender(name, bundle)

    monkeypatch.setattr("hyperstyle_rt.checking.comparison.open_contender", open_on)
    options = ("--reference", "cpu", "--candidate", "cpu", "--device", "1", "-n", "1")
    assert check(tiny_bundle, *options)[0] == 0
    assert devices == [None, 1]


def test_check_takes_a_method(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = add_method(tiny_bundle, tmp_path / "bundle")
    code, out, err = check(bundle, "--candidate", "cpu", "--method", NUDGED)
    assert code == 0, err
    assert "colours" in out
    code, out, err = check(bundle, "--candidate", "cpu", "--method", "pivot")
    assert (code, out) == (2, "")
    assert "pivot" in err
    assert err.count("\n") == 1


def test_the_help_names_the_backends_of_the_registry() -> None:
    wide = {"COLUMNS": "100"}  # a narrow terminal breaks names within a panel
    out = " ".join(CliRunner().invoke(app, ["check", "--help"], env=wide).stdout.split())
    for entry in BACKENDS:
        assert entry.name in out


def test_check_of_what_is_not_there_is_one_sentence(tiny_bundle: Path) -> None:
    code, out, err = check(tiny_bundle, "--candidate", "cpu-fp16")
    assert (code, out) == (2, "")
    assert err.startswith("error: bundle ")
    assert err.count("\n") == 1
