"""Files that are no checkpoint of the kind asked for are told what they are, and nothing is run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import (
    CONTAINERS,
    OTHER_KINDS,
    UNREADABLE,
    Contents,
    official_state,
    prove_malicious,
    write_malicious,
)
from hyperstyle_export.readers.official import (
    CheckpointError,
    load_model,
    read_generator,
    read_hyperstyle,
    read_w_encoder,
)
from models import TINY, build_model

SHARED = "hypernet.shared_weight_hypernet"
ALIAS = "hypernet.refinement_blocks.{}.hypernet.{}"

# Role of a file -> its reader, and what that one asks for.
READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "checkpoint": (read_hyperstyle, "--checkpoint wants a HyperStyle file"),
    "w_encoder": (read_w_encoder, "--w-encoder wants a W-encoder file"),
    "generator": (
        read_generator,
        "a StyleGAN2 generator file in rosinality's layout has",
    ),
}

Alteration = Callable[[dict[str, torch.Tensor]], object]


def refuse(path: Path, message: str, read_file: Callable[[Path], object]) -> None:
    """Check that reading the file fails with one sentence that names it."""
    with pytest.raises(CheckpointError, match=message) as raised:
        read_file(path)
    text = str(raised.value)
    assert str(path) in text
    assert text.endswith(".")
    assert "\n" not in text
    assert ". " not in text


@pytest.mark.parametrize("role", READERS)
@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_files_are_refused(case: str, role: str, tmp_path: Path) -> None:
    write, message = UNREADABLE[case]
    path = tmp_path / "unreadable.pt"
    write(path)
    refuse(path, message, READERS[role][0])


def test_a_name_that_torch_cannot_open_is_told(
    tiny_checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.pt")
    shutil.copy(tiny_checkpoints[0], path)
    refuse(path, "has a path that is no UTF-8, .*; rename it", read_hyperstyle)


@pytest.mark.parametrize(
    ("case", "role"),
    [(c, r) for c in OTHER_KINDS for r in READERS if (c, r) != ("rosinality", "generator")],
)
def test_other_kinds_are_told_what_they_are(case: str, role: str, tmp_path: Path) -> None:
    contents, message = OTHER_KINDS[case]
    path = tmp_path / "other.pt"
    torch.save(contents, path)
    read_file, wanted = READERS[role]
    refuse(path, f"{message}; {wanted}", read_file)


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_truncation_is_refused(container: str, contents: Contents, tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    CONTAINERS[container](contents, path)
    data = path.read_bytes()
    for part in range(1, 40):
        path.write_bytes(data[: len(data) * part // 40])
        refuse(path, "is damaged or no torch file", read_hyperstyle)


def test_exchanged_files_are_told_what_they_are(tiny_checkpoints: tuple[Path, Path]) -> None:
    hyperstyle, w_encoder = tiny_checkpoints
    refuse(w_encoder, "is a W-encoder checkpoint; --checkpoint wants", read_hyperstyle)
    refuse(hyperstyle, "is a HyperStyle checkpoint; --w-encoder wants", read_w_encoder)
    refuse(hyperstyle, "is a HyperStyle checkpoint; .* 'g_ema'", read_generator)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("role", READERS)
def test_nothing_in_a_file_is_run(container: str, role: str, tmp_path: Path) -> None:
    path = tmp_path / "malicious.pt"
    marker = write_malicious(CONTAINERS[container], path)
    prove_malicious(path, marker)
    refuse(path, "holds a (posix|nt).system, .*nothing in it was run", READERS[role][0])
    assert not marker.exists()


def test_separable_hypernetwork_is_refused_by_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "separable.pt"
    torch.save({"state_dict": official_state("hyperstyle_256_separable")}, path)
    refuse(path, r"\(SharedWeightsHyperNetResNetSeparable\).*not supported", read_hyperstyle)


def test_separable_hypernetwork_is_refused_by_its_option(
    contents: Contents, tmp_path: Path
) -> None:
    path = tmp_path / "separable.pt"
    for encoder_type in ("SharedWeightsHyperNetResNet", "SharedWeightsHyperNetResNetSeparable"):
        contents["opts"] = {"encoder_type": encoder_type}
        torch.save(contents, path)
        if encoder_type.endswith("Separable"):
            refuse(path, "Separable hypernetwork .*not supported", read_hyperstyle)
        else:
            read_hyperstyle(path)


def put(key: str, value: torch.Tensor) -> Alteration:
    return lambda state: state.update({key: value})


def remove(*keys: str) -> Alteration:
    return lambda state: [state.pop(key) for key in keys]


def poison(key: str, value: float) -> Alteration:
    """Make one element of a tensor a value that no trained network has."""

    def alter(state: dict[str, torch.Tensor]) -> None:
        state[key] = state[key].clone()
        state[key].view(-1)[-1] = value

    return alter


def differ(key: str) -> Alteration:
    """Change one element of an alias by little."""

    def alter(state: dict[str, torch.Tensor]) -> None:
        state[key] = state[key].clone()
        state[key].view(-1)[3] += 1e-3

    return alter


def fir(*taps: float) -> torch.Tensor:
    kernel = torch.outer(torch.tensor(taps), torch.tensor(taps))
    return kernel / kernel.sum() * 4


NAMES = ("w1", "b1", "w2", "b2")
BLOCKS = TINY.hypernetwork.shared_layers

# Alterations of the HyperStyle file.
BROKEN: dict[str, tuple[Alteration, str]] = {
    "missing": (
        remove("hypernet.bn1.weight"),
        "layout .* not know: 'hypernet.bn1.weight' is missing",
    ),
    "unexpected": (
        put("decoder.convs.6.conv.extra", torch.ones(1)),
        "'decoder.convs.6.conv.extra' is not expected",
    ),
    "wrong_shape": (
        put("decoder.convs.3.activate.bias", torch.ones(13)),
        r"'decoder.convs.3.activate.bias' has shape \(13,\), expected \(12,\)",
    ),
    "many": (
        remove(*(f"decoder.noises.noise_{n}" for n in range(7))),
        r"noise_0' is missing; .*noise_1' is missing; .*noise_2' is missing \(and 4 more\)",
    ),
    "hypernet_without_first_layer": (remove("hypernet.conv1.weight"), "no 'conv1.weight'"),
    "another_filter": (
        put("decoder.convs.0.conv.blur.kernel", fir(1, 2, 2, 1)),
        r"'decoder.convs.0.conv.blur.kernel' is not the \[1, 3, 3, 1\] filter",
    ),
    "another_filter_size": (
        put("decoder.to_rgbs.0.upsample.kernel", fir(1, 2, 1)),
        r"'decoder.to_rgbs.0.upsample.kernel' is not the \[1, 3, 3, 1\] filter",
    ),
    "alias_differs": (
        differ(ALIAS.format(2, "b1")),
        "'hypernet.refinement_blocks.2.hypernet.b1' differs from "
        "'hypernet.shared_weight_hypernet.b1'",
    ),
    "alias_differs_in_the_last_block": (
        differ(ALIAS.format(3, "w2")),
        "'hypernet.refinement_blocks.3.hypernet.w2' differs",
    ),
    "shared_differs_from_its_aliases": (differ(f"{SHARED}.w1"), "hypernet.w1' differs"),
    "alias_of_another_shape": (
        put(ALIAS.format(0, "b1"), torch.ones(1)),
        "'hypernet.refinement_blocks.0.hypernet.b1' differs",
    ),
    "aliases_only": (
        remove(*(f"{SHARED}.{name}" for name in NAMES)),
        "lacks 'hypernet.shared_weight_hypernet.w1'",
    ),
    "no_shared_hypernetwork": (
        remove(
            *(f"{SHARED}.{name}" for name in NAMES),
            *(ALIAS.format(index, name) for index in BLOCKS for name in NAMES),
        ),
        "'hypernet.shared_weight_hypernet.w1' is missing",
    ),
    "part_of_the_shared_hypernetwork": (
        remove(f"{SHARED}.w2", *(ALIAS.format(index, "w2") for index in BLOCKS)),
        "'hypernet.shared_weight_hypernet.w2' is missing",
    ),
    "nan": (
        poison("decoder.convs.1.conv.weight", float("nan")),
        "'decoder.convs.1.conv.weight' holds NaN or infinity",
    ),
    "infinity": (
        poison("hypernet.body.1.bn1.running_var", float("inf")),
        "'hypernet.body.1.bn1.running_var' holds NaN or infinity",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_in_a_checkpoint_is_named(
    case: str, contents: Contents, tiny_checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    alter, message = BROKEN[case]
    alter(contents["state_dict"])
    path = tmp_path / "broken.pt"
    torch.save(contents, path)
    refuse(path, message, lambda file: load_model(file, tiny_checkpoints[1]))


BROKEN_ENCODERS: dict[str, tuple[Alteration, str]] = {
    "missing": (
        remove("encoder.body.1.res_layer.2.weight"),
        "'encoder.body.1.res_layer.2.weight' is missing",
    ),
    "restyle": (
        put("encoder.input_layer.0.weight", torch.ones(8, 6, 3, 3)),
        r"reads 6 channels \(a ReStyle encoder\?\)",
    ),
    "other_style_width": (
        put("encoder.linear.weight", torch.ones(32, 24)),
        "makes latents of width 32, but the generator .* wants 16",
    ),
    "no_squeeze_excitation": (
        remove("encoder.body.0.res_layer.5.fc1.weight"),
        "no 'body.0.res_layer.5.fc1.weight'",
    ),
    "wider_squeeze": (
        put("encoder.body.0.res_layer.5.fc1.weight", torch.ones(99, 8, 1, 1)),
        "'encoder.body.0.res_layer.5.fc1.weight' has shape",
    ),
    "nan": (
        poison("encoder.linear.bias", float("nan")),
        "'encoder.linear.bias' holds NaN or infinity",
    ),
}


@pytest.mark.parametrize("case", BROKEN_ENCODERS)
def test_what_is_wrong_in_a_w_encoder_is_named(
    case: str, w_contents: Contents, tiny_checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    alter, message = BROKEN_ENCODERS[case]
    alter(w_contents["state_dict"])
    path = tmp_path / "broken.pt"
    torch.save(w_contents, path)
    refuse(path, message, lambda file: load_model(tiny_checkpoints[0], file))


def test_hypernetwork_of_a_larger_generator_is_refused(
    contents: Contents, tiny_checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    """Its block 9 exists, but the generator ends at layer 7."""
    state = contents["state_dict"]
    gone = ("decoder.convs.4.", "decoder.convs.5.", "decoder.to_rgbs.2.", "decoder.noises.noise_5")
    contents["state_dict"] = {k: v for k, v in state.items() if not k.startswith(gone)}
    path = tmp_path / "mixed.pt"
    torch.save(contents, path)
    message = "block 'refinement_blocks.8', but the generator's layers are 0 to 7"
    refuse(path, message, lambda file: load_model(file, tiny_checkpoints[1]))


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "text": ({"input_size": "64"}, "'input_size' is '64', not two positive integers"),
    "number": ({"input_size": 64}, "'input_size' is 64"),
    "one": ({"input_size": [64]}, r"is \[64\]"),
    "three": ({"input_size": [64, 64, 64]}, "not two positive integers"),
    "zero": ({"input_size": [0, 64]}, r"is \[0, 64\]"),
    "negative": ({"input_size": [64, -64]}, "not two positive integers"),
    "floats": ({"input_size": [64.0, 64.0]}, "not two positive integers"),
    "texts": ({"input_size": ["a", "b"]}, "not two positive integers"),
    "booleans": ({"input_size": [True, True]}, "not two positive integers"),
    "dictionary": ({"input_size": {64: 64, 65: 65}}, "not two positive integers"),
    "no_whole_ratio": ({"input_size": [48, 64]}, "32 x 32 cannot be pooled to .* 48 x 64"),
    "both_ways": ({"input_size": [64, 16]}, "32 x 32 cannot be pooled to .* 64 x 16"),
    "square_cars": (
        {"dataset_type": "cars", "input_size": [64, 64]},
        "24 x 32 cannot be pooled .*--dataset-type",
    ),
    "too_large": ({"input_size": [512, 512]}, "larger than the 256 x 256"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_input_sizes_are_refused(
    case: str, contents: Contents, tiny_checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    contents["opts"], message = BAD_OPTIONS[case]
    path = tmp_path / "sized.pt"
    torch.save(contents, path)
    refuse(path, message, lambda file: load_model(file, tiny_checkpoints[1]))


BAD_AVERAGES = {
    "another_width": (torch.ones(17), r"'latent_avg' has shape \(17,\), expected \(8, 16\)"),
    "another_count": (torch.ones(10, 16), r"shape \(10, 16\)"),
    "transposed": (torch.ones(16, 8), r"shape \(16, 8\)"),
    "scalar": (torch.tensor(1.0), r"shape \(\)"),
    "empty": (torch.ones(0, 16), r"shape \(0, 16\)"),
    "nan": (torch.full((16,), float("nan")), "'latent_avg' holds NaN"),
}


@pytest.mark.parametrize("case", BAD_AVERAGES)
def test_bad_average_latents_are_refused(
    case: str, contents: Contents, tiny_checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    contents["latent_avg"], message = BAD_AVERAGES[case]
    path = tmp_path / "average.pt"
    torch.save(contents, path)
    refuse(path, message, lambda file: load_model(file, tiny_checkpoints[1]))


BROKEN_GENERATORS: dict[str, tuple[Alteration, str]] = {
    "missing": (remove("style.1.bias"), "'g_ema.style.1.bias' is missing"),
    "unexpected": (put("extra", torch.ones(1)), "'g_ema.extra' is not expected"),
    "another_filter": (
        put("convs.0.conv.blur.kernel", fir(1, 1)),
        r"'g_ema.convs.0.conv.blur.kernel' is not the \[1, 3, 3, 1\] filter",
    ),
    "no_generator": (remove("conv1.conv.weight"), "no 'conv1.conv.weight'"),
    "nan": (poison("input.input", float("nan")), "'g_ema.input.input' holds NaN"),
}


@pytest.mark.parametrize("case", BROKEN_GENERATORS)
def test_what_is_wrong_in_a_generator_is_named(case: str, tmp_path: Path) -> None:
    alter, message = BROKEN_GENERATORS[case]
    state = build_model(TINY).decoder.state_dict()
    alter(state)
    path = tmp_path / "generator.pt"
    torch.save({"g_ema": state}, path)
    refuse(path, message, read_generator)


def test_average_of_another_generator_is_refused(tmp_path: Path) -> None:
    decoder = build_model(TINY).decoder.state_dict()
    path = tmp_path / "generator.pt"
    torch.save({"g_ema": decoder, "latent_avg": torch.ones(8, 16)}, path)
    refuse(path, r"'latent_avg' has shape \(8, 16\), expected \(1, 16\)", read_generator)
