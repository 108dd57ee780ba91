"""The public Python API on a small bundle of the official layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import run_python
from hyperstyle_rt import (
    BackendError,
    BundleError,
    HyperStyleError,
    Inversion,
    InversionError,
    Model,
    PictureError,
)
from hyperstyle_rt.imaging.pictures import to_picture, write_picture


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return Model.load(tiny_bundle, "cpu", threads=1)


@pytest.fixture(scope="module")
def inversion(model: Model, picture: np.ndarray) -> Inversion:
    return model.invert(picture, iterations=3)


def test_an_inversion_says_what_it_is(inversion: Inversion, model: Model) -> None:
    assert inversion.latents.shape == (8, 16)
    assert inversion.codes.shape == (7, 17)
    assert (inversion.codes[:, -1] == 3).all()
    assert inversion.iterations == 3
    assert inversion.output.shape == (3, 32, 32)
    assert np.abs(inversion.output).max() > 0.1
    assert inversion.image.dtype == np.uint8
    assert np.array_equal(inversion.image, to_picture(inversion.output))
    assert model.backend.provider.endswith("CPUExecutionProvider")


def test_the_default_number_of_iterations_is_the_methods(model: Model, picture: np.ndarray) -> None:
    assert model.invert(picture).iterations == model.bundle.manifest.method().iterations == 5


def test_every_iteration_is_reported(model: Model, picture: np.ndarray) -> None:
    seen: list[tuple[int, np.ndarray, np.ndarray]] = []
    final = model.invert(picture, 4, on_iteration=lambda *step: seen.append(step))
    assert [count for count, _, _ in seen] == [1, 2, 3, 4]
    for count, image, codes in seen:
        alone = model.invert(picture, iterations=count)
        assert np.array_equal(image, alone.output)
        assert np.array_equal(codes, alone.codes)
    assert np.array_equal(seen[-1][1], final.output)
    assert np.abs(seen[0][1] - seen[1][1]).max() > 1e-4


def test_no_iterations_is_the_encoder_alone(model: Model, picture: np.ndarray) -> None:
    start = model.invert(picture, iterations=0)
    assert not start.codes.any()
    assert all(not offsets.any() for offsets in model.offsets(start).values())


def test_until_stops_when_the_reconstruction_settles(model: Model, picture: np.ndarray) -> None:
    moves: list[np.ndarray] = []
    model.invert(picture, 5, on_iteration=lambda _n, image, _c: moves.append(image))
    second_move = float(np.abs(moves[1] - moves[0]).mean())
    assert model.invert(picture, 5, until=2 * second_move).iterations == 2
    assert model.invert(picture, 5, until=0).iterations == 5


def test_an_exception_in_the_callback_aborts(model: Model, picture: np.ndarray) -> None:
    def stop(_count: int, _image: np.ndarray, _codes: np.ndarray) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.invert(picture, on_iteration=stop)


def test_a_saved_inversion_renders_the_identical_picture(
    model: Model, inversion: Inversion, tiny_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "face.safetensors"
    inversion.save(path)
    loaded = Inversion.load(path)
    assert np.array_equal(loaded.latents, inversion.latents)
    assert np.array_equal(loaded.codes, inversion.codes)
    assert np.array_equal(model.render(loaded), inversion.image)
    again = Model.load(tiny_bundle, "cpu", threads=1)
    assert np.array_equal(again.render(Inversion.load(path)), inversion.image)
    with pytest.raises(InversionError, match="render"):
        _ = loaded.image


def test_an_inversion_is_read_without_its_bundle(
    inversion: Inversion, tiny_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "face.safetensors"
    inversion.save(path)
    script = (
        "import sys; from hyperstyle_rt import Model, Inversion\n"
        "bundle, path = sys.argv[1:]\n"
        "loaded = Inversion.load(path)\n"
        "print(loaded.method, loaded.iterations, 'onnxruntime' in sys.modules)\n"
        "print(Model.load(bundle, 'cpu', threads=1).render(loaded).shape)\n"
    )
    result = run_python("-c", script, tiny_bundle, path)
    assert result.stdout.splitlines() == ["hyperstyle 3 False", "(32, 32, 3)"], result.stderr


def test_an_inversion_says_how_it_was_found(
    model: Model, inversion: Inversion, picture: np.ndarray, tmp_path: Path
) -> None:
    assert inversion.method == model.bundle.manifest.default_method == "hyperstyle"
    assert inversion.settings == {"iterations": 3}
    assert inversion.computed == {
        "backend": "cpu",
        "provider": model.backend.provider,
        "precision": "fp32",
    }
    data = inversion.data
    assert data.space == model.bundle.manifest.space
    assert (data.bundle_name, data.bundle_digest) == ("tiny", model.bundle.digest)
    assert model.invert(picture, 3, 0.5).settings == {"iterations": 3, "until": 0.5}
    path = tmp_path / "face.safetensors"
    inversion.save(path)
    loaded = Inversion.load(path)
    for said in ("method", "settings", "computed", "iterations"):
        assert getattr(loaded, said) == getattr(inversion, said)


def test_one_face_renders_many_latents(model: Model, inversion: Inversion) -> None:
    steps = np.linspace(0, 1, 3, dtype=np.float32)[:, None, None]
    batch = inversion.latents + steps
    pictures = model.render(inversion, batch)
    assert pictures.shape == (3, 32, 32, 3)
    assert np.array_equal(pictures[0], inversion.image)
    single = model.render(inversion, batch[2])
    assert single.shape == (32, 32, 3)
    assert np.abs(single.astype(int) - pictures[2].astype(int)).max() <= 1
    assert np.abs(pictures[2].astype(int) - pictures[0].astype(int)).max() > 5


def test_offsets_are_those_of_the_kernels(model: Model, inversion: Inversion) -> None:
    """Tuned over base, minus 1; zero where no iteration was done, and not all alike."""
    offsets = model.offsets(inversion)
    assert {i: o.shape for i, o in offsets.items()} == {
        layer.index: layer.shape for layer in model.bundle.manifest.tuned_layers
    }
    backend = model.backend

    def kernels(codes: np.ndarray) -> dict[str, np.ndarray]:
        outputs = backend.run("weights", {"codes": backend.upload(codes[None])})
        return {name: backend.download(buffer) for name, buffer in outputs.items()}

    tuned, base = kernels(inversion.codes), kernels(np.zeros_like(inversion.codes))
    for layer in model.bundle.manifest.tuned_layers:
        name = f"weight.{layer.name}"
        assert np.allclose(base[name] * (1 + offsets[layer.index]), tuned[name], rtol=1e-5)
        assert np.abs(offsets[layer.index]).max() > 1e-3


def test_mapping_is_its_graph_and_no_constant(model: Model) -> None:
    z = np.random.default_rng(0).standard_normal((3, 16), dtype=np.float32)
    w = model.map(z)
    assert w.shape == (3, 16)
    assert w.dtype == np.float32
    for row, alone in zip(w, z, strict=True):
        assert np.allclose(model.map(alone[None])[0], row, atol=1e-6)
    # z is normalised first, so its length says nothing (docs/spec.md, section 4)
    assert np.allclose(model.map(5 * z), w, atol=1e-4)
    assert np.abs(w[0] - w[1]).max() > 1e-3


@pytest.mark.parametrize("shape", [(16,), (7, 16), (2, 8, 15), (1, 1, 8, 16)])
def test_latents_of_another_shape_are_refused(
    model: Model, inversion: Inversion, shape: tuple[int, ...]
) -> None:
    with pytest.raises(InversionError, match=r"\[8,16\]"):
        model.render(inversion, np.zeros(shape, np.float32))


def test_latents_that_are_no_numbers_are_refused(model: Model, inversion: Inversion) -> None:
    latents = inversion.latents
    for wrong in (
        latents[None][:0],
        latents * np.nan,
        latents.astype("f8") * 1e300,
        "x",
        [[1], []],
    ):
        with pytest.raises(InversionError, match=r"latents must be \[8,16\] or"):
            model.render(inversion, wrong)
    assert np.array_equal(model.render(inversion, latents.tolist()), inversion.image)
    assert np.array_equal(model.render(inversion, [latents])[0], inversion.image)


def test_an_inversion_of_another_space_is_refused(model: Model, inversion: Inversion) -> None:
    stranger = Inversion(replace(inversion.data, bundle_name="cats", space="0" * 64))
    with pytest.raises(InversionError, match="cats"):
        model.render(stranger)
    with pytest.raises(InversionError, match="cats"):
        model.offsets(stranger)


@pytest.mark.parametrize(
    "options",
    [
        *({"iterations": count} for count in (-1, 101, 2.5, True, "3", float("inf"))),
        *({"until": until} for until in (-0.1, float("inf"), True, "x")),
    ],
)
def test_senseless_options_are_refused(
    model: Model, picture: np.ndarray, options: dict[str, float]
) -> None:
    with pytest.raises(HyperStyleError, match=f"{next(iter(options))} must be"):
        model.invert(picture, **options)


def test_pictures_come_as_paths_or_arrays(
    model: Model, picture: np.ndarray, inversion: Inversion, tmp_path: Path
) -> None:
    write_picture(tmp_path / "face.png", picture)
    from_file = model.invert(tmp_path / "face.png", iterations=3)
    assert np.array_equal(from_file.output, inversion.output)
    with pytest.raises(PictureError):
        model.invert(tmp_path / "nobody.png")
    with pytest.raises(PictureError):
        model.invert(picture.astype(np.float32))


def test_backends_are_asserted(tiny_bundle: Path) -> None:
    import onnxruntime as ort

    with pytest.raises(BackendError, match="auto, cpu, openvino, cuda"):
        Model.load(tiny_bundle, "gpu")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        with pytest.raises(BackendError, match="onnxruntime-gpu"):
            Model.load(tiny_bundle, "cuda")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_fallback_to_another_provider_is_refused(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime runs on the CPU when a provider's libraries are missing, and only logs it."""
    import onnxruntime as ort
    from hyperstyle_rt.backends import ort as backend

    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("the CUDA provider is installed")
    monkeypatch.setattr(backend, "usable_providers", lambda: backend.PROVIDERS)
    with pytest.raises(BackendError, match="gave CPUExecutionProvider"):
        Model.load(tiny_bundle, "cuda")
    assert Model.load(tiny_bundle, "auto").backend.provider.endswith("CPUExecutionProvider")


def test_an_altered_graph_is_not_loaded(tiny_bundle: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "tiny"
    shutil.copytree(tiny_bundle, copy)
    graph = bytearray((copy / "encoder.onnx").read_bytes())
    graph[-1] ^= 1
    (copy / "encoder.onnx").write_bytes(graph)
    model = Model.load(copy, "cpu")
    with pytest.raises(BundleError, match="SHA-256"):
        model.invert(np.zeros((8, 8, 3), np.uint8))
