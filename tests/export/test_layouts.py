"""The networks have the official keys and shapes, and are recognised by nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hyperstyle_export.networks.config import DEFAULT_TUNED_LAYERS, HyperStyleConfig
from hyperstyle_export.networks.generator import Generator
from hyperstyle_export.networks.hyperstyle import HyperStyle
from hyperstyle_export.readers.layouts import (
    LayoutError,
    infer_encoder,
    infer_generator,
    infer_hypernetwork,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CONFIGS
from synthetic import official_config
from torch import Tensor

State = dict[str, Tensor]

SCHEMA = Path(__file__).parents[1] / "golden" / "schema"

# Schema -> the config of the model it lists.
HYPERSTYLE = {
    "hyperstyle_64_unofficial": official_config(64),
    "hyperstyle_256": official_config(256),
    "hyperstyle_256_all_layers": official_config(256, ()),
    "hyperstyle_512": official_config(512),
    "hyperstyle_1024": official_config(1024),
    "hyperstyle_1024_all_layers": official_config(1024, ()),
}
W_ENCODER = {f"w_encoder_{size}": official_config(size) for size in (64, 256, 512, 1024)}


def schema(name: str) -> State:
    """The official file's keys and shapes as tensors without memory."""
    listed = json.loads((SCHEMA / f"{name}.json").read_text())["state_dict"]
    return {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, shape, dtype in listed
    }


def part(state: State, network: str) -> State:
    """One network's tensors, without its prefix."""
    return {k.removeprefix(f"{network}."): v for k, v in state.items() if k.startswith(network)}


def own_state(config: HyperStyleConfig, *networks: str) -> State:
    """What our modules store."""
    with torch.device("meta"):
        state = HyperStyle(config).state_dict()
    return {k: v for k, v in state.items() if k.split(".")[0] in networks}


def described(state: State) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in state.items()}


@pytest.mark.parametrize("name", HYPERSTYLE)
def test_hyperstyle_has_the_official_keys_and_shapes(name: str) -> None:
    own = own_state(HYPERSTYLE[name], "hypernet", "decoder")
    assert described(own) == described(schema(name))


@pytest.mark.parametrize("name", W_ENCODER)
def test_w_encoder_has_the_official_keys_and_shapes(name: str) -> None:
    own = own_state(W_ENCODER[name], "encoder", "decoder")
    assert described(own) == described(schema(name))


def test_generator_has_the_keys_and_shapes_of_rosinality() -> None:
    with torch.device("meta"):
        own = Generator(official_config(256).generator).state_dict()
    assert described(own) == described(schema("stylegan2_rosinality_256"))


@pytest.mark.parametrize("name", HYPERSTYLE)
def test_configs_are_read_off_official_shapes(name: str) -> None:
    state, config = schema(name), HYPERSTYLE[name]
    generator = infer_generator(part(state, "decoder"))
    assert generator == config.generator
    assert infer_hypernetwork(part(state, "hypernet"), generator) == config.hypernetwork


@pytest.mark.parametrize("name", W_ENCODER)
def test_encoder_configs_are_read_off_official_shapes(name: str) -> None:
    assert infer_encoder(part(schema(name), "encoder")) == W_ENCODER[name].encoder


def test_generator_config_is_read_off_a_bare_generator() -> None:
    inferred = infer_generator(schema("stylegan2_rosinality_256"))
    assert inferred == official_config(256).generator


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_are_read_off_small_models(name: str) -> None:
    config = CONFIGS[name]
    state = own_state(config, "encoder", "hypernet", "decoder")
    generator = infer_generator(part(state, "decoder"))
    assert generator == config.generator
    assert infer_encoder(part(state, "encoder")) == config.encoder
    # Without a shared layer nothing tells the width its block would have: the official one stands.
    expected = config.hypernetwork
    if not expected.shared_layers:
        expected = replace(expected, shared_inner=128)
    assert infer_hypernetwork(part(state, "hypernet"), generator) == expected


def tuning(size: int, layers: set[int]) -> State:
    """An official hypernetwork with any `layers_to_tune`: untuned blocks have no keys."""
    tuned = {str(index) for index in layers}
    hypernet = part(schema(f"hyperstyle_{size}_all_layers"), "hypernet")
    return {
        key: tensor
        for key, tensor in hypernet.items()
        if not key.startswith("refinement_blocks.") or key.split(".")[1] in tuned
    }


