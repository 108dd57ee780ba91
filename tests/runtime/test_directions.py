"""Files of directions: what is written is read back, and nothing else is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hyperstyle_rt import Bundle
from hyperstyle_rt.errors import BundleError, EditError
from hyperstyle_rt.formats.directions_file import (
    ComponentDirection,
    Direction,
    LinearDirection,
    StyleDirection,
    bundle_directions,
    parse_directions,
    serialize_directions,
)
from hyperstyle_rt.formats.manifest import Manifest
from hyperstyle_rt.formats.tensors import parse, serialize


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


DIRECTIONS: dict[str, Direction] = {
    "smile": LinearDirection(normal(0, 16), (0, 8), 0.5, "half a smile"),
    "pose": LinearDirection(normal(1, 8, 16), (0, 4), 2.0),
    "cube": ComponentDirection(normal(2, 16), normal(3, 16), 1.5, 25.0, (3, 6)),
    "blond": StyleDirection(normal(4, 148), 3.0, "fairer"),
}


@pytest.fixture(scope="module")
def manifest(tiny_bundle: Path) -> Manifest:
    return Bundle.open(tiny_bundle).manifest


def test_directions_are_read_back(manifest: Manifest) -> None:
    data = serialize_directions(DIRECTIONS)
    assert data == serialize_directions(dict(reversed(DIRECTIONS.items())))
    found = parse_directions(data, manifest)
    assert list(found) == sorted(DIRECTIONS)
    for name, direction in DIRECTIONS.items():
        assert type(found[name]) is type(direction)
        for field, value in vars(direction).items():
            assert np.array_equal(getattr(found[name], field), value), (name, field)


def test_a_bundle_without_directions_has_none(tiny_bundle: Path) -> None:
    assert bundle_directions(Bundle.open(tiny_bundle)) == {}


def test_directions_do_not_change_the_space(tiny_bundle: Path, edit_bundle: Path) -> None:
    bundle = Bundle.open(edit_bundle)
    bundle.verify()
    assert bundle.manifest.space == Bundle.open(tiny_bundle).manifest.space
    assert set(bundle_directions(bundle)) == {"smile", "pose", "cube", "blond"}


def test_altered_directions_are_refused(edit_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "altered"
    shutil.copytree(edit_bundle, copy)
    path = copy / "directions.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"directions\.safetensors is altered"):
        bundle_directions(Bundle.open(copy))


# Facts of the direction smile that are replaced, and what the refusal says.
WRONG_FACTS = {
    "kind": ("quadratic", "unknown kind 'quadratic'"),
    "unit": (None, "has no unit"),
    "scale": (True, "has no number scale"),
    "rows": ([0, 9], r"rows within the 8 of the latents, not \[0, 9\]"),
}


@pytest.mark.parametrize("fact", WRONG_FACTS)
def test_wrong_facts_are_refused(fact: str, manifest: Manifest) -> None:
    value, says = WRONG_FACTS[fact]
    file = parse(serialize_directions({"smile": DIRECTIONS["smile"]}))
    facts = json.loads(file.metadata["direction.smile"]) | {fact: value}
    file.metadata["direction.smile"] = json.dumps(facts)
    with pytest.raises(EditError, match=f"the direction 'smile' .*{says}.*; convert"):
        parse_directions(serialize(file.tensors, file.metadata), manifest)


@pytest.mark.parametrize("rows", [None, [1], ["0", 8], [3, 3], [-1, 2], [True, 3]])
def test_wrong_rows_are_refused(rows: object, manifest: Manifest) -> None:
    file = parse(serialize_directions({"smile": DIRECTIONS["smile"]}))
    facts = json.loads(file.metadata["direction.smile"]) | {"rows": rows}
    file.metadata["direction.smile"] = json.dumps(facts)
    with pytest.raises(EditError, match="rows"):
        parse_directions(serialize(file.tensors, file.metadata), manifest)


@pytest.mark.parametrize(
    "tensor",
    [np.ones(17, np.float32), np.ones(16), np.full(16, np.nan, np.float32), None],
    ids=["shape", "type", "nan", "missing"],
)
def test_wrong_tensors_are_refused(tensor: np.ndarray | None, manifest: Manifest) -> None:
    file = parse(serialize_directions({"smile": DIRECTIONS["smile"]}))
    tensors = {"other": normal(5, 2)} if tensor is None else {"smile.vector": tensor}
    with pytest.raises(EditError, match=r"the direction 'smile' .*vector"):
        parse_directions(serialize(tensors, file.metadata), manifest)


def test_a_deviation_of_zero_is_refused(manifest: Manifest) -> None:
    cube = ComponentDirection(normal(2, 16), normal(3, 16), 0.0, 25.0, (3, 6))
    with pytest.raises(EditError, match="deviation that is not positive"):
        parse_directions(serialize_directions({"cube": cube}), manifest)


@pytest.mark.parametrize(
    "data",
    [b"", b"junk", serialize({"x": normal(0, 1)}, {}), serialize({}, {"format": "other"})],
    ids=["empty", "junk", "no metadata", "another format"],
)
def test_other_files_are_refused(data: bytes, manifest: Manifest) -> None:
    with pytest.raises(EditError, match="convert the directions again"):
        parse_directions(data, manifest)


def test_names_are_plain() -> None:
    with pytest.raises(EditError, match=r"cannot be named '\.\./smile'"):
        serialize_directions({"../smile": DIRECTIONS["smile"]})


def test_styles_need_a_generator_that_takes_them(manifest: Manifest) -> None:
    document = manifest.to_json()
    del document["optional_inputs"]
    document.pop("parametric_inputs", None)
    for role in ("styled_generator", "noise", "parameters", "parametric_generator"):
        document["graphs"].pop(role, None)
    data = serialize_directions({"blond": DIRECTIONS["blond"]})
    with pytest.raises(EditError, match="changes styles, which this bundle's generator cannot"):
        parse_directions(data, Manifest.from_json(document))
