"""A bundle of the official layout with synthetic weights, to measure the cost of a size."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

from hyperstyle_rt.errors import HyperStyleError


def write_synthetic(size: int, directory: Path) -> Path:
    """A bundle of the official layout in a process of its own: memory is what is measured.

    Raises
    ------
    HyperStyleError
        If that process fails.
    """
    bundle = directory / "synthetic"
    bundle.mkdir()
    process = multiprocessing.get_context("spawn").Process(target=_write, args=(size, bundle))
    process.start()
    process.join()
    if process.exitcode:
        raise HyperStyleError(f"the synthetic bundle of {size} px could not be written")
    return bundle


def _write(size: int, bundle: Path) -> None:
    import torch
    from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
    from hyperstyle_export.networks.hyperstyle import HyperStyle as Networks
    from synthetic import latent_average, official_config, synthetic_state

    config = official_config(size)
    with torch.device("meta"):
        model = Networks(config)
    state = synthetic_state(config) | {"latent_avg": latent_average(config)}
    model.load_state_dict(state, assign=True)
    model.eval().requires_grad_(False)
    write_bundle(model, bundle, BundleFacts("synthetic"), "fp32", lambda _step: None)
