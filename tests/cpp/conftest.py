"""Fixtures: the built library, and bundles opened by it and by the Python runtime."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import capi
import make_bundle
import models
import onnxruntime
import pytest
from hyperstyle_export.bundles.writer import (
    BundleFacts,
    write_bundle,
    write_manifest,
)
from hyperstyle_rt import Model
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.manifest_entries import BaseBundle


@pytest.fixture(scope="session", autouse=True)
def library() -> ctypes.CDLL:
    path = capi.library_path()
    if path is None:
        pytest.skip("the C library is not built: run tests/cpp/run.sh")
    return capi.load_library(path)


@pytest.fixture(scope="session")
def rich_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("rich")
    make_bundle.write_rich(directory)
    return directory


@pytest.fixture(scope="session")
def official_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("official")
    make_bundle.write_official(directory)
    return directory


@pytest.fixture(scope="session")
def portraits_bundle() -> Path:
    return capi.REPOSITORY / "engines" / "portraits"


BUNDLES = [
    ("tiny", "fp32"),
    ("rich", "fp32"),
    ("rich", "fp16"),
    ("portraits", "fp32"),
    pytest.param(("official", "fp32"), marks=pytest.mark.slow),
]


@pytest.fixture(scope="session", params=BUNDLES, ids="-".join)
def bundle(request: pytest.FixtureRequest) -> tuple[Path, str]:
    """A bundle's directory and the precision of its graphs to run."""
    name, precision = request.param
    return request.getfixturevalue(f"{name}_bundle"), precision


@pytest.fixture(scope="session")
def python(bundle: tuple[Path, str]) -> Model:
    directory, precision = bundle
    return Model.load(directory, "cpu", precision=precision)


@pytest.fixture(scope="session")
def c(library: ctypes.CDLL, bundle: tuple[Path, str]) -> capi.CModel:
    return capi.CModel(library, *bundle)


@pytest.fixture(scope="session")
def same_runtime(library: ctypes.CDLL) -> None:
    if not capi.runtimes_agree(library):
        pytest.skip(f"C has another ONNX Runtime than Python's {onnxruntime.__version__}")


@pytest.fixture(scope="session")
def base_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 128 px, with layers below and above the first that an adapted bundle keeps."""
    tuned = replace(models.TINY.hypernetwork, tuned_layers=(5, 14, 15), shared_layers=())
    generator = replace(models.TINY.generator, channels=(16, 16, 12, 8, 8, 8))
    config = replace(models.TINY, generator=generator, hypernetwork=tuned)
    directory = tmp_path_factory.mktemp("base")
    facts = BundleFacts("base")
    write_bundle(models.build_model(config), directory, facts, "fp32", lambda _step: None)
    return directory


@pytest.fixture(scope="session")
def adapted_bundle(base_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as if it were fine-tuned from the base."""
    base = Bundle.open(base_bundle)
    manifest = replace(
        base.manifest,
        name="adapted",
        space="0" * 64,  # it would be another generator
        methods={},
        default_method=None,
        base=BaseBundle("base", base.manifest.space),
    )
    directory = tmp_path_factory.mktemp("adapted")
    for name in base.manifest.files:
        (directory / name).write_bytes((base_bundle / name).read_bytes())
    write_manifest(directory, manifest)
    return directory
