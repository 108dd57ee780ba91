"""The C library computes, reads and writes what the Python runtime does, to the last bit."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hyperstyle_rt import HyperStyle
from hyperstyle_rt.errors import BundleError, InversionError
from hyperstyle_rt.inversion import Inversion
from hyperstyle_rt.inversion_file import InversionData, write_inversion
from hyperstyle_rt.manifest import Manifest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "runtime")]

import capi  # noqa: E402
from attacks import inversions, manifests  # noqa: E402

pytestmark = pytest.mark.skipif(
    capi.library_path() is None, reason="the C library is not built: run tests/cpp/run.sh"
)

PORTRAITS = capi.REPOSITORY / "engines" / "portraits"

# Manifests that C refuses in words of its own.
C_WORDS = {"binary", "utf_16", "not_a_number", "infinity"}


@pytest.fixture(scope="session")
def library():
    return capi.load_library(capi.library_path())


@pytest.fixture(scope="session")
def full_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official layout at 256 px with synthetic weights: 1.5 GB, a minute."""
    from hyperstyle_export.bundle_writer import BundleFacts, write_bundle
    from hyperstyle_export.checkpoints import load_model
    from synthetic import official_config, write_checkpoints

    folder = tmp_path_factory.mktemp("official")
    model = load_model(*write_checkpoints(official_config(256), folder))
    for checkpoint in folder.glob("*.pt"):
        checkpoint.unlink()
    directory = folder / "official"
    directory.mkdir()
    write_bundle(model, directory, BundleFacts("official"), "fp32", lambda _step: None)
    return directory


@pytest.fixture(
    scope="session",
    params=["tiny", "portraits", pytest.param("official", marks=pytest.mark.slow)],
)
def bundle(request: pytest.FixtureRequest) -> Path:
    if request.param == "portraits":
        if not (PORTRAITS / "manifest.json").exists():
            pytest.skip("there is no embedded bundle")
        return PORTRAITS
    return request.getfixturevalue(
        {"tiny": "tiny_bundle", "official": "full_bundle"}[request.param]
    )


@pytest.fixture(scope="session")
def python(bundle: Path) -> HyperStyle:
    return HyperStyle.load(bundle, "cpu")


@pytest.fixture(scope="session")
def c(library, bundle: Path) -> capi.CModel:
    return capi.CModel(library, bundle)


def runtimes_agree(library) -> bool:
    return library.hsrt_onnxruntime_version().decode() == onnxruntime.__version__


@pytest.fixture(scope="session")
def same_runtime(library) -> None:
    if not runtimes_agree(library):
        pytest.skip(f"C has another ONNX Runtime than Python's {onnxruntime.__version__}")


def same_bytes(folder: Path) -> bool:
    """Whether both runtimes wrote the same file."""
    ours, theirs = folder / "c.safetensors", folder / "python.safetensors"
    return ours.read_bytes() == theirs.read_bytes()


def random_picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


# Smaller, larger, equal, odd, one pixel: every branch of the resize.
SIZES = [(64, 64), (32, 100), (301, 77), (256, 256), (513, 1), (1, 1)]


@pytest.mark.usefixtures("same_runtime")
@pytest.mark.parametrize("size", SIZES)
def test_inversion_is_bit_identical(python, c, size):
    if python.bundle.manifest.resolution > 64 and size not in SIZES[:3]:
        pytest.skip("the resize is the same for every bundle")
    picture = random_picture(*size)
    ours, theirs = c.invert(picture, iterations=2), python.invert(picture, iterations=2)
    np.testing.assert_array_equal(ours.latents, theirs.latents)
    np.testing.assert_array_equal(ours.codes, theirs.codes)
    np.testing.assert_array_equal(ours.image(capi.RGB_PLANES_F32), theirs.output)
    np.testing.assert_array_equal(ours.image(), theirs.image)
    np.testing.assert_array_equal(ours.image(capi.BGR8)[..., ::-1], theirs.image)


