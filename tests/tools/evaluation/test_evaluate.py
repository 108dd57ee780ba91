"""The figures of `tools/evaluate.py`: against golden numbers, and through a small bundle."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

import fakeweights
import torch
import typer
from evaluation import cli
from evaluation.errors import EvaluationError
from evaluation.identity import BLOCKS, load_identity
from evaluation.measure import (
    Judges,
    Measured,
    compare,
    generator_method,
    inversion_method,
    timed_iterations,
)
from evaluation.metrics import average, ms_ssim, psnr, squared_error
from evaluation.report import document, markdown, means, plot, sheet
from hyperstyle_export.bundles.writer import BundleFacts, write_bundle
from hyperstyle_export.readers.encoders import EncoderSource
from hyperstyle_export.readers.family import Sources, load_family
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.imaging.pictures import read_picture, write_picture
from hyperstyle_rt.model import Model
from models import tiny_encoder
from typer.testing import CliRunner

NO_JUDGES = Judges(None, None)


@pytest.fixture(scope="module")
def golden_pictures() -> tuple[torch.Tensor, torch.Tensor]:
    a, other = (
        torch.from_numpy(fakeweights.to_input(fakeweights.image_u8(seed))) for seed in (21, 22)
    )
    return a, 0.8 * a + 0.2 * other


def test_l2_is_the_golden_one(
    golden_pictures: tuple[torch.Tensor, torch.Tensor], golden_dir: Path
) -> None:
    golden = np.load(golden_dir / "misc.npz")["metrics/l2"]
    np.testing.assert_allclose(squared_error(*golden_pictures), golden, rtol=1e-5)


def test_ms_ssim_is_the_golden_one(
    golden_pictures: tuple[torch.Tensor, torch.Tensor], golden_dir: Path
) -> None:
    """Both ways round, and with values in 0..1: the range is read off the first picture."""
    golden = np.load(golden_dir / "misc.npz")["metrics/msssim"]
    a, b = golden_pictures
    found = [ms_ssim(a, b), ms_ssim(b, a), ms_ssim(a / 2 + 0.5, b / 2 + 0.5)]
    np.testing.assert_allclose(found, golden, rtol=1e-5)


def test_ms_ssim_of_a_picture_and_its_negative_is_nan(
    golden_pictures: tuple[torch.Tensor, torch.Tensor],
) -> None:
    a, _ = golden_pictures
    assert math.isnan(ms_ssim(a, -a))
    assert ms_ssim(a, a) == pytest.approx(1)


def test_averages_leave_out_what_is_undefined() -> None:
    assert average("ms_ssim", [0.5, math.nan, 1.0]) == 0.75
    assert math.isnan(average("ms_ssim", [math.nan]))
    assert average("seconds", [1.0, 2.0, 9.0]) == 2.0


def test_psnr() -> None:
    """Against the definition on 8 bits: an error of 1 of 255 is 48.13 dB."""
    error = torch.tensor([(2 / 255) ** 2])
    assert psnr(error).item() == pytest.approx(20 * math.log10(255), rel=1e-5)


def test_psnr_is_that_of_torchmetrics(golden_pictures: tuple[torch.Tensor, torch.Tensor]) -> None:
    image = pytest.importorskip("torchmetrics.functional.image")
    expected = image.peak_signal_noise_ratio(*golden_pictures, data_range=2.0)
    torch.testing.assert_close(psnr(squared_error(*golden_pictures))[0], expected)


def test_large_pictures_are_compared_at_256() -> None:
    """The official scripts resize both before anything else; small ones are not enlarged."""
    pattern = np.indices((512, 512)).sum(0) % 2 * 255  # grey from afar
    checks = np.repeat(pattern[..., None], 3, 2).astype(np.uint8)
    grey = np.full((512, 512, 3), 128, np.uint8)
    assert compare(grey, [checks], NO_JUDGES)["l2"][0] < 1e-3
    small = compare(grey[:64, :64], [checks[:64, :64]], NO_JUDGES)
    assert small["l2"][0] == pytest.approx(1, abs=0.01)
    assert small["psnr"][0] == pytest.approx(6.02, abs=0.05)


def write_face_api(folder: Path, kind: str) -> Path:
    """A manifest of the right names and shapes with made-up weights, float32 or uint8."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {}
    before = 3
    names = ["conv32_down", *(f"{block}/conv{i}" for block in BLOCKS for i in (1, 2))]
    for name in names:
        width = int(name.split("_")[0].removeprefix("conv"))
        side = 7 if name == "conv32_down" else 3
        shapes[f"{name}/conv/filters"] = (side, side, before, width)
        for part in ("conv/bias", "scale/weights", "scale/biases"):
            shapes[f"{name}/{part}"] = (width,)
        before = width
    shapes["fc"] = (256, 128)
    entries: list[dict[str, Any]] = []
    data = b""
    for name, shape in shapes.items():
        entry: dict[str, Any] = {"name": name, "shape": shape, "dtype": "float32"}
        levels = rng.integers(0, 256, shape, dtype=np.uint8)
        scale, least = (0.01, 0.0) if "scale/weights" in name else (0.002, -0.255)
        if kind == "float32":
            data += (levels * scale + least).astype("<f4").tobytes()
        else:
            entry["quantization"] = {"dtype": kind, "scale": scale, "min": least}
            data += levels.tobytes()
        entries.append(entry)
    (folder / "weights.bin").write_bytes(data)
    manifest = folder / "model-weights_manifest.json"
    manifest.write_text(json.dumps([{"weights": entries, "paths": ["weights.bin"]}]))
    return manifest


