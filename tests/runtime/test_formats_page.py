"""docs/formats.md says what the code does: its tables and limits are those of the formats."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from attacks import inversions, manifests
from hyperstyle_rt.formats import (
    bundle,
    directions_file,
    fit,
    inversion_file,
    manifest,
    manifest_entries,
    methods,
    optional_inputs,
    parametric_inputs,
)
from hyperstyle_rt.formats.directions_file import serialize_directions
from hyperstyle_rt.formats.inversion_file import parse_inversion, serialize_inversion
from hyperstyle_rt.formats.tensors import parse
from test_directions import DIRECTIONS

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
SCHEMA = json.loads(
    (Path(manifest.__file__).parent / "manifest.schema.json").read_text(encoding="utf-8")
)


def table(first: str) -> list[list[str]]:
    """Rows of the table whose first column has this title, without back ticks."""
    lines = PAGE[PAGE.index(f"\n| {first} |") :].split("\n\n")[0].strip().splitlines()
    return [
        [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines[2:]
    ]


def test_fields_of_the_manifest_are_the_schemas() -> None:
    documented = {name: required == "yes" for name, required, _ in table("field")}
    assert set(documented) == set(SCHEMA["properties"])
    assert {name for name, required in documented.items() if required} == set(SCHEMA["required"])


def test_every_field_the_manifest_writes_is_documented() -> None:
    """A manifest with everything in it: the writer knows no field the page does not."""
    document = manifests.edited(("plans",), {"k": {}})
    document["precisions"] = {"fp16": {}}
    document["graphs"]["styled_generator"] = document["graphs"]["generator"]
    document["optional_inputs"] = {"styles": [], "noise": []}
    for role in ("parametric_generator", "parameters"):
        document["graphs"][role] = document["graphs"]["generator"]
    document["parametric_inputs"] = {
        "parameters": [],
        "feature": {"layer": "convs.3", "shape": [8, 16, 16]},
    }
    document["objective"] = {"perceptual": "encoder", "weight": 0.25}
    document["graphs"]["features"] = document["graphs"]["generator"]
    document["then"] = "refine"
    row = {"l2": [0.1], "perceptual": [0.2]}
    measured = {"pictures": 2, "quantiles": [0.5]}
    document["fit"] = {**measured, "iterations": [row], "then": row}
    written = set(manifest.Manifest.from_json(document).to_json())
    names = {name for name, *_ in table("field")}
    assert names - written == {"base"}  # excludes methods
    assert written <= names


def test_parts_of_the_fields_are_the_schemas() -> None:
    values = {name: value for name, _, value in table("field")}
    for name, parts in {
        "codes": SCHEMA["properties"]["codes"]["required"],
        "tuned_layers": SCHEMA["properties"]["tuned_layers"]["items"]["required"],
        "graphs": SCHEMA["$defs"]["graphs"]["additionalProperties"]["properties"],
        "precisions": SCHEMA["$defs"]["graphs"]["additionalProperties"]["properties"],
        "files": SCHEMA["$defs"]["files"]["additionalProperties"]["required"],
        "plans": SCHEMA["$defs"]["files"]["additionalProperties"]["required"],
        "base": SCHEMA["properties"]["base"]["required"],
        "methods": ["phases", "graph", "repeat"],
        "optional_inputs": ["styles", "noise", "name", "width", "side"],
        "parametric_inputs": ["parameters", "name", "shape", "feature", "layer"],
        "objective": ["perceptual", "weight"],
        "fit": [
            *("pictures", "quantiles", "iterations", "then"),
            *("l2", "perceptual"),
        ],
    }.items():
        assert set(re.findall(r'"(\w+)"', values[name])) == set(parts), name


@pytest.fixture(scope="module")
def full() -> inversion_file.InversionData:
    """An inversion with everything a file can hold."""
    data = parse_inversion(inversions.GOOD)
    halves = {
        name: np.zeros((4,) * axes, np.float16) for name, axes in inversion_file.HALVES.items()
    }
    return replace(data, picture=inversions.DIGEST, **halves)


def test_entries_and_tensors_of_inversion_files(full: inversion_file.InversionData) -> None:
    nothing = dict.fromkeys((*inversion_file.NEEDS, "code_space", "picture"))
    bare = replace(full, **nothing)
    same_rows = np.zeros_like(full.latents)
    files = [parse(serialize_inversion(data)) for data in (full, replace(full, latents=same_rows))]
    entries = {name: required == "yes" for name, required, _ in table("entry")}
    assert set(entries) == set(files[0].metadata)
    required = {name for name, is_required in entries.items() if is_required}
    assert required == set(parse(serialize_inversion(bare)).metadata)
    for name in required:
        with pytest.raises(inversion_file.InversionError):
            parse_inversion(inversions.metadata(**{name: inversions.REMOVED}))
    assert {name for name, *_ in table("tensor")} == {n for file in files for n in file.tensors}


def test_kinds_of_directions() -> None:
    file = parse(serialize_directions(DIRECTIONS))
    facts: dict[str, set[str]] = {}
    tensors: dict[str, set[str]] = {}
    for name in DIRECTIONS:
        entry = json.loads(file.metadata[f"direction.{name}"])
        kind = entry.pop("kind")
        facts.setdefault(kind, set()).update(entry)
        parts = {tensor.split(".")[1] for tensor in file.tensors if tensor.startswith(f"{name}.")}
        tensors.setdefault(kind, set()).update(parts)
    rows = table("kind")
    assert {kind for kind, *_ in rows} == set(facts)
    for kind, said, of_tensors in rows:
        assert set(re.findall(r"\w+", said)) | {"unit"} == facts[kind], kind
        assert set(re.findall(r"<name>\.(\w+)", of_tensors)) == tensors[kind], kind


LIMITS = {
    "`manifest.json` of at most 1,048,576 bytes": bundle.MAX_MANIFEST_SIZE == 1_048_576,
    "`2` |": manifest.VERSION == 2,
    "1 to 4096: side of the square": manifest.MAX_SIDE == 4096,
    "L, integer 1 to 4096": manifest.MAX_LATENTS == inversion_file.MAX_LATENTS == 4096,
    "W, integer 1 to 65536": manifest_entries.MAX_WIDTH == 65536,
    "1 to 32\nphases": methods.MAX_PHASES == 32,
    "`repeat` is 1 to 100": methods.MAX_ITERATIONS == 100,
    "`width` is 1 to\n65536": optional_inputs.MAX_CHANNELS == 65536,
    "a row each, 1 to 128": fit.MAX_ROWS == 128,
    "`quantiles` are 1 to 32 numbers from 0 to 1": fit.MAX_QUANTILES == 32,
    "`side` 1 to 4096": optional_inputs.MAX_NOISE_SIDE == 4096,
    "1 to 5 lengths of 1 to 65536": parametric_inputs.MAX_AXES == 5,
    "at most 134,217,728 numbers": parametric_inputs.MAX_PARAMETERS == 134_217_728,
    "above 0, up to 1,000,000": parametric_inputs.MAX_WEIGHT == 1_000_000,
    "at most 134,217,728 bytes": inversion_file.MAX_FILE_SIZE == 134_217_728,
    "`3` |": inversion_file.VERSION == "3",
    "at most 65,536 characters": inversion_file.MAX_METADATA == 65_536,
    "may list `codes`, `channel_offsets`, `noise`, `weights` and `features`": inversion_file.NEEDS
    == ("codes", "channel_offsets", "noise", "weights", "features"),
    "at most 268,435,456 bytes": directions_file.MAX_FILE_SIZE == 268_435_456,
    "`version`, `1`": directions_file.VERSION == "1",
}


@pytest.mark.parametrize("said", LIMITS)
def test_limits_are_the_codes(said: str) -> None:
    assert said in PAGE
    assert LIMITS[said]


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert targets
    for target in targets:
        assert (Path(__file__).parents[2] / "docs" / target).exists(), target
