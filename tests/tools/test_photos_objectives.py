"""Descent graphs of a bundle of photographs, written anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from hyperstyle_export.bundles.mobile_writer import descent_graphs, write_mobile_bundle
from hyperstyle_export.bundles.staging import BuildError
from hyperstyle_export.bundles.writer import BundleFacts, write_manifest
from hyperstyle_export.networks.lpips import Lpips
from hyperstyle_export.networks.mobile_model import MobileModel
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.manifest import Manifest
from mobile_models import tiny_mobile_model
from photos.errors import PhotosError
from photos.objectives import rewrite_objectives

GENERAL = ("parametric_generator", "parameters")


@pytest.fixture(scope="module")
def model() -> MobileModel:
    return tiny_mobile_model()


@pytest.fixture(scope="module")
def bundle(model: MobileModel, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    directory = tmp_path_factory.mktemp("engines") / "tiny"
    directory.mkdir()
    return write_mobile_bundle(model, directory, BundleFacts("tiny"), "fp16", lambda _role: None)


@pytest.fixture
def rewrite(model: MobileModel, tmp_path: Path) -> Callable[[Bundle], Bundle]:
    lpips = model.lpips
    assert isinstance(lpips, Lpips)
    out = tmp_path / "written"
    return lambda given: rewrite_objectives(given, model.generator, lpips, out, lambda _role: None)


def without(bundle: Bundle, folder: Path, *roles: str) -> Bundle:
    """The bundle as a version wrote it that had no graphs of these roles."""
    manifest: Manifest = bundle.manifest
    folder.mkdir()
    dropped = {manifest.graphs[role].file for role in roles}
    kept = {name: file for name, file in manifest.files.items() if name not in dropped}
    for name in kept:
        (folder / name).write_bytes((bundle.directory / name).read_bytes())
    graphs = {role: graph for role, graph in manifest.graphs.items() if role not in roles}
    older = dataclasses.replace(manifest, graphs=graphs, files=kept, parametric_inputs=None)
    write_manifest(folder, older)
    return Bundle.open(folder)


def test_an_older_bundle_becomes_todays(
    model: MobileModel, bundle: Bundle, rewrite: Callable[[Bundle], Bundle], tmp_path: Path
) -> None:
    """Its files are those of a new one, though the head of its draft was read off a graph."""
    missing = ("synthesis_objective", "latents_objective", *GENERAL)
    written = rewrite(without(bundle, tmp_path / "older", *missing))
    assert written.manifest.files == bundle.manifest.files
    assert written.manifest.graphs == bundle.manifest.graphs
    assert written.manifest.parametric_inputs == bundle.manifest.parametric_inputs
    for role in descent_graphs(model):
        written.verified_path(role)


def test_what_cannot_be_written_anew_is_refused(
    bundle: Bundle, rewrite: Callable[[Bundle], Bundle], tmp_path: Path
) -> None:
    with pytest.raises(BuildError, match="has no draft; build it with one"):
        rewrite(without(bundle, tmp_path / "plain", "draft_objective", *GENERAL))
    assert not (tmp_path / "written").exists()
    (tmp_path / "written").mkdir()
    with pytest.raises(PhotosError, match="exists; name another folder"):
        rewrite(bundle)
    assert list((tmp_path / "written").iterdir()) == []