@pytest.mark.parametrize(
    ("size", "layers"),
    [
        pytest.param(256, (0,), id="first"),
        pytest.param(256, (1, 4), id="to_rgb_only"),
        pytest.param(256, (14, 15, 17, 18), id="no_shared_layer"),
        pytest.param(256, (12, 13, 14), id="one_of_each_kind"),
        pytest.param(256, DEFAULT_TUNED_LAYERS, id="indices_beyond_the_model"),
        pytest.param(1024, (25,), id="last"),
        pytest.param(1024, (0, 1, 24, 25), id="both_ends"),
    ],
)
def test_any_list_of_tuned_layers_is_recognised(size: int, layers: tuple[int, ...]) -> None:
    config = official_config(size, layers)
    inferred = infer_hypernetwork(tuning(size, set(layers)), config.generator)
    assert inferred == config.hypernetwork


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.sets(st.integers(0, 19), min_size=1))
def test_every_set_of_tuned_layers_is_recognised(layers: set[int]) -> None:
    config = official_config(256, tuple(sorted(layers)))
    assert infer_hypernetwork(tuning(256, layers), config.generator) == config.hypernetwork


def reshaped(key: str, *shape: int) -> Callable[[State], None]:
    """Replace (or add) a tensor."""
    return lambda state: state.update({key: torch.empty(shape, device="meta")})


def without(prefix: str) -> Callable[[State], None]:
    """Remove all tensors under a prefix."""

    def remove(state: State) -> None:
        removed = [key for key in state if key.startswith(prefix)]
        assert removed
        for key in removed:
            del state[key]

    return remove


REFUSED: dict[str, tuple[Callable[[State], None], str]] = {
    "generator_without_first_layer": (without("decoder.conv1"), "no 'conv1.conv.weight'"),
    "generator_of_4_px": (without("decoder.convs."), "no 'convs.0.conv.weight'"),
    "generator_kernel_not_modulated": (
        reshaped("decoder.conv1.conv.weight", 512, 512, 3, 3),
        r"'conv1.conv.weight' .* shape \(512, 512, 3, 3\), expected 5 dimensions",
    ),
    "generator_up_kernel_a_vector": (
        reshaped("decoder.convs.2.conv.weight", 512),
        "'convs.2.conv.weight' .* expected 5 dimensions",
    ),
    "hypernet_of_one_picture": (
        reshaped("hypernet.conv1.weight", 64, 3, 7, 7),
        r"reads 3 channels, .*\(6\)",
    ),
    "hypernet_without_blocks": (without("hypernet.refinement_blocks."), "no refinement blocks"),
    "hypernet_without_body": (without("hypernet.body."), "no 'body.0.conv1.weight'"),
    "hypernet_of_a_larger_generator": (
        reshaped("hypernet.refinement_blocks.20.convs.0.weight", 256, 512, 3, 3),
        "block 'refinement_blocks.20', but the generator's layers are 0 to 19",
    ),
    "block_of_no_number": (
        reshaped("hypernet.refinement_blocks.x.convs.0.weight", 256, 512, 3, 3),
        "block 'refinement_blocks.x'",
    ),
    "block_without_convolutions": (
        without("hypernet.refinement_blocks.14.convs."),
        "no 'refinement_blocks.14.convs.0.weight'",
    ),
    "block_without_output": (
        without("hypernet.refinement_blocks.14.output."),
        "no 'refinement_blocks.14.output.1.weight'",
    ),
    "code_widths_differ": (
        reshaped("hypernet.refinement_blocks.0.linear.weight", 256, 256),
        "code widths differ",
    ),
    "shared_layers_of_two_shapes": (
        reshaped("hypernet.refinement_blocks.14.linear.weight", 512, 512),
        r"share a hypernetwork.*\(256, 512, 3, 3\), \(512, 512, 3, 3\)",
    ),
    "restyle_encoder": (
        reshaped("encoder.input_layer.0.weight", 64, 6, 3, 3),
        "reads 6 channels .*ReStyle",
    ),
    "encoder_without_body": (without("encoder.body."), "no 'body.0.res_layer.1.weight'"),
    "encoder_without_squeeze": (
        without("encoder.body.0.res_layer.5."),
        "no 'body.0.res_layer.5.fc1.weight'",
    ),
    "encoder_without_head": (without("encoder.linear."), "no 'linear.weight'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_layouts_are_refused_by_name(case: str) -> None:
    alter, message = REFUSED[case]
    state = schema("hyperstyle_256") | schema("w_encoder_256")
    alter(state)
    with pytest.raises(LayoutError, match=message):
        generator = infer_generator(part(state, "decoder"))
        infer_hypernetwork(part(state, "hypernet"), generator)
        infer_encoder(part(state, "encoder"))


def test_a_shared_to_rgb_layer_is_refused() -> None:
    state = tuning(256, {1})
    state["refinement_blocks.1.linear.weight"] = torch.empty(512, 512, device="meta")
    with pytest.raises(LayoutError, match=r"share a hypernetwork.*\(3, 512, 1, 1\)"):
        infer_hypernetwork(state, official_config(256).generator)
