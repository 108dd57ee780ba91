"""What inversions are tied to: the generator's weights and layout, and what expands codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hyperstyle_export.bundles.recovery import recover_model
from hyperstyle_export.bundles.spaces import code_space, generator_space
from hyperstyle_export.networks.hyperstyle import HyperStyle
from hyperstyle_rt.formats.bundle import Bundle
from hyperstyle_rt.formats.bundle_lookup import find_bundle
from models import ALL_LAYERS, CARS, TINY, build_model

SPACE, CODES = "generator", "codes"


def nudged(name: str) -> Callable[[HyperStyle], HyperStyle]:
    """The model with one number of a tensor changed by its last bit."""

    def nudge(model: HyperStyle) -> HyperStyle:
        tensor = model.state_dict()[name].view(-1)
        tensor[0] = torch.nextafter(tensor[0], torch.tensor(torch.inf))
        return model

    return nudge


# What is changed, and the identities that change with it.
CHANGES: dict[str, tuple[Callable[[HyperStyle], HyperStyle], set[str]]] = {
    "nothing": (lambda model: model, set()),
    "a_kernel": (nudged("decoder.convs.3.conv.weight"), {SPACE}),
    "a_modulation": (nudged("decoder.to_rgb1.conv.modulation.bias"), {SPACE}),
    "the_constant": (nudged("decoder.input.input"), {SPACE}),
    "stored_noise": (nudged("decoder.noises.noise_2"), {SPACE}),
    "noise_strength": (nudged("decoder.conv1.noise.weight"), {SPACE}),
    "the_mapping": (nudged("decoder.style.1.weight"), set()),
    "the_average": (nudged("latent_avg"), set()),
    "the_encoder": (nudged("encoder.linear.weight"), set()),
    "the_hypernetworks_body": (nudged("hypernet.body.0.conv1.weight"), set()),
    "a_codes_convolution": (nudged("hypernet.refinement_blocks.5.convs.0.weight"), set()),
    "a_head": (nudged("hypernet.refinement_blocks.5.output.1.weight"), {CODES}),
    "a_heads_bias": (nudged("hypernet.refinement_blocks.9.output.1.bias"), {CODES}),
    "the_shared_head": (nudged("hypernet.shared_weight_hypernet.w1"), {CODES}),
    "more_tuned_layers": (lambda _: build_model(ALL_LAYERS), {CODES}),
    "a_crop": (lambda _: build_model(replace(TINY, crop_rows=(4, 28))), {SPACE}),
    "the_size": (lambda _: build_model(CARS), {SPACE, CODES}),
    "what_networks_look_at": (lambda _: build_model(replace(TINY, input_size=(32, 32))), set()),
}


@pytest.mark.parametrize("case", CHANGES)
def test_identities_change_with_what_they_identify(case: str) -> None:
    change, expected = CHANGES[case]
    before, after = build_model(TINY), change(build_model(TINY))
    changed = set()
    if generator_space(before) != generator_space(after):
        changed.add(SPACE)
    if code_space(before) != code_space(after):
        changed.add(CODES)
    assert changed == expected


def test_the_spaces_of_the_bundle_portraits_are_those_of_its_networks() -> None:
    bundle = Bundle.open(find_bundle("portraits"))
    model = recover_model(bundle)
    assert bundle.manifest.space == generator_space(model)
    assert bundle.manifest.codes is not None
    assert bundle.manifest.codes.space == code_space(model)
