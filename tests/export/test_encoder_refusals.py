"""Encoders that make no bundle with the rest are refused in one sentence, and nothing is written.

Every case is the build command with one file that is wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from build_command import Command
from checkpoint_files import CONTAINERS, UNREADABLE, Malicious, prove_malicious
from hyperstyle_export.networks.config import GeneratorConfig
from models import TINY, finetuned_generator, tiny_encoder

Contents = dict[str, Any]
Alteration = Callable[[Contents], object]

RESTYLE, PSP, E4E = "ProgressiveBackboneEncoder", "GradualStyleEncoder", "Encoder4Editing"


def tensors(alter: Callable[[dict[str, torch.Tensor]], object]) -> Alteration:
    return lambda contents: alter(contents["state_dict"])


def option(**changed: object) -> Alteration:
    return lambda contents: contents["opts"].update(changed)


def remove(*keys: str) -> Alteration:
    return tensors(lambda state: [state.pop(key) for key in keys])


def put(key: str, value: torch.Tensor) -> Alteration:
    return tensors(lambda state: state.update({key: value}))


def drop(prefix: str) -> Alteration:
    return tensors(lambda state: [state.pop(k) for k in list(state) if k.startswith(prefix)])


def scale(key: str, factor: float) -> Alteration:
    return tensors(lambda state: state.update({key: state[key] * factor}))


def poison(key: str) -> Alteration:
    return tensors(lambda state: state.update({key: torch.full_like(state[key], torch.nan)}))


def no_type(contents: Contents) -> None:
    del contents["opts"]["encoder_type"]


def both(*alterations: Alteration) -> Alteration:
    return lambda contents: [alter(contents) for alter in alterations]


# What is wrong: the file's class, how it is altered, and what the sentence says.
ALTERED: dict[str, tuple[str, Alteration, str]] = {
    "another_generator_by_its_option": (
        E4E,
        option(stylegan_size=1024),
        r"is for a generator of 1024 px \(opts.stylegan_size\), but the generator has 32 px",
    ),
    "another_output_size": (PSP, option(output_size=512), r"of 512 px \(opts.output_size\)"),
    "too_few_rows": (
        RESTYLE,
        drop("encoder.styles.7."),
        r"makes 7 rows of latents .*, but the generator of 32 px wants 8",
    ),
    "too_many_rows": (
        RESTYLE,
        tensors(
            lambda state: state.update(
                {
                    key.replace("styles.7.", f"styles.{row}."): value
                    for key, value in list(state.items())
                    if "styles.7." in key
                    for row in (8, 9)
                }
            )
        ),
        r"makes 10 rows of latents \(for a generator of 64 px\).* wants 8",
    ),
    "other_generator_weights": (
        RESTYLE,
        scale("decoder.convs.3.conv.weight", 1.01),
        r"the generator of .* is not that of .*hyperstyle.pt \('decoder.convs.3.conv.weight' "
        r"differs by 0.01 of its size\).*--allow-other-generator",
    ),
    "other_stored_noise": (
        E4E,
        scale("decoder.noises.noise_2", -1),
        r"'decoder.noises.noise_2' differs by 2 ",
    ),
    "generator_lacks_a_tensor": (
        E4E,
        remove("decoder.to_rgbs.1.bias"),
        r"'decoder.to_rgbs.1.bias' lacks it",
    ),
    "encoder_lacks_a_tensor": (
        RESTYLE,
        remove("encoder.styles.3.convs.2.bias"),
        "'encoder.styles.3.convs.2.bias' is missing",
    ),
    "encoder_has_more": (
        RESTYLE,
        put("encoder.extra.weight", torch.ones(1)),
        "'encoder.extra.weight' is not expected",
    ),
    "encoder_without_its_stem": (
        RESTYLE,
        remove("encoder.input_layer.0.weight"),
        "encoder has no 'input_layer.0.weight'",
    ),
    "encoder_of_a_wrong_shape": (
        PSP,
        put("encoder.latlayer1.weight", torch.ones(24, 5, 1, 1)),
        r"'encoder.latlayer1.weight' has shape \(24, 5, 1, 1\), expected \(24, 16, 1, 1\)",
    ),
    "encoder_poisoned": (
        PSP,
        poison("encoder.styles.1.linear.weight"),
        "'encoder.styles.1.linear.weight' holds NaN or infinity",
    ),
    "average_poisoned": (
        E4E,
        lambda contents: contents["latent_avg"].fill_(torch.inf),
        "'latent_avg' holds NaN or infinity",
    ),
    "average_of_another_model": (
        E4E,
        lambda contents: contents.update(latent_avg=torch.zeros(18, 512)),
        r"'latent_avg' has shape \(18, 512\), expected \(8, 16\)",
    ),
    "restyle_of_one_picture": (
        RESTYLE,
        put("encoder.input_layer.0.weight", torch.ones(8, 3, 3, 3)),
        "reads 3 channels, where ReStyle's read 6",
    ),
    "channels_contradicted": (
        PSP,
        option(input_nc=6),
        r"says that its encoder reads 6 channels \(opts.input_nc\), but it reads 3",
    ),
    "class_contradicted_by_keys": (
        PSP,
        option(encoder_type="BackboneEncoderUsingLastLayerIntoW"),
        "encoder has no 'linear.weight'",
    ),
    "class_that_is_not_supported": (
        PSP,
        option(encoder_type="BackboneEncoderUsingLastLayerIntoWPlus"),
        "an encoder of type 'BackboneEncoderUsingLastLayerIntoWPlus', which is not supported",
    ),
    "class_that_is_no_text": (PSP, option(encoder_type=[3]), r"of type \[3\], which is not"),
    "hyperstyles_own_encoder": (
        PSP,
        option(encoder_type="WEncoder"),
        "is a W-encoder of HyperStyle; give it as --w-encoder",
    ),
    "no_word_of_what_it_is": (
        PSP,
        no_type,
        r"leave a choice; give it as --encoder psp=file.pt or --encoder e4e=file.pt",
    ),
    "restyle_without_a_word": (RESTYLE, no_type, "--encoder restyle-psp=file.pt or"),
    "no_options_at_all": (E4E, lambda contents: contents.pop("opts"), "leave a choice"),
    "encoder_keys_gone": (
        E4E,
        drop("encoder."),
        "--encoder wants a pSp, e4e or ReStyle file with 'encoder.' keys",
    ),
    "state_that_is_empty": (E4E, lambda contents: contents["state_dict"].clear(), "wants a pSp"),
    "pictures_of_cars": (
        RESTYLE,
        option(dataset_type="cars_encode"),
        r"\(opts.dataset_type 'cars_encode'\), and .*hyperstyle.pt for 64 x 64",
    ),
    "pictures_of_another_size": (
        RESTYLE,
        option(input_size=[32, 32]),
        r"is for pictures of 32 x 32 .*hyperstyle.pt for 64 x 64",
    ),
    "style_blocks_too_short": (
        RESTYLE,
        both(*(drop(f"encoder.styles.{row}.convs.2.") for row in range(8))),
        r"'encoder.styles.0' leaves 2 x 2 values of a picture of 64 x 64",
    ),
    "input_size_that_is_none": (E4E, option(input_size="64"), "the option 'input_size' is '64'"),
}


@pytest.fixture
def file(tmp_path: Path, command: Command) -> Path:
    return command.directory / "file.pt"


@pytest.mark.parametrize("case", ALTERED)
def test_an_encoder_that_does_not_fit_is_refused(case: str, file: Path, command: Command) -> None:
    encoder_type, alter, message = ALTERED[case]
    contents = torch.load(tiny_encoder(file, encoder_type), weights_only=True)
    alter(contents)
    torch.save(contents, file)
    line = command.refuse(message, encoder=file)
    assert str(file) in line
    assert line.count(". ") == 0  # one sentence


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_files_are_refused(case: str, file: Path, command: Command) -> None:
    write, message = UNREADABLE[case]
    write(file)
    command.refuse(message, encoder=file)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("wrapped", [lambda x: x, lambda x: argparse.Namespace(hidden=[x])])
def test_nothing_in_a_file_is_run(
    container: str, wrapped: Callable[[object], object], file: Path, command: Command
) -> None:
    contents = torch.load(tiny_encoder(file, E4E), weights_only=True)
    marker = file.with_suffix(".ran")
    contents["opts"] = wrapped(Malicious(marker))
    CONTAINERS[container](contents, file)
    prove_malicious(file, marker)
    command.refuse("holds a (posix|nt).system, .*nothing in it was run", encoder=file)
    assert not marker.exists()


@pytest.mark.parametrize("container", CONTAINERS)
def test_cut_files_are_refused(container: str, file: Path, command: Command) -> None:
    contents = torch.load(tiny_encoder(file, RESTYLE), weights_only=True)
    CONTAINERS[container](contents, file)
    data = file.read_bytes()
    for part in range(1, 6):
        file.write_bytes(data[: len(data) * part // 6])
        command.refuse("is damaged or no torch file", encoder=file)


def test_files_of_other_methods_are_told_what_they_are(command: Command) -> None:
    command.refuse("is a HyperStyle checkpoint; --encoder wants", encoder=command.checkpoint)
    command.refuse("lacks it|keys leave a choice|decoder", encoder=command.w_encoder)


def test_two_encoders_of_a_kind_are_refused(file: Path, command: Command) -> None:
    other = tiny_encoder(file.with_name("other.pt"), E4E)
    tiny_encoder(file, E4E)
    command.refuse("are both e4e encoders", "--encoder", file, "--encoder", other)


def test_a_method_that_the_file_is_not_is_refused(file: Path, command: Command) -> None:
    tiny_encoder(file, E4E)
    said = command.refuse("which is e4e and not psp", encoder=f"psp={file}")
    assert f"give it as --encoder e4e={file}." in said


def test_half_of_hyperstyle_is_refused(file: Path, command: Command) -> None:
    tiny_encoder(file, E4E)
    command.refuse("give --checkpoint and --w-encoder", encoder=file, w_encoder=None)
    command.refuse("give --checkpoint and --w-encoder", encoder=file, checkpoint=None)
    command.refuse("nothing to build", checkpoint=None, w_encoder=None)


def test_an_encoder_without_its_generator_wants_one(file: Path, command: Command) -> None:
    contents = torch.load(tiny_encoder(file, E4E), weights_only=True)
    drop("decoder.")(contents)
    torch.save(contents, file)
    command.refuse(
        "holds an encoder without its generator; give the generator with --generator",
        encoder=file,
        checkpoint=None,
        w_encoder=None,
    )


def test_a_generator_of_another_size_is_refused(file: Path, command: Command) -> None:
    from dataclasses import replace

    wide = replace(TINY, generator=GeneratorConfig((16, 16, 12, 8, 8), 16, 2))
    tiny_encoder(file, E4E, config=wide)
    command.refuse("is for a generator of 64 px, but that of .* has 32 px", encoder=file)


def test_latents_of_another_width_are_refused(file: Path, command: Command) -> None:
    from dataclasses import replace

    narrow = replace(TINY, generator=GeneratorConfig((16, 16, 12, 8), 12, 2))
    contents = torch.load(tiny_encoder(file, RESTYLE, config=narrow), weights_only=True)
    drop("decoder.")(contents)
    torch.save(contents, file)
    command.refuse("makes latents of width 12, but the generator wants 16", encoder=file)


def test_another_generator_is_taken_where_it_is_asked_for(file: Path, command: Command) -> None:
    contents = torch.load(tiny_encoder(file, E4E), weights_only=True)
    scale("decoder.convs.3.conv.weight", 1.01)(contents)
    torch.save(contents, file)
    bundle = command.succeed("--allow-other-generator", encoder=file)
    assert "e4e" in bundle.manifest.methods


@pytest.mark.parametrize(
    ("channels", "width", "message"),
    [
        ((16, 16, 14, 8), 16, r"changes kernels of shape \(12, 16, 3, 3\) in 'convs.2', but those"),
        ((16, 16, 12, 8), 12, "makes latents of width 16, but the generator in .* wants 12"),
    ],
)
def test_another_generator_has_the_kernels_that_hyperstyle_changes(
    channels: tuple[int, ...], width: int, message: str, command: Command
) -> None:
    """Said before any graph is written, which would take the time of a build."""
    from dataclasses import replace

    other = replace(
        TINY,
        generator=GeneratorConfig(channels, width, 2),
        hypernetwork=replace(TINY.hypernetwork, tuned_layers=(9, 10), shared_layers=()),
    )
    generator = finetuned_generator(command.directory / "other.pt", other)
    command.refuse(message, "--allow-other-generator", generator=generator)
