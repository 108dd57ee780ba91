"""Generators of stylegan2-ada-pytorch: the numbers of the official code, and nothing executed."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakeweights
import numpy as np
import onnxruntime as ort
import pytest
import torch
from build_command import Command
from hyperstyle_export.bundles.recovery import recover_model
from hyperstyle_export.bundles.spaces import generator_space
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.graphs.generator_half import build_half_generator
from hyperstyle_export.graphs.generator_single import build_single_generator
from hyperstyle_export.methods import RENDERING_GRAPHS, STYLED_GRAPHS
from hyperstyle_export.networks.config import GeneratorConfig
from hyperstyle_export.networks.generator import Generator, truncate
from hyperstyle_export.networks.hyperstyle import HyperStyle
from hyperstyle_export.readers.encoders import EncoderSource
from hyperstyle_export.readers.family import Sources, load_family
from hyperstyle_export.readers.official import read_generator
from hyperstyle_export.readers.torch_files import CheckpointError
from hyperstyle_rt import Model
from hyperstyle_rt.adaptation import Adaptation
from hyperstyle_rt.imaging.pictures import to_input
from models import TINY, build_model, tiny_encoder
from nvidia_files import Persistent, golden_tensors, write_network, write_pickle
from training.frozen import FrozenGenerator
from training.synthesis import FastSynthesis

IMAGE_TOLERANCE, MAPPING_TOLERANCE = 3e-5, 2e-5  # of tests/golden/README.md
HALF_TOLERANCE = 2e-2

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> Any:
    return np.load(golden_dir / "stylegan2_ada.npz")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HyperStyle:
    path = write_network(tmp_path_factory.mktemp("ada") / "net.pkl")
    generator, average = read_generator(path)
    model = HyperStyle.of_generator(generator, (), (64, 64))
    model.latent_avg = average.expand(10, -1).contiguous()
    return model


def run(build: Callable[..., Any], model: HyperStyle, path: Path, **feeds: Any) -> list[np.ndarray]:
    save_model(build(model), path)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def latents() -> np.ndarray:
    return np.float32(0.5) * fakeweights.normal("sg2ada.ws", (2, 10, 64))


def close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance


def test_pictures_are_those_of_the_official_code(
    model: HyperStyle, golden: Any, tmp_path: Path
) -> None:
    image, _ = run(RENDERING_GRAPHS["generator"], model, tmp_path / "g.onnx", latents=latents())
    close(image, golden["image_const"], IMAGE_TOLERANCE)


def test_pictures_without_noise(model: HyperStyle, golden: Any, tmp_path: Path) -> None:
    layers = model.config.generator.layers
    feeds = {
        f"noise.{layer.name}": np.zeros((1, 1, layer.resolution, layer.resolution), np.float32)
        for layer in layers
        if not layer.is_to_rgb
    }
    feeds["style_offsets"] = np.zeros((1, sum(layer.in_channels for layer in layers)), np.float32)
    build = STYLED_GRAPHS["styled_generator"]
    image, _ = run(build, model, tmp_path / "s.onnx", latents=latents(), **feeds)
    close(image, golden["image_none"], IMAGE_TOLERANCE)


def test_mapping_and_truncation(model: HyperStyle, golden: Any, tmp_path: Path) -> None:
    z = fakeweights.normal("sg2ada.z", (2, 64))
    (w,) = run(RENDERING_GRAPHS["mapping"], model, tmp_path / "m.onnx", z=z)
    close(w, golden["mapping/w"], MAPPING_TOLERANCE)
    cut = truncate(torch.from_numpy(w), model.latent_avg[0], 0.7).numpy()
    close(cut[:, None].repeat(10, axis=1), golden["mapping/w_psi0.7"], MAPPING_TOLERANCE)


def clamped(path: Path, clamp: float = 1.5, **more: Any) -> HyperStyle:
    generator, _ = read_generator(write_network(path, clamp=clamp, **more))
    return HyperStyle.of_generator(generator, (), (64, 64))


def test_pictures_of_a_generator_that_limits_activations(golden: Any, tmp_path: Path) -> None:
    """`conv_clamp` 1.5, in all forms of the generator: torch, ONNX, one picture, training."""
    model, expected = clamped(tmp_path / "net.pkl"), golden["image_const_clamp1.5"]
    assert np.abs(expected - golden["image_const"]).max() > 0.1
    with torch.no_grad():
        codes = torch.from_numpy(latents())
        close(model.decoder(codes).numpy(), expected, IMAGE_TOLERANCE)
        close(FastSynthesis(model.decoder, torch.float32)(codes).numpy(), expected, IMAGE_TOLERANCE)
    image, _ = run(RENDERING_GRAPHS["generator"], model, tmp_path / "g.onnx", latents=latents())
    close(image, expected, IMAGE_TOLERANCE)
    image, _ = run(build_single_generator, model, tmp_path / "s.onnx", latents=latents()[1:])
    close(image, expected[1:], IMAGE_TOLERANCE)
    image, _ = run(build_half_generator, model, tmp_path / "h.onnx", latents=latents())
    close(image, expected, HALF_TOLERANCE)


def test_blocks_that_ran_in_fp16_are_computed_in_float32(golden: Any, tmp_path: Path) -> None:
    """`num_fp16_res` 4, as published networks have it; their weights are stored in float32."""
    blocks = {f"synthesis.b{side}": {"use_fp16": True, "channels_last": True} for side in (8, 64)}
    model = clamped(tmp_path / "net.pkl", attributes=blocks)
    with torch.no_grad():
        found = model.decoder(torch.from_numpy(latents())).numpy()
    close(found, golden["image_const_clamp1.5"], IMAGE_TOLERANCE)


def test_a_generator_trained_without_noise_draws_without(golden: Any, tmp_path: Path) -> None:
    """`use_noise` False: then the file has neither maps nor strengths."""
    tensors = {k: v for k, v in golden_tensors().items() if ".noise_" not in k}
    silent = {
        f"synthesis.b{side}.{conv}": {"use_noise": False}
        for side in (4, 8, 16, 32, 64)
        for conv in ("conv0", "conv1")
    }
    generator, _ = read_generator(write_network(tmp_path / "net.pkl", tensors, None, silent))
    with torch.no_grad():
        found = generator(torch.from_numpy(latents())).numpy()
    close(found, golden["image_none"], IMAGE_TOLERANCE)
    write_network(tmp_path / "net.pkl", tensors)
    with pytest.raises(
        CheckpointError, match=r"lacks 'G_ema\.synthesis\.b4\.conv1\.noise_strength'"
    ):
        read_generator(tmp_path / "net.pkl")


@pytest.mark.parametrize(
    ("size", "base", "largest", "depth", "channels"),
    [
        (1024, 32768, 512, 8, (512, 512, 512, 512, 512, 256, 128, 64, 32)),  # config-f
        (512, 32768, 512, 8, (512, 512, 512, 512, 512, 256, 128, 64)),  # paper512
        (256, 16384, 512, 8, (512, 512, 512, 512, 256, 128, 64)),  # paper256
        (256, 32768, 512, 8, (512, 512, 512, 512, 512, 256, 128)),  # config-f at 256
        (32, 32768, 512, 2, (512, 512, 512, 512)),  # cifar
    ],
)
def test_sizes_and_widths_of_published_networks(
    size: int, base: int, largest: int, depth: int, channels: tuple[int, ...], tmp_path: Path
) -> None:
    """Layouts at a sixteenth of their widths, as all of it is read off the shapes."""
    widths = [min(base // (4 << r), largest) // 16 for r in range(len(channels))]
    assert widths == [width // 16 for width in channels]
    config = GeneratorConfig(tuple(widths), 32, depth)
    assert config.resolution == size
    decoder = Generator(config).eval()
    state = ada_of(decoder.state_dict(), torch.zeros(32))
    found, _ = read_generator(write_network(tmp_path / "net.pkl", state, 256.0))
    assert found.config == replace(config, activation_limit=256.0)
    theirs = found.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in decoder.state_dict().items())


def test_the_source_in_a_file_is_never_run(tmp_path: Path) -> None:
    """`module_src` would end this process."""
    assert b"SystemExit" in write_network(tmp_path / "net.pkl").read_bytes()
    read_generator(tmp_path / "net.pkl")


def ada_of(state: Tensors, average: torch.Tensor) -> Tensors:
    """A generator in rosinality's layout, under the names of stylegan2-ada-pytorch."""
    tensors = {"mapping.w_avg": average}
    taps = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64
    number = sum(
        key.startswith("to_rgbs.") and key.endswith(".bias") and key.count(".") == 2
        for key in state
    )
    layers = {"conv1": ("b4.conv1", 0), "to_rgb1": ("b4.torgb", None)}
    for block in range(number):
        side = 8 << block
        layers[f"convs.{2 * block}"] = f"b{side}.conv0", 2 * block + 1
        layers[f"convs.{2 * block + 1}"] = f"b{side}.conv1", 2 * block + 2
        layers[f"to_rgbs.{block}"] = f"b{side}.torgb", None
        tensors[f"synthesis.b{side}.resample_filter"] = taps
    tensors["synthesis.b4.const"] = state["input.input"][0]
    for name, (own, noise) in layers.items():
        own = f"synthesis.{own}"
        tensors[f"{own}.weight"] = state[f"{name}.conv.weight"][0]
        for kind in ("weight", "bias"):
            tensors[f"{own}.affine.{kind}"] = state[f"{name}.conv.modulation.{kind}"]
        if noise is None:
            tensors[f"{own}.bias"] = state[f"{name}.bias"].reshape(-1)
            continue
        tensors[f"{own}.bias"] = state[f"{name}.activate.bias"]
        tensors[f"{own}.noise_strength"] = state[f"{name}.noise.weight"].reshape(())
        tensors[f"{own}.noise_const"] = state[f"noises.noise_{noise}"][0, 0]
        tensors[f"{own}.resample_filter"] = taps
    for key, value in state.items():
        if key.startswith("style."):
            _, depth, kind = key.split(".")
            tensors[f"mapping.fc{int(depth) - 1}.{kind}"] = value
    return tensors