@pytest.mark.usefixtures("same_runtime")
def test_default_iterations_renders_and_edits_are_bit_identical(python, c):
    picture = random_picture(70, 90)
    ours, theirs = c.invert(picture), python.invert(picture)
    np.testing.assert_array_equal(ours.codes, theirs.codes)
    np.testing.assert_array_equal(c.render(ours)[0], python.render(theirs))
    generator = np.random.default_rng(1)
    batch = theirs.latents + generator.standard_normal((3, *theirs.latents.shape), np.float32)
    np.testing.assert_array_equal(c.render(ours, batch), python.render(theirs, batch))
    for direction in (batch[0], batch[0, 0]):
        edited = theirs.latents + np.float32(0.5) * direction
        np.testing.assert_array_equal(c.edit(ours, direction, 0.5), python.render(theirs, edited))


def test_files_are_exchanged_byte_for_byte(python, c, tmp_path):
    picture = random_picture(64, 64)
    ours, theirs = c.invert(picture, iterations=1), python.invert(picture, iterations=1)
    ours.save(tmp_path / "c.safetensors")
    theirs.save(tmp_path / "python.safetensors")
    if runtimes_agree(c.library):
        assert same_bytes(tmp_path)
    read_by_python = Inversion.load(tmp_path / "c.safetensors")
    read_by_c = c.load(tmp_path / "python.safetensors")
    np.testing.assert_array_equal(read_by_python.codes, ours.codes)
    np.testing.assert_array_equal(read_by_c.codes, theirs.codes)
    np.testing.assert_array_equal(read_by_c.latents, theirs.latents)
    np.testing.assert_array_equal(c.render(read_by_c)[0], python.render(theirs))


@pytest.mark.parametrize("rows_share_a_style", [True, False])
def test_file_comes_back_from_c_unchanged(python, c, tmp_path, rows_share_a_style):
    made = python.invert(random_picture(64, 64), iterations=1).data
    noise = np.random.default_rng(2).standard_normal(made.latents.shape, np.float32)
    average = python.bundle.latent_average()
    latents = noise[:1] + average if rows_share_a_style else noise
    transform = np.array([[0.5, 0, 10], [0, 0.5, 20], [0, 0, 1]], np.float32)
    write_inversion(
        tmp_path / "python.safetensors",
        replace(made, latents=latents, transform=transform),
        average,
    )
    loaded = c.load(tmp_path / "python.safetensors")
    np.testing.assert_array_equal(loaded.latents, latents)
    np.testing.assert_array_equal(loaded.transform, transform)
    loaded.save(tmp_path / "c.safetensors")
    assert same_bytes(tmp_path)


@pytest.mark.usefixtures("same_runtime")
def test_transparent_pictures_are_laid_over_white(c, python):
    rgba = np.random.default_rng(3).integers(0, 256, (40, 50, 4), np.uint8)
    colour, alpha = rgba[..., :3].astype(int), rgba[..., 3:].astype(int)
    flat = ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    ours, theirs = c.invert(rgba, capi.RGBA8, iterations=1), python.invert(flat, iterations=1)
    np.testing.assert_array_equal(ours.codes, theirs.codes)
    assert (ours.image(capi.RGBA8)[..., 3] == 255).all()


@pytest.mark.usefixtures("same_runtime")
def test_progress_reports_what_python_reports(c, python):
    shape = (3, c.info.image_height, c.info.image_width)
    codes_shape = (c.info.code_rows, c.info.code_width)
    seen, expected = [], []

    def note(_user, progress):
        image = np.ctypeslib.as_array(progress[0].image, shape).copy()
        codes = np.ctypeslib.as_array(progress[0].codes, codes_shape).copy()
        seen.append((progress[0].iteration, image, codes))
        return 0

    picture = random_picture(64, 64)
    c.invert(picture, iterations=2, progress=capi.OnProgress(note))
    python.invert(picture, 2, on_iteration=lambda *report: expected.append(report))
    assert len(seen) == len(expected) == 2
    for one, other in zip(seen, expected, strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[1], other[1])
        np.testing.assert_array_equal(one[2], other[2])


