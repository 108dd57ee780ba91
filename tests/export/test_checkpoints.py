"""Checkpoint files, however they were written, give the networks that were stored."""

from __future__ import annotations

import argparse
import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_files import (
    CONTAINERS,
    Contents,
    official_state,
    on_gpu,
    read,
    write_deflated,
    write_legacy,
    write_numpy_1,
    write_zip,
)
from hyperstyle_export.networks.hyperstyle import HyperStyle
from hyperstyle_export.networks.layers import fir_kernel
from hyperstyle_export.readers import official
from hyperstyle_export.readers.official import (
    load_model,
    read_generator,
    read_hyperstyle,
)
from models import ORDINARY_ONLY, TINY, build_model
from synthetic import official_config, write_checkpoints

SHARED = "hypernet.shared_weight_hypernet"
ALIAS = "hypernet.refinement_blocks.{}.hypernet.{}"
PARAMETERS = ("w1", "b1", "w2", "b2")


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    """What the tiny checkpoints hold, under the keys of our modules."""
    return build_model(TINY).state_dict()


def same_weights(model: HyperStyle, expected: dict[str, torch.Tensor]) -> None:
    state = model.state_dict()
    assert state.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(state[key], value), key
        assert state[key].dtype == value.dtype, key


# Alterations of the dictionaries that change nothing of what is computed.


def unchanged(hyper: Contents, encoder: Contents) -> None:
    pass


def plain_top_level(hyper: Contents, encoder: Contents) -> None:
    """No `state_dict` entry: the prefixed keys lie beside the others."""
    for contents in (hyper, encoder):
        contents.update(contents.pop("state_dict"))


def under_module(hyper: Contents, encoder: Contents) -> None:
    """As DataParallel names its network's tensors."""
    for contents in (hyper, encoder):
        contents["state_dict"] = {f"module.{k}": v for k, v in contents["state_dict"].items()}