def tiny_pickle(path: Path, scale: float = 1.0, clamp: float | None = None) -> Path:
    decoder = build_model(TINY).decoder.state_dict()
    decoder = {k: v * scale if k == "convs.3.conv.weight" else v for k, v in decoder.items()}
    return write_network(path, ada_of(decoder, torch.zeros(16)), clamp)


def test_it_is_a_bundles_generator(tmp_path: Path) -> None:
    """The pickle and rosinality's file of the same weights are of one space."""
    encoder = EncoderSource(tiny_encoder(tmp_path / "e4e.pt", "Encoder4Editing"))
    net = tiny_pickle(tmp_path / "net.pkl")
    families = [load_family(Sources(encoders=(encoder,), generator=g)) for g in (net, None)]
    spaces = {generator_space(family.model) for family in families}
    assert len(spaces) == 1
    assert list(families[0].encoders) == ["e4e"]


def test_hyperstyle_inverts_into_it_within_its_limit(command: Command, tmp_path: Path) -> None:
    """The offsets of the file, on the generator of the pickle, which limits activations."""
    net, picture = tiny_pickle(tmp_path / "net.pkl", clamp=0.5), fakeweights.image_u8(1, 64, 64)
    bundle = command.succeed(generator=net)
    family = load_family(Sources((command.checkpoint, command.w_encoder), generator=net))
    with torch.no_grad():
        *_, last = family.model.iterate(torch.from_numpy(to_input(picture, (64, 64))), 2)
    with Model.load(bundle.directory, "cpu") as model:
        found = model.invert(picture, 2)
    close(found.output, last.image[0].numpy(), 1e-4)
    recovered = recover_model(bundle)
    assert recovered.config.generator.activation_limit == 0.5
    free = load_family(Sources((command.checkpoint, command.w_encoder))).model
    with torch.no_grad():
        *_, unlimited = free.iterate(torch.from_numpy(to_input(picture, (64, 64))), 2)
    assert (unlimited.image - last.image).abs().max() > 0.01
    assert generator_space(free) == bundle.manifest.space  # of the same weights


