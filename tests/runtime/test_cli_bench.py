"""``hyperstyle-rt bench``, and what it measures with."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import refuse, run, succeed
from hyperstyle_rt.backends.ort_library import load_onnxruntime
from hyperstyle_rt.checking import peak
from hyperstyle_rt.checking.comparison import Contender, open_contender, sample_picture
from hyperstyle_rt.checking.timing import (
    TimedBackend,
    Timing,
    Timings,
    peak_memory,
    time_contenders,
)
from hyperstyle_rt.cli.bench import timings_table
from hyperstyle_rt.errors import BackendError, HyperStyleError
from hyperstyle_rt.formats.bundle import Bundle


def bench(bundle: Path, *options: object) -> dict[str, Any]:
    text = succeed("bench", "--bundle", bundle, "--quiet", "--json", *options)
    document: dict[str, Any] = json.loads(text)
    return document


def test_everything_is_timed_and_the_first_time_is_told_apart(tiny_bundle: Path) -> None:
    document = bench(tiny_bundle, "--rounds", 3, "--edits", 2, "--threads", 1)
    (result,) = document["results"]
    assert (result["contender"], result["precision"]) == ("cpu", "fp32")
    assert "CPUExecutionProvider" in result["provider"]
    assert list(result["tasks"]) == ["opening", "inversion", "2 edits", "refinement step"]
    for name, timing in result["tasks"].items():
        rounds = 0 if name == "opening" else 3
        assert len(timing["warm"]) == rounds
        assert timing["median"] == (float(np.median(timing["warm"])) if rounds else None)
        assert timing["first"] > 0
    assert {"encoder", "hypernet", "weights", "generator"} <= result["graphs"].keys()
    assert {"objective", "features"} <= result["graphs"].keys()
    assert (document["threads"], document["rounds"]) == (1, 3)
    assert document["peak_memory"] > 1 << 20


def test_graphs_are_told_with_what_they_cost(tiny_bundle: Path) -> None:
    document = bench(tiny_bundle, "--rounds", 2, "--threads", 1)
    graphs = document["results"][0]["graphs"]
    manifest = Bundle.open(tiny_bundle).manifest
    for role, timing in graphs.items():
        assert timing["macs"] == manifest.graphs[role].macs
        assert timing["macs_per_second"] == pytest.approx(timing["macs"] / timing["median"])
        assert timing["bytes_moved"] == manifest.graphs[role].bytes_moved
        if timing["bytes_moved"]:
            assert timing["macs_per_byte"] == timing["macs"] / timing["bytes_moved"]
    assert graphs["generator"]["macs"] > graphs["generator"]["bytes_moved"] > 0
    assert document["matrix_product_macs_per_second"] > 0
    shown = succeed("bench", "--bundle", tiny_bundle, "--rounds", 1, "--threads", 1)
    assert "GMAC/s" in shown
    assert "MAC/B" in shown
    assert "of peak" in shown


def test_without_counts_there_are_no_columns_for_them() -> None:
    timings = Timings("a", {"provider": "b", "precision": "fp32"}, {}, {"encoder": Timing(1.0)})
    assert timings.rate("encoder") is None
    table = timings_table(timings, 1, 1e9)
    assert table.names == ("", "first", "median", "runs")
    assert {len(row) for row in table.rows} == {4}


def test_a_product_of_matrices_is_what_it_says() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)[:, :2]
    (y,) = load_onnxruntime().InferenceSession(peak.PRODUCT).run(None, {"x": x})
    np.testing.assert_array_equal(y, x @ x)
    assert peak.product_rate(1, 64) > 0


def test_all_are_those_that_this_machine_has(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    results = bench(tiny_bundle, "--rounds", 1, "--edits", 1, "--backend", "all")["results"]
    assert [result["contender"] for result in results] == ["cpu"]
    sentence = refuse("bench", "--bundle", tiny_bundle, "--backend", "cpu", "--device", 1)
    assert "has no devices to choose from" in sentence


def test_graphs_are_timed_as_often_as_the_method_runs_them(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    iterations = bundle.manifest.method(None).iterations
    (result,) = bench(tiny_bundle, "--rounds", 2)["results"]
    assert len(result["graphs"]["encoder"]["warm"]) + 1 == 3
    assert len(result["graphs"]["hypernet"]["warm"]) + 1 == 3 * iterations


def test_contenders_take_turns_and_are_closed(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    said: list[str] = []
    opened: list[Contender] = []

    def open_one(name: str) -> Contender:
        opened.append(open_contender("cpu", bundle, 1))
        return opened[-1]

    openers = {name: partial(open_one, name) for name in ("a", "b")}
    picture = sample_picture(bundle, 0)
    timings = time_contenders(openers, bundle, picture, 2, 1, said.append)
    assert [timing.contender for timing in timings] == ["a", "b"]
    assert said[:2] == ["opening a", "opening b"]
    assert said[2:] == [f"round {n} of 2: {name}" for n in range(3) for name in "ab"]
    for contender in opened:
        with pytest.raises(BackendError, match="closed"):
            contender.backend.signature("encoder")


def test_a_contender_that_cannot_be_opened_closes_the_others(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    opened: list[Contender] = []

    def open_first() -> Contender:
        opened.append(open_contender("cpu", bundle, 1))
        return opened[-1]

    openers: dict[str, Callable[[], Contender]] = {}
    openers |= {"cpu": open_first, "gpu": partial(open_contender, "gpu", bundle)}
    with pytest.raises(BackendError, match="there is no 'gpu'"):
        time_contenders(openers, bundle, sample_picture(bundle, 0), 1, 1, lambda _step: None)
    with pytest.raises(BackendError, match="closed"):
        opened[0].backend.signature("encoder")


def test_a_timed_backend_waits_for_its_results(tiny_bundle: Path) -> None:
    """As a GPU only queues work when a graph is run."""
    backend = open_contender("cpu", Bundle.open(tiny_bundle), 1).backend
    events: list[str] = []

    class Queueing(TimedBackend):
        def share(self, buffer: Any) -> Any:
            events.append("waited")
            return super().share(buffer)

    queueing = Queueing(backend, lambda _role, _seconds: None)
    timed = TimedBackend(queueing, lambda role, _seconds: events.append(role))
    shape = [length or 1 for length in timed.signature("encoder").inputs["target"].shape]
    outputs = timed.run("encoder", {"target": timed.upload(np.zeros(shape, np.float32))})
    assert events == ["waited"] * len(outputs) + ["encoder"]
    backend.close()


def test_the_table_names_what_computed(tiny_bundle: Path) -> None:
    text = succeed("bench", "--bundle", tiny_bundle, "--rounds", 1)
    assert "cpu: ONNX Runtime" in text
    for part in ("inversion", "8 edits", "refinement step", "graph generator", "peak memory"):
        assert part in text
    assert succeed("bench", "--bundle", tiny_bundle, "--rounds", 1, "--quiet") == ""


def test_mistakes_are_one_sentence(tiny_bundle: Path) -> None:
    assert "no backend is named" in refuse("bench", "--backend", " , ", "--quiet")
    options = ("--bundle", tiny_bundle, "--quiet")
    assert "there is no 'gpu' to compare" in refuse("bench", "--backend", "cpu,gpu", *options)
    assert "restyle" in refuse("bench", "--method", "restyle", *options)
    assert run("bench", "--rounds", 0).exit_code == 2
    bundle = Bundle.open(tiny_bundle)
    with pytest.raises(HyperStyleError, match="must be at least 1, not 0 and 1"):
        time_contenders({}, bundle, sample_picture(bundle, 0), 0, 1, lambda _step: None)


def test_the_peak_only_grows() -> None:
    before = peak_memory()
    if before is None:
        pytest.skip("this system does not tell")
    block = np.ones(8 << 20)  # 64 MB, written to
    after = peak_memory()
    assert after is not None
    assert after >= before
    assert after >= block.nbytes
