"""A bundle with plans, and a machine with a GPU, as far as the native backend can tell."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from hyperstyle_rt.backends.cuda.driver import Gpu
from hyperstyle_rt.backends.plans import build as plan_build
from hyperstyle_rt.formats.bundle import Bundle
from stand_ins import StandInCuda, StandInTensorrt, add_plans


@pytest.fixture(scope="session")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with plans for the stand-in of TensorRT, in both precisions."""
    pytest.importorskip("torch")
    from hyperstyle_export.bundles.half_graphs import add_half_graphs
    from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
    from models import TINY, build_model

    path = tmp_path_factory.mktemp("plans")
    model = build_model(TINY)
    bundle = write_bundle(model, path, BundleFacts("plans"), "fp32", lambda _step: None)
    bundle = add_half_graphs(model, bundle, lambda _step: None)
    return add_plans(bundle.directory, ("fp32", "fp16"))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandInCuda:
    """A machine with an L4, TensorRT and an empty cache of plans."""
    stand_in = StandInCuda()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", stand_in)
    monkeypatch.setitem(sys.modules, "tensorrt", StandInTensorrt(stand_in))
    monkeypatch.setattr(plan_build, "find_gpu", lambda: Gpu("NVIDIA L4", 89))
    monkeypatch.setenv("HYPERSTYLE_RT_PLANS", str(tmp_path / "cached plans"))
    return stand_in


@pytest.fixture(scope="session")
def edit_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with directions of all kinds."""
    from directions.files import add_to_bundle
    from test_directions import DIRECTIONS

    path = tmp_path_factory.mktemp("edit") / "tiny"
    shutil.copytree(tiny_bundle, path)
    add_to_bundle(Bundle.open(path), DIRECTIONS)
    return path


@pytest.fixture(scope="session")
def family_bundle(
    tiny_checkpoints: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """HyperStyle, pSp, e4e and ReStyle-e4e of the tiny generator, with directions."""
    from directions.files import add_to_bundle
    from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
    from hyperstyle_export.readers.encoders import EncoderSource
    from hyperstyle_export.readers.family import Sources, load_family
    from models import tiny_encoder
    from test_directions import DIRECTIONS

    folder = tmp_path_factory.mktemp("family")
    kinds = ("GradualStyleEncoder", "Encoder4Editing", "ProgressiveBackboneEncoder")
    files = [tiny_encoder(folder / f"{kind}.pt", kind) for kind in kinds]
    encoders = tuple(EncoderSource(file) for file in files)
    family = load_family(Sources(tiny_checkpoints, encoders))
    directory = folder / "family"
    directory.mkdir()
    facts = BundleFacts("family", "noise", "MIT")
    bundle = write_bundle(
        family.model, directory, facts, "fp32", lambda _step: None, encoders=family.encoders
    )
    add_to_bundle(bundle, DIRECTIONS)
    return directory