def test_it_is_compared_with_the_other_files(command: Command, tmp_path: Path) -> None:
    net = tiny_pickle(tmp_path / "net.pkl", 1.5)
    command.refuse("is not that of .*net.pkl .'decoder.convs.3.conv.weight' differs", generator=net)


@pytest.mark.parametrize(("name", "said"), [(b"net.pkl", "net.pkl"), (b"caf\xe9.pkl", "caf?.pkl")])
def test_it_is_adapted_to(
    name: bytes, said: str, built: Path, command: Command, tmp_path: Path
) -> None:
    """Under a name that is no UTF-8, too, which no manifest could have as it is."""
    net = tiny_pickle(tmp_path / os.fsdecode(name), 1.5)
    bundle = command.succeed(
        "--adapt", net, "--base", built, checkpoint=None, w_encoder=None, out=tmp_path / "child"
    )
    assert bundle.manifest.provenance["generator"].startswith(f"{said} sha256:")
    with Model.load(built, "cpu") as model, Adaptation.load(bundle.directory, "cpu") as adapted:
        inversion = model.invert(fakeweights.image_u8(1, 64, 64), 2)
        assert np.abs(adapted.synthesise(inversion, None) - inversion.output).max() > 0.01


def test_encoders_and_hypernetworks_are_trained_for_it(tmp_path: Path) -> None:
    """What their training draws pictures with, clamp included."""
    frozen = FrozenGenerator(
        tiny_pickle(tmp_path / "net.pkl", clamp=0.5), (16, 16), "", torch.float32
    )
    assert frozen.factors is None
    assert torch.equal(frozen.average, torch.zeros(16))
    latents = torch.from_numpy(fakeweights.normal("latents", (2, 8, 16)))
    with torch.no_grad():
        drawn = frozen.generator(latents)
        close(
            frozen(latents).numpy(),
            torch.nn.functional.adaptive_avg_pool2d(drawn, (16, 16)).numpy(),
            IMAGE_TOLERANCE,
        )
        free, _ = read_generator(tiny_pickle(tmp_path / "free.pkl"))
        assert (free(latents) - drawn).abs().max() > 0.01


