"""The comparison of encoders: both contenders do the same work, and the table tells it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from benchmarking.encoders import (
    as_table,
    runtime_encoder,
    torch_encoder,
    torch_idinvert,
)
from benchmarking.inversion import Unavailable
from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
from hyperstyle_export.networks.encoder_method import EncoderMethod
from hyperstyle_export.networks.hyperstyle import HyperStyle
from hyperstyle_export.readers.encoders import EncoderSource
from hyperstyle_export.readers.family import Sources, load_family
from models import tiny_encoder
from rich.console import Console
from synthetic.idinvert import write_files


@pytest.fixture(autouse=True)
def _settings_of_torch() -> Iterator[None]:
    threads, has_gradients = torch.get_num_threads(), torch.is_grad_enabled()
    yield
    torch.set_num_threads(threads)
    torch.set_grad_enabled(has_gradients)


def test_both_contenders_invert(tmp_path: Path) -> None:
    """Five encoders and five renderings each: the average's is made before."""
    file = tiny_encoder(tmp_path / "restyle.pt", "ProgressiveBackboneEncoder")
    family = load_family(Sources(encoders=(EncoderSource(file),)))
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    facts = BundleFacts("benchmark")
    write_bundle(family.model, bundle, facts, "fp32", lambda _step: None, encoders=family.encoders)
    assert runtime_encoder(bundle)()["cpu"] > 0
    run = torch_encoder(file)
    with (
        mock.patch.object(HyperStyle, "generate", autospec=True) as generate,
        mock.patch.object(EncoderMethod, "refine", autospec=True) as refine,
    ):
        generate.return_value = None, torch.zeros(1, 3, 64, 64)
        assert run()["cpu"] > 0
    assert (generate.call_count, refine.call_count) == (5, 5)


def test_idinvert_has_a_reference_of_its_own(tmp_path: Path) -> None:
    assert torch_idinvert(write_files(tmp_path))()["cpu"] > 0


def contender(cpu: float, seconds: float, peak: float, ratios: tuple[float, ...]) -> dict[str, Any]:
    """One contender's figures; ratios of CPU time, time and memory."""
    return {
        "cpu_seconds": cpu,
        "seconds": seconds,
        "peak_bytes": peak,
        "times_as_fast": {"cpu": ratios[0], "inversion": ratios[1]},
        "memory_ratio": ratios[2],
    }


def test_a_backend_that_is_not_there_is_named(tiny_bundle: Path) -> None:
    with pytest.raises(Unavailable, match="there is no 'openwine'"):
        runtime_encoder(tiny_bundle, backend="openwine")


def test_the_table_tells_the_ratios() -> None:
    figures = {
        "method": "restyle-e4e",
        "body": "ir_se",
        "size": 256,
        "threads": 2,
        "contenders": {
            "torch": contender(3.0, 1.8, 4e9, (1.0, 1.0, 1.0)),
            "openvino": contender(1.5, 0.8, 1e9, (2.0, 2.25, 0.25)),
        },
    }
    console = Console(width=80)
    with console.capture() as shown:
        console.print(as_table(figures))
    for words in (
        "restyle-e4e (ir_se), 256 px, 2 threads",
        "1.50 (2.00 x)",
        "0.80 (2.25 x)",
        "1.00 (0.25)",
    ):
        assert words in shown.get()
