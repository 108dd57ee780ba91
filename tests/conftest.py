"""Fixtures: golden data, and a small model of the official layout with synthetic weights."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Generator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores; read when torch is imported
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")

import numpy as np
import pytest

# What is imported and collected lives as long as the run. To look through it for garbage, again and
# again, would take a third of the time of collecting, and a fifth of a second of many a test.
gc.disable()

GOLDEN = Path(__file__).parent / "golden"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect garbage from here on, of what the tests make."""
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


# What takes longest begins first: whole files go to a process, and one that begins last leaves the
# other processes idle. (pytest itself collects in the order of names, whatever the command names.)
LONGEST = (
    "tests/export/test_golden.py",
    "tests/export/test_golden_optimisation.py",
    "tests/test_wheel.py",
    "tests/test_readme.py",
    "tests/tools/test_portrait_sets.py",
    "tests/tools/test_training.py",
    "tests/export/test_build_engines.py",
    "tests/runtime/test_openvino_backend.py",
    "tests/runtime/test_cli_output.py",
    "tests/export/test_checkpoints.py",
    "tests/export/test_checkpoint_refusals.py",
    "tests/export/test_adapted.py",
    "tests/export/test_half.py",
    "tests/runtime/test_faces.py",
    "tests/export/test_encoder_methods.py",
    "tests/export/test_objectives.py",
    "tests/runtime/test_stopping.py",
    "tests/tools/benchmarking/test_gpu_report.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and leave the tests of a file together."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def tiny_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A HyperStyle and a W-encoder file of the tiny model."""
    pytest.importorskip("torch")
    from models import TINY, TINY_OPTS
    from synthetic import write_checkpoints

    return write_checkpoints(TINY, tmp_path_factory.mktemp("tiny_checkpoints"), TINY_OPTS)


@pytest.fixture(scope="session")
def tiny_bundle(
    tiny_checkpoints: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny model as a bundle, by the exporter's own code path."""
    from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
    from hyperstyle_export.readers.official import load_model

    directory = tmp_path_factory.mktemp("engines") / "tiny"
    directory.mkdir()
    model = load_model(*tiny_checkpoints)
    facts = BundleFacts("tiny", "noise", "MIT", {"checkpoint": "synthetic"}, {"steps": 0})
    write_bundle(model, directory, facts, "fp32", lambda _step: None)
    return directory


@pytest.fixture(scope="session")
def tiny_half_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with graphs in fp16 added; to be copied by whoever changes it."""
    from hyperstyle_export.bundles.half_graphs import add_half_graphs
    from hyperstyle_rt.formats.bundle import Bundle
    from models import TINY, build_model

    directory = tmp_path_factory.mktemp("half") / "tiny"
    shutil.copytree(tiny_bundle, directory)
    add_half_graphs(build_model(TINY), Bundle.open(directory), lambda _step: None)
    return directory


@pytest.fixture(scope="session")
def tiny_faces_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MobileStyleGAN of a few channels, with its draft; to be copied by whoever changes it."""
    pytest.importorskip("torch")
    from hyperstyle_export.bundles.mobile_writer import write_mobile_bundle
    from hyperstyle_export.bundles.writer import BundleFacts
    from mobile_models import tiny_mobile_model

    directory = tmp_path_factory.mktemp("faces") / "tinyfaces"
    directory.mkdir()
    facts = BundleFacts("tinyfaces", "noise", "Apache-2.0")
    write_mobile_bundle(tiny_mobile_model(), directory, facts, "fp32", lambda _step: None)
    return directory


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """uint8 [64,64,3]."""
    import fakeweights

    return fakeweights.image_u8(1, 64, 64)