class Evil:
    """Runs a command where it is unpickled without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


def _without(*names: str) -> Tensors:
    return {k: v for k, v in golden_tensors().items() if k not in names}


def _with(**tensors: torch.Tensor) -> Tensors:
    return golden_tensors() | {key.replace("__", "."): value for key, value in tensors.items()}


def _of(tensors: Tensors) -> Callable[[Path], Path]:
    return lambda path: write_network(path, tensors)


def _holding(contents: object) -> Callable[[Path], Path]:
    return lambda path: write_pickle(path, contents)


def _cut(keep: float) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        data = write_network(path).read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])

    return write


def _altered(old: bytes, new: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        data = write_network(path).read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new))

    return write


_DAMAGED = "is damaged or no pickle of a network"
_CONVOLUTIONS = [
    name.removeprefix("synthesis.").removesuffix(".affine.bias")
    for name in golden_tensors()
    if name.endswith(".affine.bias")
]

WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file"),
    "directory": (Path.mkdir, "is not a regular file"),
    "empty": (lambda path: path.write_bytes(b""), "is empty; download"),
    "web_page": (lambda path: path.write_bytes(b"<!DOCTYPE html><html>"), "is a web page"),
    "half": (_cut(0.5), _DAMAGED),
    "last_byte": (_cut(0.9999), _DAMAGED),
    "list": (_holding([1, 2]), "holds a list, not a dictionary"),
    "no_network": (_holding({"G": 1, "D": 2}), r"has no network 'G_ema' \(names: D, G\)"),
    "network_of_another_kind": (
        _holding({"G_ema": Persistent("Discriminator", {})}),
        "is a network 'Discriminator' of an unknown layout",
    ),
    "unknown_class": (_holding({"G_ema": Path("x")}), "holds a pathlib.*, which is no part"),
    "builtins": (_holding({"G_ema": getattr}), "holds a builtins.getattr, which is no part"),
    "tensorflow": (
        _altered(b"torch_utils.persistence", b"dnnlib.tflib.persistenc"),
        "of the TensorFlow versions .* legacy.py",
    ),
    "larger_than_its_storage": (
        _altered(b"K\x04K\x04\x86", b"K\x7fK\x7f\x86"),
        _DAMAGED,
    ),
    "conditional": (
        _of(_with(mapping__embed__weight=torch.ones(64, 10))),
        "is conditional on classes",
    ),
    "resnet": (_of(_with(synthesis__b8__skip__weight=torch.ones(1))), "architecture 'resnet'"),
    "orig": (
        _of({k: v for k, v in golden_tensors().items() if ".b4.torgb." not in k}),
        "architecture 'orig'",
    ),
    "stylegan3": (_of(_with(synthesis__input__affine__weight=torch.ones(1))), "is of StyleGAN3"),
    "limited_differently": (
        lambda path: write_network(
            path, clamp=256.0, attributes={"synthesis.b8.torgb": {"conv_clamp": None}}
        ),
        r"limited differently \(conv_clamp 256.0, None\)",
    ),
    "limited_to_nothing": (
        lambda path: write_network(path, clamp=-1.0),
        "limits its activations to -1.0 .* no positive number",
    ),
    "limited_by_a_text": (
        lambda path: write_network(
            path, attributes={f"synthesis.{name}": {"conv_clamp": "256"} for name in _CONVOLUTIONS}
        ),
        "limits its activations to '256'",
    ),
    "of_one_channel": (
        _of(_with(synthesis__b4__torgb__weight=torch.ones(1, 64, 1, 1))),
        "draws pictures of img_channels 1",
    ),
    "another_activation": (
        lambda path: write_network(
            path, attributes={"synthesis.b8.conv1": {"activation": "swish"}}
        ),
        "has the activation 'swish' in 'synthesis.b8.conv1'",
    ),
    "another_learning_rate": (
        lambda path: write_network(path, attributes={"mapping.fc2": {"bias_gain": 1.0}}),
        "the learning rate multiplier 1.0 in 'mapping.fc2'",
    ),
    "learning_rate_of_two": (
        lambda path: write_network(path, attributes={"mapping.fc2": {"bias_gain": torch.ones(2)}}),
        r"the learning rate multiplier tensor\(",
    ),
    "lacks_a_tensor": (_of(_without("synthesis.b8.conv0.bias")), "lacks 'G_ema.synthesis.b8"),
    "has_more": (
        _of(_with(synthesis__b8__other=torch.ones(1))),
        "'G_ema.synthesis.b8.other' has no counterpart",
    ),
    "other_filter": (
        _of(_with(synthesis__b8__resample_filter=torch.ones(4, 4) / 16)),
        r"is not the \[1, 3, 3, 1\] filter",
    ),
    "two_noise_strengths": (
        _of(_with(synthesis__b8__conv0__noise_strength=torch.ones(2))),
        r"noise.weight' has shape \(2,\), expected \(1,\)",
    ),
    "noise_of_terabytes": (
        lambda path: write_network(
            path,
            _with(synthesis__b9999999__conv0__weight=torch.ones(1, 1, 1, 1)),
            attributes={"synthesis.b9999999.conv0": {"use_noise": False}},
        ),
        "'G_ema.synthesis.b9999999.conv0.weight' has no counterpart",
    ),
    "not_finite": (
        _of(_with(synthesis__b16__conv1__bias=torch.full((64,), torch.nan))),
        "holds NaN or infinity",
    ),
    "wrong_shape": (
        _of(_with(mapping__w_avg=torch.ones(5))),
        r"'latent_avg' has shape \(5,\), expected",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_refused(case: str, tmp_path: Path) -> None:
    write, message = WRONG[case]
    path = tmp_path / "net.pkl"
    write(path)
    with pytest.raises(CheckpointError, match=message) as raised:
        read_generator(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("hidden", ["top", "state", "source"])
def test_poisoned_pickles_run_nothing(hidden: str, command: Command, tmp_path: Path) -> None:
    path, marker = command.directory / "net.pkl", tmp_path / "ran"
    evil = Evil(marker)
    described = {
        "top": {"G_ema": evil},
        "state": {"G_ema": Persistent("Generator", {"x": evil})},
        "source": {"G_ema": Persistent("Generator", {"_modules": {"a": evil}})},
    }[hidden]
    write_pickle(path, described)
    if hidden == "top":
        pickle.loads(path.read_bytes())
        assert marker.exists()
        marker.unlink()
    command.refuse("holds a (posix|nt).system, .*nothing in it was run", generator=path)
    assert not marker.exists()
