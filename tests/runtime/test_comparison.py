"""What counts as the same computation, measured tensor by tensor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hyperstyle_rt.checking.comparison import (
    BOUNDS,
    BackendContender,
    Comparison,
    Difference,
    _difference,
    compare,
    open_contender,
    sample_picture,
)
from hyperstyle_rt.cli.app import app
from hyperstyle_rt.errors import BackendError, BundleError
from hyperstyle_rt.formats.bundle import Bundle
from typer.testing import CliRunner

BOUND = BOUNDS["fp32", "graph"]
REFERENCE = np.array([1.0, -2.0, 4.0, 0.0], np.float32)


def difference(actual: np.ndarray, tensor: str = "codes") -> Difference:
    return _difference("hypernet", tensor, 0, REFERENCE, actual.astype(np.float32), BOUND)


def test_figures_are_the_textbooks() -> None:
    found = difference(REFERENCE + np.float32([0, 0.5, 0, 0]))
    assert (found.max_abs, found.mean_abs, found.relative) == (0.5, 0.125, 0.125)
    assert found.psnr == pytest.approx(10 * np.log10(6**2 / 0.0625))
    assert found.cosine == pytest.approx((1 + 3 + 16) / np.sqrt(21 * (1 + 2.25 + 16)))
    assert not found.within


def test_pictures_have_a_peak_of_two() -> None:
    error = np.float32([0, 0.5, 0, 0])
    assert difference(REFERENCE + error, "image").psnr == pytest.approx(10 * np.log10(4 / 0.0625))


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


def test_a_bundle_agrees_with_itself(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    ours = open_contender("cpu", bundle)
    pictures = [sample_picture(bundle, seed) for seed in (0, 1)]
    assert pictures[0].shape == (64, 64, 3)
    assert not np.array_equal(*pictures)
    comparison = compare(ours, ours, bundle.manifest, pictures, 3, lambda _step: None)
    assert not comparison.outside()
    stages = [d.stage for d in comparison.differences if d.picture == 1]
    graphs = ["encoder", "hypernet", *["weights"] * 7, *["generator"] * 2]
    assert stages == [*graphs, *["after 1"] * 3, *["after 3"] * 3]
    tensors = {d.tensor for d in comparison.differences if d.stage == "weights"}
    assert tensors == {f"weight.{layer.name}" for layer in bundle.manifest.tuned_layers}


def test_exchanged_outputs_are_named(tiny_bundle: Path) -> None:
    """Two weights of one shape under each other's names, as outputs bound by position would be."""
    bundle = Bundle.open(tiny_bundle)
    reference = open_contender("cpu", bundle)

    class Exchanged(BackendContender):
        def weights(self, codes: np.ndarray) -> dict[str, np.ndarray]:
            made = super().weights(codes)
            made["weight.conv1"], made["weight.convs.0"] = (
                made["weight.convs.0"],
                made["weight.conv1"],
            )
            return made

    exchanged = Exchanged("exchanged", reference._backend)
    pictures = [sample_picture(bundle, 0)]
    comparison = compare(reference, exchanged, bundle.manifest, pictures, 1, lambda _step: None)
    assert {d.tensor for d in comparison.outside()} == {"weight.conv1", "weight.convs.0"}


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


def test_check_of_what_is_not_there_is_one_sentence(tiny_bundle: Path) -> None:
    code, out, err = check(tiny_bundle, "--candidate", "cpu-fp16")
    assert (code, out) == (2, "")
    assert err.startswith("error: bundle ")
    assert err.count("\n") == 1
