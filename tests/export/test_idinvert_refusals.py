"""IDInvert's files that make no bundle are refused in one sentence, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from build_command import Command
from checkpoint_files import CONTAINERS, UNREADABLE, Malicious, prove_malicious
from hyperstyle_export.networks.idinvert import IdInvertEncoderConfig
from hyperstyle_export.networks.stylegan1 import StyleGan1Config
from synthetic.idinvert import TINY, encoder_contents, generator_contents, write_files

Contents = dict[str, torch.Tensor]
Files = dict[str, Path]

GENERATOR, ENCODER, VGG16 = "generator", "encoder", "vgg16"
BIAS = "synthesis.layer3.epilogue.bias"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return write_files(tmp_path)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path, (Path(), Path()))


def refuse(command: Command, files: Files, message: str, *more: object) -> str:
    options = {"checkpoint": None, "w_encoder": None, GENERATOR: files[GENERATOR]}
    return command.refuse(
        message, *more, **options, encoder=files[ENCODER], refine_vgg16=files[VGG16]
    )


def put(key: str, value: torch.Tensor) -> Callable[[Contents], object]:
    return lambda contents: contents.update({key: value})


def drop(key: str) -> Callable[[Contents], object]:
    return lambda contents: contents.pop(key)


# Which file is wrong, how, and what the sentence says.
ALTERED: dict[str, tuple[str, Callable[[Contents], object], str]] = {
    "generator_lacks_a_tensor": (GENERATOR, drop(BIAS), f"'{BIAS}' is missing"),
    "generator_has_more": (GENERATOR, put("extra", torch.ones(1)), "'extra' is not expected"),
    "generator_of_a_wrong_shape": (
        GENERATOR,
        put(BIAS, torch.ones(5)),
        rf"'{BIAS}' has shape \(5,\), expected \(10,\)",
    ),
    "generator_poisoned": (
        GENERATOR,
        put(BIAS, torch.full((10,), torch.nan)),
        f"'{BIAS}' holds NaN or infinity",
    ),
    "generator_still_growing": (
        GENERATOR,
        put("synthesis.lod", torch.tensor(1.5)),
        r"still growing \('synthesis.lod' is not 0\)",
    ),
    "another_blur": (
        GENERATOR,
        put("synthesis.layer2.blur.kernel", torch.full((10, 1, 3, 3), 1 / 9)),
        r"'synthesis.layer2.blur.kernel' is not the \[1, 2, 1\] filter",
    ),
    "no_mapping": (
        GENERATOR,
        lambda contents: [contents.pop(k) for k in list(contents) if k.startswith("mapping.")],
        "has no mapping network",
    ),
    "average_of_another_width": (
        GENERATOR,
        put("truncation.w_avg", torch.ones(15)),
        r"'truncation.w_avg' has shape \(15,\), expected \(16,\)",
    ),
    "constant_of_no_axes": (
        GENERATOR,
        put("synthesis.layer0.const", torch.ones(12)),
        r"'synthesis.layer0.const' has shape \(12,\), which has not 4 axes",
    ),
    "encoder_lacks_a_tensor": (
        ENCODER,
        drop("block2.wscale1.bias"),
        "'block2.wscale1.bias' is missing",
    ),
    "encoder_poisoned": (
        ENCODER,
        put("block2.bn1.bn.running_var", torch.full((8,), torch.inf)),
        "'block2.bn1.bn.running_var' holds NaN or infinity",
    ),
    "encoder_without_its_last_layer": (ENCODER, drop("block4.fc.weight"), "'block4.fc.weight'"),
    "encoder_of_odd_latents": (
        ENCODER,
        put("block4.fc.weight", torch.ones(131, 192)),
        "gives 131 numbers, which are not 8 rows of latents",
    ),
    "vgg16_lacks_a_tensor": (VGG16, drop("layer17.bias"), r"vgg16.pth that IDInvert's authors"),
    "vgg16_of_a_wrong_shape": (
        VGG16,
        put("layer10.weight", torch.ones(6, 5, 3, 3)),
        "'layer10.weight' has shape .* does not fit the layer before it",
    ),
    "vgg16_poisoned": (
        VGG16,
        put("layer10.bias", torch.full((7,), torch.nan)),
        "'layer10' holds NaN or infinity",
    ),
}


@pytest.mark.parametrize("case", ALTERED)
def test_altered_files_are_refused(case: str, files: Files, command: Command) -> None:
    name, alter, message = ALTERED[case]
    contents = torch.load(files[name], weights_only=True)
    alter(contents)
    torch.save(contents, files[name])
    assert str(files[name]) in refuse(command, files, message)


@pytest.mark.parametrize("name", [GENERATOR, ENCODER, VGG16])
def test_unreadable_files_are_refused(name: str, files: Files, command: Command) -> None:
    cases = ("text", "half_a_legacy_file", "missing", "list")
    for case in cases if name == ENCODER else cases[:1]:
        write, message = UNREADABLE[case]
        files[name].unlink(missing_ok=True)
        write(files[name])
        assert str(files[name]) in refuse(command, files, message)


@pytest.mark.parametrize("name", [GENERATOR, ENCODER, VGG16])
def test_nothing_in_a_file_is_run(name: str, files: Files, command: Command) -> None:
    contents = torch.load(files[name], weights_only=True)
    marker = files[name].with_suffix(".ran")
    for write in list(CONTAINERS.values())[: None if name == ENCODER else 1]:
        write({**contents, "more": Malicious(marker)}, files[name])
        prove_malicious(files[name], marker)
        refuse(command, files, "holds a (posix|nt).system, .*nothing in it was run")
        assert not marker.exists()


def test_files_in_each_others_place(files: Files, command: Command) -> None:
    swapped = {**files, GENERATOR: files[ENCODER], ENCODER: files[GENERATOR]}
    refuse(command, swapped, "is an IDInvert encoder.*--generator wants the generator")
    twice = {**files, ENCODER: files[GENERATOR]}
    refuse(command, twice, "is an IDInvert generator .*--encoder wants the encoder")
    refuse(command, {**files, VGG16: files[ENCODER]}, "--refine-vgg16 wants the vgg16.pth")
    torch.save({"features.0.weight": torch.ones(1)}, files[VGG16])
    refuse(command, files, "VGG16 as torchvision has it, .* another scale")


def test_files_of_two_models(files: Files, command: Command) -> None:
    wide = IdInvertEncoderConfig((6, 8, 12, 12, 12), num_latents=10, style_width=16)
    torch.save(encoder_contents(wide), files[ENCODER])
    refuse(command, files, "is for pictures of 64 px, but the generator .* makes 32 px")
    narrow = IdInvertEncoderConfig(TINY.encoder.channels, num_latents=8, style_width=12)
    torch.save(encoder_contents(narrow), files[ENCODER])
    refuse(command, files, "gives latents of 12 numbers a row, but the generator .* takes 16")


def test_the_smallest_model_is_no_mistake(files: Files, command: Command) -> None:
    """8 px, of which VGG16 leaves one."""
    small = StyleGan1Config((12, 10), style_width=16, mapping_depth=1)
    torch.save(generator_contents(small), files[GENERATOR])
    tiny = IdInvertEncoderConfig((6, 8), num_latents=4, style_width=16)
    torch.save(encoder_contents(tiny), files[ENCODER])
    bundle = command.succeed(
        checkpoint=None,
        w_encoder=None,
        generator=files[GENERATOR],
        encoder=files[ENCODER],
        refine_vgg16=files[VGG16],
    )
    assert (bundle.manifest.resolution, bundle.manifest.num_latents) == (8, 4)


def test_options_that_do_not_go_together(files: Files, command: Command) -> None:
    refuse(command, files, "takes one --encoder", "--encoder", files[ENCODER])
    refuse(command, files, "HyperStyle checkpoints are for StyleGAN2", "--checkpoint", "x.pt")
    refuse(command, files, "--draft is for the generator of photographs", "--draft", "x")
    for option in (("--dataset-type", "cars"), ("--allow-other-generator",)):
        refuse(command, files, f"{option[0]} is for StyleGAN2 and StyleGAN3", *option)
    lpips = ("--refine-lpips", files[VGG16], "--refine-lpips-heads", files[VGG16])
    refuse(command, files, "give --refine-vgg16 or --refine-lpips, not both", *lpips)
    alone = {"checkpoint": None, "w_encoder": None}
    command.refuse("takes one --encoder", **alone, generator=files[GENERATOR])
    command.refuse("is an IDInvert encoder, which goes with", **alone, encoder=files[ENCODER])
    command.refuse(
        "--refine-vgg16 is for IDInvert",
        **alone,
        encoder=files[ENCODER],
        refine_vgg16=files[VGG16],
    )