def training_entries(hyper: Contents, encoder: Contents) -> None:
    optimiser = {"state": {0: {"step": 5, "exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1}]}
    hyper |= {"global_step": 20000, "best_val_loss": 0.25, "optimizer": optimiser}
    encoder |= {"discriminator_state_dict": {"weight": torch.ones(3)}, "global_step": 3}


def w_encoder_with_decoder(hyper: Contents, encoder: Contents) -> None:
    """The official W-encoder file has a generator of its own, which HyperStyle does not use."""
    encoder["state_dict"] |= {"decoder.input.input": torch.ones(1, 16, 4, 4)}


def hyperstyle_with_w_encoder(hyper: Contents, encoder: Contents) -> None:
    hyper["state_dict"] |= {"encoder.linear.weight": torch.zeros(16, 24)}


def double_parameters(hyper: Contents, encoder: Contents) -> None:
    for contents in (hyper, encoder):
        contents["state_dict"] = OrderedDict(
            (k, torch.nn.Parameter(v.double()) if v.is_floating_point() else v)
            for k, v in contents["state_dict"].items()
        )
    hyper["latent_avg"] = torch.nn.Parameter(hyper["latent_avg"].double())


def without_counters(hyper: Contents, encoder: Contents) -> None:
    for contents in (hyper, encoder):
        state = contents["state_dict"]
        kept = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
        assert len(kept) < len(state)
        contents["state_dict"] = kept


def aliases_as_copies(hyper: Contents, encoder: Contents) -> None:
    state = hyper["state_dict"]
    hyper["state_dict"] = {k: v.clone() for k, v in state.items()}


def no_aliases(hyper: Contents, encoder: Contents) -> None:
    for index in TINY.hypernetwork.shared_layers:
        for name in PARAMETERS:
            del hyper["state_dict"][ALIAS.format(index, name)]


def namespace(hyper: Contents, encoder: Contents) -> None:
    hyper["opts"] = argparse.Namespace(**hyper["opts"], learning_rate=1e-4, exp_dir=None)


def numpy_scalars(hyper: Contents, encoder: Contents) -> None:
    hyper["opts"] |= {"lr": np.float64(1e-4), "batch": np.int64(8), "best": np.float32(0.5)}
    hyper["opts"] |= {"flag": np.bool_(True), "steps": np.int32(3)}
    hyper["best_val_loss"] = np.float64(0.25)


STORED = {
    "zip": (unchanged, write_zip),
    "legacy": (unchanged, write_legacy),
    "deflated_zip": (unchanged, write_deflated),
    "gpu_zip": (unchanged, on_gpu(write_zip)),
    "gpu_legacy": (unchanged, on_gpu(write_legacy)),
    "plain_top_level": (plain_top_level, write_zip),
    "under_module": (under_module, write_zip),
    "training_entries": (training_entries, write_zip),
    "w_encoder_with_decoder": (w_encoder_with_decoder, write_zip),
    "hyperstyle_with_w_encoder": (hyperstyle_with_w_encoder, write_zip),
    "double_parameters": (double_parameters, write_zip),
    "without_counters": (without_counters, write_zip),
    "aliases_as_copies": (aliases_as_copies, write_zip),
    "aliases_as_copies_legacy": (aliases_as_copies, write_legacy),
    "no_aliases": (no_aliases, write_zip),
    "namespace": (namespace, write_zip),
    "namespace_legacy": (namespace, write_legacy),
    "numpy_scalars": (numpy_scalars, write_zip),
    "numpy_scalars_legacy": (numpy_scalars, write_legacy),
    "numpy_1_scalars": (numpy_scalars, write_numpy_1),
}


@pytest.mark.parametrize("case", STORED)
def test_what_was_stored_is_read(
    case: str,
    contents: Contents,
    w_contents: Contents,
    reference: dict[str, torch.Tensor],
    tmp_path: Path,
) -> None:
    alter, write = STORED[case]
    alter(contents, w_contents)
    write(contents, tmp_path / "h.pt")
    if write is write_numpy_1:
        write_zip(w_contents, tmp_path / "w.pt")
    else:
        write(w_contents, tmp_path / "w.pt")
    model = load_model(tmp_path / "h.pt", tmp_path / "w.pt")
    assert model.config == TINY
    same_weights(model, reference)
    assert not model.training
    assert not any(tensor.requires_grad for tensor in model.state_dict(keep_vars=True).values())


@pytest.mark.parametrize("container", CONTAINERS)
def test_half_precision_is_read_once(
    container: str,
    contents: Contents,
    w_contents: Contents,
    reference: dict[str, torch.Tensor],
    tmp_path: Path,
) -> None:
    for file in (contents, w_contents):
        halves: dict[int, torch.Tensor] = {}
        file["state_dict"] = {
            k: halves.setdefault(v.data_ptr(), v.half()) if v.is_floating_point() else v
            for k, v in file["state_dict"].items()
        }
    CONTAINERS[container](contents, tmp_path / "h.pt")
    CONTAINERS[container](w_contents, tmp_path / "w.pt")
    expected = {
        k: v.half().float() if v.is_floating_point() and k != "latent_avg" else v
        for k, v in reference.items()
    }
    same_weights(load_model(tmp_path / "h.pt", tmp_path / "w.pt"), expected)
    # At 1024 px an alias is 550 MB: converted one by one they would take 5.5 GB.
    hypernet = read_hyperstyle(tmp_path / "h.pt").hypernet
    copies = {tensor.data_ptr() for key, tensor in hypernet.items() if key.endswith("hypernet.w2")}
    assert len(copies) == 1


def test_official_sizes_are_read(tmp_path: Path) -> None:
    state = official_state("hyperstyle_256")
    average = torch.ones(512)
    for key in state:
        if key.endswith(".kernel"):
            state[key] = fir_kernel()
    torch.save({"state_dict": state, "latent_avg": average, "opts": {}}, tmp_path / "h.pt")
    torch.save({"state_dict": official_state("w_encoder_256")}, tmp_path / "w.pt")
    model = load_model(tmp_path / "h.pt", tmp_path / "w.pt")
    assert model.config == official_config(256)
    assert model.latent_avg.shape == (14, 512)


OPTIONS: dict[str, tuple[object, str | None, tuple[int, int], tuple[int, int] | None]] = {
    # case: options, --dataset-type, input size, rows kept of a 32 px image
    "absent": (None, None, (256, 256), None),
    "empty": ({}, None, (256, 256), None),
    "not_options": ("ffhq", None, (256, 256), None),
    "faces": ({"dataset_type": "ffhq_hypernet"}, None, (256, 256), None),
    "cars": ({"dataset_type": "cars_hypernet"}, None, (192, 256), (4, 28)),
    "my_cars": ({"dataset_type": "my_cars"}, None, (192, 256), (4, 28)),
    "namespace": (argparse.Namespace(dataset_type="cars"), None, (192, 256), (4, 28)),
    "override_to_cars": ({"dataset_type": "ffhq"}, "cars_encode", (192, 256), (4, 28)),
    "override_from_cars": ({"dataset_type": "cars"}, "ffhq", (256, 256), None),
    "override_absent": (None, "cars", (192, 256), (4, 28)),
    "input_size": ({"input_size": [64, 64]}, None, (64, 64), None),
    "input_size_tuple": ({"input_size": (32, 32)}, None, (32, 32), None),
    "input_size_none": ({"input_size": None}, None, (256, 256), None),
    "input_size_smaller": ({"input_size": [16, 8]}, None, (16, 8), None),
    "input_size_of_cars": (
        {"dataset_type": "cars", "input_size": [24, 32]},
        None,
        (24, 32),
        (4, 28),
    ),
    "layers_beyond_the_model": ({"layers_to_tune": "0,2,3,20,21,23,24"}, None, (256, 256), None),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_fix_the_sizes(
    case: str, contents: Contents, tiny_checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    options, dataset_type, input_size, crop_rows = OPTIONS[case]
    del contents["opts"]
    if options is not None:
        contents["opts"] = options
    torch.save(contents, tmp_path / "h.pt")
    config = load_model(tmp_path / "h.pt", tiny_checkpoints[1], dataset_type).config
    assert (config.input_size, config.crop_rows) == (input_size, crop_rows)
    assert config.hypernetwork == TINY.hypernetwork


AVERAGES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "row_per_latent": lambda average: average,
    "with_batch_axis": lambda average: average[None],
    "vector": lambda average: average[0],
    "one_row": lambda average: average[:1],
    "half_precision": lambda average: average.half(),
}


@pytest.mark.parametrize("case", AVERAGES)
def test_average_latent_is_stored_in_several_shapes(
    case: str, contents: Contents, tiny_checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    stored = AVERAGES[case](contents["latent_avg"])
    contents["latent_avg"] = stored
    torch.save(contents, tmp_path / "h.pt")
    average = load_model(tmp_path / "h.pt", tiny_checkpoints[1]).latent_avg
    assert average.dtype == torch.float32
    rows = stored.float().reshape(-1, 16)
    assert torch.equal(average, rows if len(rows) == 8 else rows.repeat(8, 1))


def test_absent_average_latent_is_computed(
    contents: Contents,
    tiny_checkpoints: tuple[Path, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    del contents["latent_avg"]
    torch.save(contents, tmp_path / "h.pt")
    with caplog.at_level(logging.WARNING):
        average = load_model(tmp_path / "h.pt", tiny_checkpoints[1]).latent_avg
    assert "stores no average latent" in caplog.text
    assert average.shape == (8, 16)
    assert not average.requires_grad
    assert torch.equal(average, average[:1].expand(8, -1))
    w = mapped(contents["state_dict"], np.random.default_rng(7).standard_normal((50_000, 16)))
    # Two means of 100 000 and 50 000 samples differ by the noise of both.
    noise = w.std(axis=0) * np.sqrt(1 / 100_000 + 1 / 50_000)
    expected = w.mean(axis=0)
    assert np.abs(expected).max() > 20 * noise.max()
    assert (np.abs(average[0].numpy() - expected) < 5 * noise).all()
    again = load_model(tmp_path / "h.pt", tiny_checkpoints[1]).latent_avg
    assert torch.equal(average, again)


def test_computing_the_average_latent_keeps_no_gradients() -> None:
    """They would take gigabytes at the official width."""
    generator = build_model(TINY).decoder.requires_grad_(True)
    assert not official.average_latent(generator).requires_grad


def mapped(state: dict[str, torch.Tensor], z: np.ndarray) -> np.ndarray:
    """The mapping network in double precision, from StyleGAN2's formulas: z [B,W] -> w [B,W]."""
    w = z / np.sqrt(np.square(z).mean(axis=1, keepdims=True) + 1e-8)
    for layer in range(1, TINY.generator.mapping_depth + 1):
        weight = state[f"decoder.style.{layer}.weight"].double().numpy() * 0.01 / np.sqrt(16)
        w = w @ weight.T + state[f"decoder.style.{layer}.bias"].double().numpy() * 0.01
        w = np.where(w < 0, 0.2 * w, w) * np.sqrt(2)
    return w


def test_unused_shared_hypernetwork_is_ignored(tmp_path: Path) -> None:
    """The official code stores it even where no layer of `layers_to_tune` uses it."""
    paths = write_checkpoints(ORDINARY_ONLY, tmp_path, {"input_size": [64, 64]})
    contents = read(paths[0])
    for name, shape in {"w1": (16, 144), "b1": (144,), "w2": (16, 256), "b2": (256,)}.items():
        contents["state_dict"][f"{SHARED}.{name}"] = torch.ones(shape)
    torch.save(contents, paths[0])
    model = load_model(*paths)
    assert model.config.hypernetwork.shared_layers == ()
    same_weights(model, build_model(ORDINARY_ONLY).state_dict())


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("shape", [(16,), (1, 16), None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_generator_files_are_read(
    container: str, shape: tuple[int, ...] | None, prefix: str, tmp_path: Path
) -> None:
    decoder = build_model(TINY).decoder
    stored = {f"{prefix}{key}": value for key, value in decoder.state_dict().items()}
    contents: Contents = {"g_ema": stored, "g": {}, "d": {"x": torch.ones(1)}}
    if shape is not None:
        contents["latent_avg"] = torch.arange(16.0).reshape(shape)
    CONTAINERS[container](contents, tmp_path / "generator.pt")
    generator, average = read_generator(tmp_path / "generator.pt")
    assert generator.config == TINY.generator
    expected, state = decoder.state_dict(), generator.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    assert not generator.training
    if shape is None:
        assert average is None
    else:
        assert average is not None
        assert torch.equal(average, torch.arange(16.0))