def test_until_stops_where_python_stops(c, python):
    picture = random_picture(64, 64)
    moved = []
    before = None

    def note(_iteration, reconstruction, _codes):
        nonlocal before
        if before is not None:
            moved.append(float(np.abs(reconstruction - before).mean()))
        before = reconstruction

    theirs = python.invert(picture, 6, until=10.0, on_iteration=note)
    assert theirs.iterations == 2  # the first comparison there is
    assert c.invert(picture, iterations=6, until=10.0).codes[0, -1] == 2
    assert c.invert(picture, iterations=3, until=1e-30).codes[0, -1] == 3


def test_info_is_the_manifests(c, python):
    manifest = python.bundle.manifest
    assert c.info.name.decode() == manifest.name
    assert c.info.digest.decode() == python.bundle.digest
    assert (c.info.image_height, c.info.image_width) == manifest.image_size
    assert (c.info.input_height, c.info.input_width) == manifest.input_size
    assert c.info.provider.decode().endswith("CPUExecutionProvider")


def refusal_of(call, *arguments: object) -> capi.CError:
    with pytest.raises(capi.CError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value


def _bundle_of(tmp_path: Path, manifest: bytes) -> Path:
    directory = manifests.write_bundle(tmp_path / "tiny")
    (directory / "manifest.json").write_bytes(manifest)
    return directory


ATTACKED_MANIFESTS = {
    **{
        k: (json.dumps(manifests.edited(*v[:2])).encode(), v[2])
        for k, v in (manifests.ILL_FORMED | manifests.CONTRADICTORY).items()
    },
    **manifests.NOT_STRICT_JSON,
}


@pytest.mark.parametrize("trick", ATTACKED_MANIFESTS)
def test_attacked_manifest_is_refused_as_python_refuses_it(library, tmp_path, trick):
    manifest, says = ATTACKED_MANIFESTS[trick]
    with pytest.raises(BundleError):
        Manifest.parse(manifest)
    error = refusal_of(capi.CModel, library, _bundle_of(tmp_path, manifest))
    assert error.kind == "BUNDLE"
    if trick not in C_WORDS:
        assert says in str(error)


@pytest.mark.parametrize("trick", inversions.ATTACKS)
def test_attacked_inversion_is_refused(library, tiny_bundle, tmp_path, trick):
    path = tmp_path / "x.safetensors"
    path.write_bytes(inversions.ATTACKS[trick][0])
    assert refusal_of(capi.CModel(library, tiny_bundle).load, path).kind == "INVERSION"


def test_altered_missing_and_linked_files_are_refused(library, tmp_path):
    directory = manifests.write_bundle(tmp_path / "tiny")
    generator = directory / "generator.onnx"
    content = generator.read_bytes()
    generator.write_bytes(content[::-1])
    assert "is altered" in str(refusal_of(capi.CModel, library, directory))
    generator.write_bytes(content[1:])
    assert "bytes where the manifest says" in str(refusal_of(capi.CModel, library, directory))
    generator.unlink()
    assert "cannot find" in str(refusal_of(capi.CModel, library, directory))
    (tmp_path / "elsewhere").write_bytes(content)
    generator.symlink_to(tmp_path / "elsewhere")
    assert "symbolic link" in str(refusal_of(capi.CModel, library, directory))
    generator.unlink()
    generator.write_bytes(content)
    (directory / "generator.onnx.data").write_bytes(b"x")
    assert "is not listed" in str(refusal_of(capi.CModel, library, directory))


def test_inversion_of_another_bundle_is_refused(library, tiny_bundle, tmp_path):
    data = InversionData(
        inversions.TENSORS["latents"], inversions.TENSORS["codes"], 5, "tiny", inversions.DIGEST
    )
    write_inversion(tmp_path / "x.safetensors", data)
    error = refusal_of(capi.CModel(library, tiny_bundle).load, tmp_path / "x.safetensors")
    assert error.kind == "INVERSION" and "does not belong to bundle" in str(error)
    with pytest.raises(InversionError):
        HyperStyle.load(tiny_bundle, "cpu").render(Inversion.load(tmp_path / "x.safetensors"))
