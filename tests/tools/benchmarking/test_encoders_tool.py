"""The comparison of encoders: both contenders do the same work, and the table tells it."""

from __future__ import annotations

from pathlib import Path

import torch
from benchmarking.encoders import as_table, runtime_encoder, torch_encoder
from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
from hyperstyle_export.readers.encoders import EncoderSource
from hyperstyle_export.readers.family import Sources, load_family
from models import tiny_encoder
from rich.console import Console


def test_both_contenders_invert(tmp_path: Path) -> None:
    file = tiny_encoder(tmp_path / "restyle.pt", "ProgressiveBackboneEncoder")
    family = load_family(Sources(encoders=(EncoderSource(file),)))
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    facts = BundleFacts("benchmark")
    write_bundle(family.model, bundle, facts, "fp32", lambda _step: None, encoders=family.encoders)
    threads, has_gradients = torch.get_num_threads(), torch.is_grad_enabled()
    try:
        for contender in (torch_encoder(file), runtime_encoder(bundle)):
            assert contender()["cpu"] > 0
    finally:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(has_gradients)


def test_the_table_tells_the_ratios() -> None:
    figures = {
        "method": "restyle-e4e",
        "size": 256,
        "cpu_seconds": {"torch": 3.0, "runtime": 1.5},
        "peak_bytes": {"torch": 4e9, "runtime": 1e9},
        "times_as_fast": 2.0,
        "memory_ratio": 0.25,
    }
    console = Console(width=80)
    with console.capture() as shown:
        console.print(as_table(figures))
    assert "restyle-e4e, 256 px" in shown.get()
    assert "2.00 x" in shown.get()
    assert "0.25" in shown.get()
