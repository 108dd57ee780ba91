"""StyleGAN3 from NVIDIA's pickles: the numbers of the official code, and nothing executed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import fakeweights
import numpy as np
import pytest
import torch
from hyperstyle_export.graphs import stylegan3
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.graphs.generator import STYLE_OFFSETS
from hyperstyle_export.graphs.stylegan3 import (
    TRANSFORM,
    build_stylegan3_generator,
    build_stylegan3_mapping,
)
from hyperstyle_export.networks.generator import truncate
from hyperstyle_export.networks.stylegan3 import StyleGan3
from hyperstyle_export.networks.stylegan3_config import (
    StyleGan3Config,
    channel_widths,
    down_filter,
    up_filter,
)
from hyperstyle_export.readers.official import read_generator
from hyperstyle_export.readers.stylegan3 import read_stylegan3
from hyperstyle_export.readers.torch_files import CheckpointError
from nvidia_files import Persistent, write_generator
from onnx_sessions import open_session
from stylegan3_files import (
    GOLDEN,
    TINY,
    TINY_R,
    golden_schema,
    network_of,
    pickled,
    tensors_of,
    write_stylegan3,
)

# Of tests/golden/README.md.
IMAGE_TOLERANCE, INPUT_TOLERANCE, MAPPING_TOLERANCE = 2e-6, 5e-5, 1e-5
FILTER_TOLERANCE, TABLE_TOLERANCE = 1e-7, 1e-9
PUBLISHED_TOLERANCE = 1e-4  # of the spread of a picture

SIZE = (64, 64)
KINDS = pytest.mark.parametrize("kind", ["t", "r"])


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> Any:
    return np.load(golden_dir / "stylegan3.npz")


@cache
def network(kind: str) -> StyleGan3:
    """The golden generator, out of a pickle."""
    from tempfile import TemporaryDirectory

    schema = golden_schema(kind)
    with TemporaryDirectory() as directory:
        path = Path(directory) / "net.pkl"
        write_generator(path, pickled(tensors_of(GOLDEN[kind]), **schema["init_kwargs"]))
        return read_stylegan3(path)


def latents(kind: str) -> torch.Tensor:
    return torch.from_numpy(np.float32(0.5) * fakeweights.normal(f"sg3{kind}.ws", (2, 16, 64)))


def close(actual: Any, expected: np.ndarray, tolerance: float) -> None:
    assert actual.shape == expected.shape
    assert np.abs(np.asarray(actual) - expected).max() <= tolerance


@KINDS
def test_the_files_layout_is_the_official_one(kind: str) -> None:
    listed = {key: tuple(shape) for key, shape, _ in golden_schema(kind)["state_dict"]}
    own = {key: tuple(value.shape) for key, value in network(kind).state_dict().items()}
    assert own == listed
    assert network(kind).config == GOLDEN[kind]


@KINDS
def test_the_input_and_the_first_layer(kind: str, golden: Any) -> None:
    synthesis, rows = network(kind).synthesis, latents(kind)
    features = synthesis.input(rows[:, 0])
    area = torch.nn.functional.avg_pool2d(features, 3)
    close(area, golden[f"{kind}64/input_area12"], INPUT_TOLERANCE)
    layer = synthesis.layers()[0]
    after = layer(features, layer.style(rows[:, 1]))[:, :, 14:22, 14:22]
    close(after, golden[f"{kind}64/layer0_crop8"], INPUT_TOLERANCE)


@KINDS
def test_pictures_are_those_of_the_official_code(kind: str, golden: Any) -> None:
    synthesis = network(kind).synthesis
    close(synthesis(latents(kind)), golden[f"{kind}64/image"], IMAGE_TOLERANCE)


@KINDS
def test_the_graph_gives_the_official_pictures_moved_and_not(
    kind: str, golden: Any, tmp_path: Path
) -> None:
    """One graph, with a transform for each of three latents: two not moved, the third one is."""
    graph = build_stylegan3_generator(network(kind), SIZE, (TRANSFORM,))
    save_model(graph, tmp_path / "g.onnx")
    rows = latents(kind).numpy()
    eye = np.eye(3, dtype=np.float32)
    feeds = {
        "latents": np.concatenate([rows, rows[:1]]),
        "transform": np.stack([eye, eye, golden[f"{kind}64/transform"]]),
    }
    image, _ = open_session(tmp_path / "g.onnx").run(None, feeds)
    close(image[:2], golden[f"{kind}64/image"], IMAGE_TOLERANCE)
    close(image[2:], golden[f"{kind}64/image_transformed"], IMAGE_TOLERANCE)


@KINDS
def test_mapping_and_truncation(kind: str, golden: Any, tmp_path: Path) -> None:
    save_model(build_stylegan3_mapping(network(kind)), tmp_path / "m.onnx")
    z = fakeweights.normal(f"sg3{kind}.z", (2, 64))
    (w,) = open_session(tmp_path / "m.onnx").run(None, {"z": z})
    average = network(kind).mapping.w_avg
    cut = truncate(torch.from_numpy(w), average, 0.7)
    close(cut, golden[f"{kind}64/mapping_psi0.7"], MAPPING_TOLERANCE)
    close(network(kind).map(torch.from_numpy(z)), w, MAPPING_TOLERANCE)


@KINDS
def test_filters(kind: str, golden: Any) -> None:
    for spec in GOLDEN[kind].layers[:-1]:
        close(up_filter(spec), golden[f"{kind}64/up_filter/L{spec.index}"], FILTER_TOLERANCE)
        close(down_filter(spec), golden[f"{kind}64/down_filter/L{spec.index}"], FILTER_TOLERANCE)


TABLES: dict[str, StyleGan3Config] = {
    "t64/layers": GOLDEN["t"],
    "r64/layers": GOLDEN["r"],
    **{
        f"arith/t{side}": StyleGan3Config(side, channel_widths(side, 32768, 512))
        for side in (256, 512, 1024)
    },
    **{
        f"arith/r{side}": StyleGan3Config(side, channel_widths(side, 65536, 1024), 1, True)
        for side in (256, 1024)
    },
}


@pytest.mark.parametrize("table", TABLES)
def test_sizes_rates_and_cutoffs(table: str, golden: Any) -> None:
    columns = [str(name) for name in golden["t64/layer_columns"]]
    for spec, values in zip(TABLES[table].layers, golden[table], strict=True):
        before, after, pads = spec.before, spec.after, spec.padding
        own = {
            "in_channels": spec.in_channels,
            "out_channels": spec.out_channels,
            "in_size": before.side,
            "out_size": after.side,
            "in_rate": before.sampling,
            "out_rate": after.sampling,
            "tmp_rate": spec.activation_rate,
            "in_cutoff": before.cutoff,
            "out_cutoff": after.cutoff,
            "in_half_width": before.half_width,
            "out_half_width": after.half_width,
            "up": spec.up,
            "down": spec.down,
            "up_taps": spec.up_taps,
            "down_taps": spec.down_taps,
            **{f"pad_{axis}{end}": pads[end] for axis in "xy" for end in (0, 1)},
            "radial_down": spec.is_radial,
        }
        expected = dict(zip(columns, values, strict=True))
        for name, value in own.items():
            assert value == pytest.approx(expected[name], rel=TABLE_TOLERANCE), (spec.name, name)


@pytest.mark.parametrize("config", [TINY, TINY_R], ids=["t", "r"])
def test_styles_and_motions_are_inputs(config: StyleGan3Config, tmp_path: Path) -> None:
    model, rows = network_of(config), config.num_latents
    extras = (STYLE_OFFSETS, TRANSFORM)
    save_model(build_stylegan3_generator(model, (16, 16), extras), tmp_path / "g.onnx")
    widths = [spec.in_channels for spec in config.layers]
    w = fakeweights.normal("w", (2, rows, config.style_width))
    offsets = np.float32(0.3) * fakeweights.normal("styles", (2, sum(widths)))
    motions = np.float32(0.2) * fakeweights.normal("motions", (2, 3, 3)) + np.eye(3, dtype="f4")
    feeds = {"latents": w, "style_offsets": offsets, "transform": motions}
    image, small = open_session(tmp_path / "g.onnx").run(None, feeds)
    network, latents = model.synthesis, torch.from_numpy(w)
    parts = torch.from_numpy(offsets).split(widths, dim=1)
    styles = [a + b for a, b in zip(network.styles(latents), parts, strict=True)]
    expected = network.synthesise(latents[:, 0], styles, torch.from_numpy(motions))
    assert expected.std() > 0.01
    close(image, expected.numpy(), 1e-4 * float(expected.abs().max()))
    close(small, torch.nn.functional.avg_pool2d(expected, 2).numpy(), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t256", "t1024", "r1024"])
def test_the_published_sizes_follow_torch(name: str, tmp_path: Path) -> None:
    """The widths of NVIDIA's releases: one picture of the graph, beside the network in torch."""
    config = TABLES[f"arith/{name}"]
    model = network_of(config)
    side = config.resolution
    save_model(build_stylegan3_generator(model, (256, 256)), tmp_path / "g.onnx")
    kind = "r" if config.has_radial_filters else "t"
    latents = np.float32(0.5) * fakeweights.normal(f"sg3{kind}.ws", (1, config.num_latents, 512))
    expected = model.synthesis(torch.from_numpy(latents))[0].numpy()
    del model
    image, small = open_session(tmp_path / "g.onnx").run(None, {"latents": latents})
    assert expected.shape == (3, side, side)
    error, spread = np.abs(image[0] - expected).max(), expected.std()
    print(f"{name}: error {error:.1e} of {spread:.2g}, tolerance {PUBLISHED_TOLERANCE:.0e} of it")
    assert error <= PUBLISHED_TOLERANCE * spread
    blocks = expected.reshape(3, 256, side // 256, 256, side // 256).mean((2, 4))
    assert np.abs(small[0] - blocks).max() <= PUBLISHED_TOLERANCE * spread


def test_channels_go_through_the_filters_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps memory in bounds at 1024 px changes no number but by rounding."""
    w = fakeweights.normal("w", (1, TINY_R.num_latents, TINY_R.style_width))
    model, images, sizes = network_of(TINY_R), [], []
    for name in ("whole", "parts"):
        graph = build_stylegan3_generator(model, (32, 32))
        save_model(graph, tmp_path / name)
        sizes.append(len(graph.graph))
        images.append(open_session(tmp_path / name).run(None, {"latents": w})[0])
        monkeypatch.setattr(stylegan3, "LARGEST_ACTIVATION", 0)
        monkeypatch.setattr(stylegan3, "CHANNELS_AT_ONCE", 3)
    assert sizes[1] > sizes[0]
    close(images[1], images[0], IMAGE_TOLERANCE)


def test_activations_are_limited(tmp_path: Path) -> None:
    """`conv_clamp` is in the network and its graph."""
    plain = read_stylegan3(write_stylegan3(tmp_path / "plain.pkl", conv_clamp=0.02))
    assert plain.config.clamp == 0.02
    free = read_stylegan3(write_stylegan3(tmp_path / "free.pkl", conv_clamp=np.float64(1e6)))
    w = fakeweights.normal("w", (1, TINY.num_latents, TINY.style_width))
    images = [model.synthesis(torch.from_numpy(w)) for model in (plain, free)]
    assert (images[0] - images[1]).abs().max() > 1e-3
    assert images[0].abs().max() <= 0.02 * 0.25 * 1.0001
    save_model(build_stylegan3_generator(plain, (32, 32)), tmp_path / "g.onnx")
    image, _ = open_session(tmp_path / "g.onnx").run(None, {"latents": w})
    close(image, images[0].numpy(), 1e-6)


def _without(name: str) -> Callable[[Path], object]:
    tensors = {k: v for k, v in tensors_of(TINY).items() if k != name}
    return lambda path: write_stylegan3(path, tensors=tensors)


def _with(name: str, value: torch.Tensor) -> Callable[[Path], object]:
    return lambda path: write_stylegan3(path, tensors=tensors_of(TINY) | {name: value})


def _option(**options: Any) -> Callable[[Path], object]:
    return lambda path: write_stylegan3(path, **options)


def _renamed(old: str, new: str) -> Callable[[Path], object]:
    tensors = {k.replace(old, new): v for k, v in tensors_of(TINY).items()}
    return lambda path: write_stylegan3(path, tensors=tensors)


def _half(path: Path) -> None:
    data = write_stylegan3(path).read_bytes()
    path.write_bytes(data[: len(data) // 2])


FIRST = TINY.layers[0].name

WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file"),
    "half": (_half, "is damaged or no pickle of a network"),
    "no_network": (
        lambda path: write_generator(path, Persistent("Discriminator", {})),
        "is a network 'Discriminator' of an unknown layout",
    ),
    "conditional": (_with("mapping.embed.weight", torch.ones(16, 10)), "is conditional on classes"),
    "classes": (_option(c_dim=10), "has the option c_dim = 10, not 0"),
    "too_many_classes": (_option(c_dim=10**400), r"has the option c_dim = 10*\.\.\.0*, not 0"),
    "endless_clamp": (
        _option(conv_clamp=10**400),
        r"conv_clamp = 10*\.\.\.0*, which is no positive",
    ),
    "unwritable_clamp": (
        _option(conv_clamp=10**5000),
        "conv_clamp = a value with an integer of too many",
    ),
    "classes_in_a_tensor": (_option(c_dim=torch.ones(2)), r"has the option c_dim = tensor\("),
    "stopband": (_option(first_stopband=5.0), "has the option first_stopband = 5.0, not 4.28"),
    "text": (_option(margin_size="ten"), "has the option margin_size = 'ten', not 10"),
    "unknown_option": (_option(warp=True), "has an option 'warp' that is not known"),
    "mapping_rate": (
        _option(mapping_kwargs={"lr_multiplier": 0.1}),
        "has the option lr_multiplier = 0.1, not 0.01",
    ),
    "clamp": (_option(conv_clamp=-1), "has the option conv_clamp = -1, which is no positive"),
    "scale": (_option(output_scale="x"), "has the option output_scale = 'x', which is no positive"),
    "lacks_a_tensor": (_without(f"synthesis.{FIRST}.bias"), f"G_ema.synthesis.{FIRST}.bias' is mi"),
    "lacks_a_layer": (_renamed("L2_", "L9_"), r"has the layers \[0, 1, 3, 4, 5, 9\]"),
    "other_side": (_renamed("L1_36_", "L1_52_"), "has a layer 'G_ema.synthesis.L1_52_8', where 32"),
    "other_colours": (_renamed("L5_32_3", "L5_32_4"), "makes pictures of 4 channels"),
    "other_filter": (
        _with(f"synthesis.{FIRST}.up_filter", torch.ones(12) / 12),
        f"has another filter 'G_ema.synthesis.{FIRST}.up_filter'",
    ),
    "motion": (
        _with("synthesis.input.transform", torch.diag(torch.tensor([2.0, 2.0, 1.0]))),
        "has a motion built in",
    ),
    "magnitude": (
        _with(f"synthesis.{FIRST}.magnitude_ema", torch.tensor(-1.0)),
        "magnitude_ema' = -1, not above 0",
    ),
    "not_finite": (
        _with("synthesis.input.phases", torch.full((8,), torch.nan)),
        "holds NaN or infinity",
    ),
    "kernel": (
        _with(f"synthesis.{FIRST}.weight", torch.ones(8, 8, 5, 5)),
        r"has convolutions of the shape \(8, 8, 5, 5\)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_refused(case: str, tmp_path: Path) -> None:
    write, message = WRONG[case]
    path = tmp_path / "net.pkl"
    write(path)
    with pytest.raises(CheckpointError, match=message) as raised:
        read_stylegan3(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_it_is_no_generator_of_stylegan2(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is of StyleGAN3"):
        read_generator(write_stylegan3(tmp_path / "net.pkl"))