@pytest.fixture(scope="module")
def face_api(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_face_api(tmp_path_factory.mktemp("face_api"), "uint8")


def test_identity_of_faces(face_api: Path) -> None:
    network = load_identity(face_api)
    torch.manual_seed(0)
    faces = torch.rand(2, 3, 128, 128) * 2 - 1
    with torch.inference_mode():
        embedded = network(faces)
        border = faces.clone()
        border[:, :, :30] = 0  # outside the face chip
        np.testing.assert_allclose(network(border), embedded, atol=1e-6)
    assert embedded.shape == (2, 128)
    np.testing.assert_allclose(embedded.norm(dim=1), 1, rtol=1e-5)


def test_quantised_weights_are_read_as_written(face_api: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    faces = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        quantised = load_identity(face_api)(faces)
        plain = load_identity(write_face_api(tmp_path, "float32"))(faces)
    np.testing.assert_allclose(quantised, plain, atol=1e-4)


@pytest.mark.parametrize("damage", ["path", "kind", "short", "missing", "json"])
def test_a_bad_manifest_is_named(face_api: Path, tmp_path: Path, damage: str) -> None:
    (group,) = json.loads(face_api.read_text())
    data = (face_api.parent / "weights.bin").read_bytes()
    if damage == "path":
        group["paths"] = ["../weights.bin"]
    elif damage == "kind":
        group["weights"][0]["quantization"]["dtype"] = "uint16"
    elif damage == "short":
        data = data[:1000]
    elif damage == "missing":
        del group["weights"][5]
    (tmp_path / "weights.bin").write_bytes(data)
    manifest = tmp_path / "model-weights_manifest.json"
    manifest.write_text("{" if damage == "json" else json.dumps([group]))
    with pytest.raises(EvaluationError, match="manifest"):
        load_identity(manifest)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    for seed in (1, 2, 3):
        write_picture(path / f"{seed}.png", fakeweights.image_u8(seed, 40, 40))
    return path


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return Model.load(tiny_bundle, "cpu", threads=1)


def test_every_iteration_is_timed(model: Model, picture: np.ndarray) -> None:
    results, seconds = timed_iterations(model, picture, 3)
    assert len(results) == len(seconds) == 4
    np.testing.assert_array_equal(results[0], model.invert(picture, 0).image)
    np.testing.assert_array_equal(results[3], model.invert(picture, 3).image)
    assert 0 < seconds[1] < seconds[2] < seconds[3]
    assert len(timed_iterations(model, picture, 0)[0]) == 1


def test_a_bundle_is_measured(model: Model, folder: Path, face_api: Path) -> None:
    seen: list[int] = []
    judges = Judges(None, load_identity(face_api))
    paths = cli.find_pictures(folder, 2)
    measured = cli.measure(inversion_method(model, 2), paths, judges, 1, seen.append)
    assert seen == [1, 2] and measured.names == ("1.png", "2.png")
    assert {name: values.shape for name, values in measured.values.items()} == {
        name: (2, 3) for name in ("l2", "psnr", "ms_ssim", "identity", "distance", "seconds")
    }
    target, *results = measured.rows[0]
    by_hand = np.mean((results[2].astype(float) - target) ** 2) / 127.5**2
    assert measured.values["l2"][0, 2] == pytest.approx(by_hand, rel=1e-5)
    assert measured.strangers is not None and -1 <= measured.strangers <= 1
    average = means(measured)
    assert average["l2"][1] == pytest.approx(measured.values["l2"][:, 1].mean())
    assert sheet(measured).shape[1] == 4 * target.shape[1]
    assert plot([measured]).startswith(b"\x89PNG")
    table = markdown([measured])
    assert "| encoder only |" in table and f"{average['l2'][2]:.4f}" in table


def test_a_method_that_does_not_iterate_has_one_row(tmp_path: Path) -> None:
    """It was refused for iterations that nobody had asked for."""
    file = tiny_encoder(tmp_path / "psp.pt", "GradualStyleEncoder")
    family = load_family(Sources(encoders=(EncoderSource(file),)))
    write_bundle(
        family.model,
        tmp_path,
        BundleFacts("psp"),
        "fp32",
        lambda _step: None,
        encoders=family.encoders,
    )
    with Model.load(tmp_path, "cpu", threads=1) as opened:
        picture = fakeweights.image_u8(1, *opened.bundle.manifest.image_size)
        method = inversion_method(opened, 5)
        (found,), (seconds,) = method.results(0, picture)
        assert len(method.labels) == 1 and seconds > 0
        np.testing.assert_array_equal(found, opened.invert(picture, align="never").image)


def test_what_is_no_number_is_none_in_json() -> None:
    """MS-SSIM of opposite contrasts, PSNR of equal pictures; a mean of nothing else, too."""
    values = {"psnr": np.array([[math.inf]]), "ms_ssim": np.array([[math.nan]])}
    measured = Measured("tiny", ("encoder only",), ("1.png",), values, None, ())
    (method,) = json.loads(json.dumps(document([measured]), allow_nan=False))["methods"]
    assert method["mean"] == {"psnr": [None], "ms_ssim": [None]}
    assert method["values"] == {"psnr": [[None]], "ms_ssim": [[None]]}


def test_the_generator_is_measured_on_true_latents(model: Model, folder: Path) -> None:
    width = model.bundle.manifest.latent_width
    latents = model.map(np.random.default_rng(0).standard_normal((2, width)).astype(np.float32))
    method = generator_method(model, latents)
    measured = cli.measure(method, sorted(folder.iterdir())[:2], NO_JUDGES, 2, lambda _: None)
    assert measured.labels == ("true factors",) and measured.values["l2"].shape == (2, 1)
    first, second = (row[1] for row in measured.rows)
    assert not np.array_equal(first, second)
    assert "| true factors |" in markdown([measured])


def run(*words: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(cli.main)
    result = CliRunner().invoke(app, list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_the_report(tiny_bundle: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    options = (str(folder), "--bundle", str(tiny_bundle), "--iterations", "1", "--out", str(out))
    code, output = run(*options)
    assert code == 0 and "encoder only" in output
    assert sorted(p.name for p in out.iterdir()) == sorted(
        ["figures.json", "quality.png", "table.md", "tiny.png"]
    )
    (method,) = json.loads((out / "figures.json").read_text())["methods"]
    assert method["pictures"] == ["1.png", "2.png", "3.png"] and len(method["mean"]["l2"]) == 2
    assert read_picture(out / "tiny.png").shape[1] == 3 * 32
    code, output = run(*options)
    assert code == 2 and "--force" in output
    code, output = run(*options, "--force", "--json")
    assert code == 0 and json.loads(output)["methods"][0]["method"] == "tiny"


def test_mistakes_are_one_sentence(tiny_bundle: Path, folder: Path, tmp_path: Path) -> None:
    bundle = ("--bundle", str(tiny_bundle))
    (tmp_path / "empty").mkdir()
    (tmp_path / "heads.pth").write_bytes(b"")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    mistakes = {
        "no picture in": (str(tmp_path / "empty"), *bundle),
        "cut.png": (str(tmp_path / "broken"), *bundle),
        "--backbone and --heads": (str(folder), *bundle, "--heads", str(tmp_path / "heads.pth")),
        "there is no bundle": (str(folder), "--bundle", "nowhere"),
        "two bundles are called tiny": (str(folder), *bundle, *bundle),
    }
    for sentence, words in mistakes.items():
        code, output = run(*words)
        assert code == 2, words
        assert sentence in " ".join(output.split()), output
        assert output.count("error:") == 1


def test_errors_belong_to_the_family() -> None:
    assert issubclass(EvaluationError, HyperStyleError)
