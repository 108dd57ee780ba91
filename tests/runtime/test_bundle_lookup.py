"""Which bundle a user means: a directory, a name, or the embedded default."""

import subprocess
import sys
from pathlib import Path

import pytest
from attacks import manifests, refusal
from hyperstyle_rt.errors import BundleError
from hyperstyle_rt.formats import bundle_lookup
from hyperstyle_rt.formats.bundle_lookup import default_bundle, find_bundle

PACKAGE = Path(bundle_lookup.__file__).parents[1]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """An empty working directory, and a repository with the package in it but no bundles yet."""
    package = tmp_path / "repository" / "runtime" / "hyperstyle_rt"
    package.mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(bundle_lookup, "_PACKAGE", package)
    return package


def test_default_is_the_packaged_bundle_before_the_repository_one(checkout):
    assert "embedded bundle is missing" in refusal(BundleError, default_bundle)
    in_repository = manifests.write_bundle(checkout.parents[1] / "engines" / "faces")
    assert find_bundle(None) == default_bundle() == in_repository
    packaged = manifests.write_bundle(checkout / "engines" / "faces")
    assert find_bundle(None) == default_bundle() == packaged


def test_name_is_looked_up_here_and_in_the_embedded_engines(checkout):
    embedded = manifests.write_bundle(checkout / "engines" / "cars")
    assert find_bundle("cars") == embedded
    manifests.write_bundle(Path("engines/cars"))
    assert find_bundle("cars") == Path("engines/cars")


def test_directory_is_taken_as_it_is(checkout, tmp_path):
    (tmp_path / "unfinished").mkdir()
    assert find_bundle(tmp_path / "unfinished") == tmp_path / "unfinished"
    written = manifests.write_bundle(tmp_path / "elsewhere")
    assert find_bundle(str(written)) == written


def test_folder_of_pictures_does_not_hide_the_bundle_of_its_name(checkout):
    embedded = manifests.write_bundle(checkout / "engines" / "portraits")
    Path("portraits").mkdir()
    assert find_bundle("portraits") == embedded


@pytest.mark.parametrize("name", ["faces", "a/cars", "../engines/x", "long" * 70, "nul\0"])
def test_unknown_name_lists_the_names_there_are(name, checkout):
    assert "found here: none" in refusal(BundleError, find_bundle, name)
    manifests.write_bundle(checkout / "engines" / "portraits")
    manifests.write_bundle(Path("engines/cars"))
    (Path("engines") / "notes").mkdir()
    assert "found here: cars, portraits" in refusal(BundleError, find_bundle, name)


def test_looking_a_bundle_up_imports_nothing_heavy():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import hyperstyle_rt.formats.bundle; "
        "print({'numpy', 'safetensors', 'cv2', 'onnxruntime', 'jsonschema'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program, str(PACKAGE.parent)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"
