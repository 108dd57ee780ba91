"""MobileStyleGAN: the reader, the torch twin and its graphs, against OpenVINO and one another."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import fakeweights
import numpy as np
import onnxruntime as ort
import pytest
import torch
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.graphs.mobilestylegan import build_mobile_generator, build_mobile_mapping
from hyperstyle_export.networks.mobilestylegan import (
    MobileStyleGan,
    inverse_haar,
    model_from_state,
)
from hyperstyle_export.readers.mobilestylegan_ir import (
    FOLDER,
    MobileStyleGanWeights,
    read_models,
    read_random_face,
)
from hyperstyle_export.readers.openvino_ir import IrError
from mobilestylegan_files import TINY, tiny_files, tiny_model
from onnx_sessions import open_session

WHEEL = "RANDOM_FACE_WHEEL"  # environment variable: the wheel, or a folder with its package
AGAINST_OPENVINO = 5e-4
AGAINST_TWIN = 1e-4


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model() -> MobileStyleGan:
    return tiny_model()


def as_model(weights: MobileStyleGanWeights) -> MobileStyleGan:
    state = {key: torch.from_numpy(value) for key, value in weights.state.items()}
    return model_from_state(state, weights.config)


def normal(key: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.float32(fakeweights.normal(key, shape)))


def openvino_answers(files: Mapping[str, bytes], folder: Path, z: torch.Tensor) -> list[np.ndarray]:
    """W and picture as OpenVINO computes them from the files."""
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    for name, data in files.items():
        (folder / name).write_bytes(data)
    answers, x = [], z.numpy()
    for name in ("MappingNetwork", "SynthesisNetwork"):
        compiled = openvino.Core().compile_model(
            str(folder / f"{name}.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        x = next(iter(compiled([x]).values()))
        answers.append(x)
    return answers


def test_the_reader_recovers_every_tensor(model: MobileStyleGan) -> None:
    weights = read_models(tiny_files(model))
    assert weights.config == TINY
    state = model.state_dict()
    assert weights.state.keys() == state.keys()
    for key, value in state.items():
        assert np.array_equal(weights.state[key], value.numpy()), key


def test_the_twin_computes_what_openvino_computes(model: MobileStyleGan, tmp_path: Path) -> None:
    files = tiny_files(model)
    z = normal("z", 1, TINY.style_width)
    w, picture = openvino_answers(files, tmp_path, z)
    read = as_model(read_models(files))
    assert np.abs(read.mapping(z).numpy() - w).max() < 1e-5
    rendering = read.synthesis(torch.from_numpy(w)).numpy()
    assert rendering.shape == picture.shape == (1, 3, 64, 64)
    assert np.abs(rendering - picture).max() < 1e-5
    assert np.std(picture) > 0.1


def test_the_published_model_is_what_openvino_computes(tmp_path: Path) -> None:
    """The wheel is not part of this repository: skipped where it is not given."""
    path = os.environ.get(WHEEL)
    if not path:
        pytest.skip(f"{WHEEL} does not name the wheel of random-face 2021.7.21.1")
    read = as_model(read_random_face(Path(path)))
    assert read.config.resolution == 1024
    assert read.config.num_latents == 23
    folder = tmp_path / "package"
    if Path(path).is_file():
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(folder)
    else:
        folder = Path(path)
    (data,) = folder.rglob("SynthesisNetwork.xml")
    files = {p.name: p.read_bytes() for p in data.parent.iterdir() if p.suffix in (".xml", ".bin")}
    z = normal("z", 1, 512)
    w, picture = openvino_answers(files, tmp_path, z)
    assert np.abs(read.mapping(z).numpy() - w).max() < 5e-5
    rendering = read.synthesis(torch.from_numpy(w).expand(1, -1)).numpy()
    assert np.abs(rendering - picture).max() < AGAINST_OPENVINO
    graph = tmp_path / "generator.onnx"
    save_model(build_mobile_generator(read, (), (256, 256)), graph)
    latents = np.repeat(w[:, None], read.config.num_latents, axis=1)
    (drawn,) = open_session(graph).run(["rendering"], {"latents": latents})
    assert np.abs(drawn - picture).max() < AGAINST_OPENVINO


def test_the_inverse_wavelet_step_undoes_averages_and_differences() -> None:
    x = normal("x", 2, 5, 8, 6)
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    low, vertical = (a + b + c + d) / 2, (a + b - c - d) / 2
    horizontal, diagonal = (a - b + c - d) / 2, (a - b - c + d) / 2
    details = torch.stack((vertical, horizontal, diagonal), dim=2).flatten(1, 2)
    assert torch.allclose(inverse_haar(torch.cat((low, details), dim=1)), x, atol=1e-6)


def test_rows_of_the_latents_reach_their_own_layer(model: MobileStyleGan) -> None:
    """A W+ latent of equal rows is a w; a change of one row changes the picture."""
    w = normal("w", 1, TINY.style_width)
    rows = w[:, None].repeat(1, TINY.num_latents, 1)
    plain = model.synthesis(w)
    assert torch.equal(model.synthesis(rows), plain)
    for style in TINY.styles:
        changed = rows.clone()
        changed[:, style.row] += 1
        assert (model.synthesis(changed) - plain).abs().max() > 1e-3, style.name
        layer = model.synthesis.get_submodule(style.name)
        assert layer.style.out_features == style.channels


def test_features_of_fewer_blocks_do_not_depend_on_later_rows(model: MobileStyleGan) -> None:
    rows = normal("rows", 1, TINY.num_latents, TINY.style_width)
    changed = rows.clone()
    changed[:, 1 + 3 * 2 :] += 1
    features = [model.synthesis.features(x, blocks=2) for x in (rows, changed)]
    assert features[0].shape == (1, 8, 16, 16)
    assert torch.equal(*features)


@pytest.fixture(scope="module")
def sessions(
    model: MobileStyleGan, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ort.InferenceSession]:
    folder = tmp_path_factory.mktemp("graphs")
    tuned = [layer.name for layer in TINY.tunable]
    graphs = {
        "mapping": build_mobile_mapping(model),
        "generator": build_mobile_generator(model, tuned, (16, 16)),
        "some": build_mobile_generator(model, tuned[2:4], (64, 64)),
    }
    sessions = {}
    for name, graph in graphs.items():
        save_model(graph, folder / f"{name}.onnx")
        sessions[name] = open_session(folder / f"{name}.onnx")
    return sessions


def test_the_mapping_graph(
    model: MobileStyleGan, sessions: dict[str, ort.InferenceSession]
) -> None:
    z = normal("z", 3, TINY.style_width)
    (w,) = sessions["mapping"].run(["w"], {"z": z.numpy()})
    assert np.abs(w - model.mapping(z).numpy()).max() < 1e-5


def test_the_generator_graph_takes_kernels_for_a_batch_of_latents(
    model: MobileStyleGan, sessions: dict[str, ort.InferenceSession]
) -> None:
    latents = normal("latents", 3, TINY.num_latents, TINY.style_width)
    stored = model.synthesis.state_dict()
    kernels = {
        layer.name: stored[f"{layer.name}.weight"]
        * (1 + 0.3 * normal(layer.name, *layer.weight_shape))
        for layer in TINY.tunable
    }
    fed = {f"weight.{name}": kernel.numpy() for name, kernel in kernels.items()}
    rendering, reconstruction = sessions["generator"].run(
        ["rendering", "reconstruction"], {"latents": latents.numpy(), **fed}
    )
    expected = model.synthesis(latents, kernels)
    assert rendering.shape == (3, 3, 64, 64)
    assert np.abs(rendering - expected.numpy()).max() < AGAINST_TWIN
    pooled = torch.nn.functional.avg_pool2d(expected, 4).numpy()
    assert np.abs(reconstruction - pooled).max() < AGAINST_TWIN
    assert (model.synthesis(latents) - expected).abs().max() > 0.01


def test_kernels_that_are_not_tuned_stay_in_the_graph(
    model: MobileStyleGan, sessions: dict[str, ort.InferenceSession]
) -> None:
    names = [i.name for i in sessions["some"].get_inputs()]
    assert names == ["latents", "weight.layers.0.conv2", "weight.layers.1.conv1"]
    latents = normal("latents", 2, TINY.num_latents, TINY.style_width)
    stored = {name: model.synthesis.get_submodule(name[7:]).weight.numpy() for name in names[1:]}
    (rendering,) = sessions["some"].run(["rendering"], {"latents": latents.numpy(), **stored})
    assert np.abs(rendering - model.synthesis(latents).numpy()).max() < AGAINST_TWIN


def altered(name: str, before: str, after: str) -> dict[str, bytes]:
    files = tiny_files()
    assert before.encode() in files[name]
    files[name] = files[name].replace(before.encode(), after.encode(), 1)
    return files


SYNTHESIS, MAPPING = "SynthesisNetwork.xml", "MappingNetwork.xml"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (lambda: tiny_files() | {SYNTHESIS: b"<net"}, "damaged or no XML"),
        (lambda: tiny_files() | {SYNTHESIS: b"<model/>"}, "no OpenVINO model"),
        (lambda: tiny_files() | {SYNTHESIS: b"<!DOCTYPE net []><net/>"}, "document type"),
        (lambda: tiny_files() | {SYNTHESIS: tiny_files()[MAPPING]}, "no MobileStyleGAN"),
        (lambda: tiny_files() | {MAPPING: tiny_files()[SYNTHESIS]}, "constant|MobileStyleGAN"),
        (lambda: tiny_files() | {"SynthesisNetwork.bin": b"\0" * 100}, "no constant of float32"),
        (lambda: tiny_files() | {"MappingNetwork.bin": b"\xff" * 9999}, "not finite"),
        (lambda: altered(SYNTHESIS, 'offset="0"', 'offset="1e9"'), "no constant"),
        (lambda: altered(SYNTHESIS, 'offset="0"', 'offset="-8"'), "no constant"),
        (lambda: altered(SYNTHESIS, 'from-layer="1"', 'from-layer="x"'), "missing layer"),
        (lambda: altered(SYNTHESIS, 'type="PReLU"', 'type="ReLU"'), "leaky ReLU"),
        (lambda: altered(SYNTHESIS, 'strides="2, 1"', 'strides="2, 2"'), "Haar"),
        (lambda: altered(SYNTHESIS, 'from-port="4" to', 'from-port="3" to'), "split"),
        (lambda: altered(SYNTHESIS, 'type="Result"', 'type="Sink"'), "0 outputs"),
        (
            lambda: tiny_files() | dict(list(tiny_files(other_width()).items())[2:]),
            "belong together",
        ),
    ],
)
def test_other_files_are_refused_in_a_sentence(files: object, said: str) -> None:
    with pytest.raises(IrError, match=said) as caught:
        read_models(files())  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def other_width() -> MobileStyleGan:
    return tiny_model(dataclasses.replace(TINY, style_width=10))


def test_only_the_known_wheel_is_taken(tmp_path: Path) -> None:
    wheel = tmp_path / "random_face-2021.7.21.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for name, data in tiny_files().items():
            file.writestr(str(FOLDER / name), data)
    with pytest.raises(IrError, match="SHA-256"):
        read_random_face(wheel)
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("random_face/__init__.py", "")
    with pytest.raises(IrError, match="holds no random_face/data"):
        read_random_face(wheel)
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in tiny_files().items():
            file.writestr(str(FOLDER / name), data)
    stored = wheel.read_bytes()
    for place in (4, 60, 90, 200, len(stored) // 2, len(stored) - 30):
        wheel.write_bytes(stored[:place] + bytes([stored[place] ^ 0xFF]) + stored[place + 1 :])
        with pytest.raises(IrError, match=r"damaged or no wheel|SHA-256|holds no"):
            read_random_face(wheel)
    wheel.write_bytes(b"PK")
    with pytest.raises(IrError, match="damaged or no wheel"):
        read_random_face(wheel)
    with pytest.raises(IrError, match=r"SynthesisNetwork\.xml"):
        read_random_face(tmp_path)
    folder = tmp_path / "random_face" / "data"
    folder.mkdir(parents=True)
    for name, data in tiny_files().items():
        (folder / name).write_bytes(data)
    for place in (tmp_path, folder.parent, folder):
        with pytest.raises(IrError, match="SHA-256"):
            read_random_face(place)
